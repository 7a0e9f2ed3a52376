"""How often does a model score a real line higher than a damaged copy of it?

Takes lines of a run's own validation split, damages each in four ways, several times, and counts how often the
real line gets the higher score, by every measure that `charlm score` offers. A Kneser-Ney n-gram model that has
counted the lines of the same training split judges the same pairs for comparison. A tie counts as wrong. The
intervals are Wilson's at 95%, which treats the damaged copies of one line as independent.

    python benchmarks/damaged_lines.py RUN [--lines 1000] [--times 10] [--shortest 20] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable

import numpy as np

import charlm
from charlm.experts.ngram import NgramModel
from charlm.ranking.minimal_pairs import wilson
from charlm.scoring.measures import CharacterScore, Measure, Score
from charlm.text.vocabulary import Ids, Vocabulary

UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # what an unknown character decodes to; lines with one are left out
Damage = Callable[[str], str | None]  # None where the line cannot be damaged in this way


class Damages:
    """Ways to damage a line. Every position of the line, its start and end included, is equally likely.

    Args:
        characters: the corpus, from which replacements are drawn.
        rng: the source of randomness.
    """

    def __init__(self, characters: str, rng: random.Random) -> None:
        self._characters = characters
        self._rng = rng

    def two_characters_swapped(self, line: str) -> str | None:
        """Swaps two adjacent characters that differ."""
        places = [i for i in range(len(line) - 1) if line[i] != line[i + 1]]
        if not places:
            return None
        i = self._rng.choice(places)
        return line[:i] + line[i + 1] + line[i] + line[i + 2 :]

    def one_character_replaced(self, line: str) -> str | None:
        """Replaces a character by a different one, drawn from the corpus."""
        i = self._rng.randrange(len(line))
        other = line[i]
        while other == line[i]:
            other = self._rng.choice(self._characters)
        return line[:i] + other + line[i + 1 :]

    def two_words_swapped(self, line: str) -> str | None:
        """Swaps two words that differ, adjacent or not."""
        words = line.split(" ")
        pairs = [(i, j) for j in range(len(words)) for i in range(j) if words[i] != words[j]]
        if not pairs:
            return None
        i, j = self._rng.choice(pairs)
        words[i], words[j] = words[j], words[i]
        return " ".join(words)

    def one_word_dropped(self, line: str) -> str | None:
        """Drops a word and the space next to it."""
        words = line.split(" ")
        if len(words) < 2:
            return None
        del words[self._rng.randrange(len(words))]
        return " ".join(words)


class NgramScorer:
    """Scores lines with an n-gram model of the lines of a training split.

    Args:
        vocabulary: the vocabulary of the run.
        train: ids of its training split, counted line by line even in stream framing, since lines are scored.
    """

    def __init__(self, vocabulary: Vocabulary, train: Ids) -> None:
        self._vocabulary = vocabulary
        boundary = vocabulary.boundary_id
        lines = np.split(train, np.flatnonzero(train == boundary) + 1)[:-1]
        self._model = NgramModel(lines, len(vocabulary), boundary)

    def score(self, lines: list[str]) -> list[Score]:
        end = np.array([self._vocabulary.boundary_id], np.int32)
        ids = [np.append(self._vocabulary.encode_sentence(line), end) for line in lines]
        unigram = self._vocabulary.unigram_log_probs
        return [
            Score.of(
                line,
                [CharacterScore("", float(p), False) for p in log_probs],
                characters=len(line),
                n=len(line_ids),
                logprob=float(log_probs.sum()),
                unigram=float(unigram[line_ids].sum()),
            )
            for line, line_ids, log_probs in zip(lines, ids, self._model.sequence_log_probs(ids), strict=True)
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run folder")
    parser.add_argument("--lines", type=int, default=1000, help="how many lines are damaged")
    parser.add_argument("--times", type=int, default=10, help="how many times each line is damaged in each way")
    parser.add_argument("--shortest", type=int, default=20, help="the fewest characters that a line must have")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        lm = charlm.load(options.run)
        corpus = lm.corpus()
    except charlm.InputError as error:
        parser.error(str(error))
    held_out = lm.vocabulary.decode(corpus.validation.ids)
    if lm.vocabulary.framing == "stream":
        held_out = held_out[held_out.find("\n") + 1 :]  # the split may begin in the middle of a line
    rng = random.Random(options.seed)
    lines = [line for line in held_out.split("\n") if len(line) >= options.shortest and UNKNOWN not in line]
    if not lines:
        parser.error(
            f"{options.run}: no held-out line has {options.shortest} known characters or more; lower --shortest"
        )
    lines = rng.sample(lines, min(options.lines, len(lines)))
    damages = Damages(lm.vocabulary.decode(corpus.train.ids).replace("\n", ""), rng)
    scorers = {"model": lm, "n-grams": NgramScorer(lm.vocabulary, corpus.train.ids)}

    print(f"| damage | pairs | scorer | {' | '.join(Measure)} |")
    print("|---|---|---|" + "---|" * len(Measure))
    kinds: list[Damage] = [
        damages.two_characters_swapped,
        damages.one_character_replaced,
        damages.two_words_swapped,
        damages.one_word_dropped,
    ]
    for damage in kinds:
        pairs = [(line, copy) for _ in range(options.times) for line in lines if (copy := damage(line)) is not None]
        if not pairs:
            continue  # no words in this script
        real, damaged = map(list, zip(*pairs, strict=True))
        name = damage.__name__.replace("_", " ")
        for scorer, model in scorers.items():
            scores = list(zip(model.score(real), model.score(damaged), strict=True))
            cells = []
            for measure in Measure:
                right = sum(a.measure(measure) > b.measure(measure) for a, b in scores)
                low, high = wilson(right, len(scores))
                cells.append(f"{right / len(scores):.2%} ({100 * low:.1f}-{100 * high:.1f})")
            print(f"| {name} | {len(scores):,} | {scorer} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
