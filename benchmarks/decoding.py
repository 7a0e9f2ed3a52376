"""How much does a character model help a recogniser? Noisy output of held-out lines, decoded with and without one.

Each line is turned into what a CTC recogniser might say of it: log-probabilities of each character beside up to 30
others, drawn by their frequency, with Gaussian noise, and a blank after each. A blank may also look likely where a
character is, and a character where a blank is. Every decoder gets the same frames. The weight of a language model
is the best of four on ten other lines; the bonus of a character is this weight times what a character costs the
model on these lines, in nats.

charlm is trained on the first nine tenths of a corpus, each line by itself; KenLM is given the n-grams of its very
training split, of order 6 (the longest that its package is built for), as an ARPA file that charlm's own counts are
written to: modified Kneser-Ney, as `lmplz` makes it, without pruning. The error rate is that of characters: edit
distance over length, in per cent; the time is that of the processor, for one line.

    python benchmarks/decoding.py TEXT… [--budget "2 epochs"] [--lines 40] [--beams 20]

Decoders that are not installed are left out: pip install 'charlm[decoders]' kenlm; see
docs/explanation/decoders.md.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import charlm
from arpa import count, write_arpa
from measure import print_table

Frames = NDArray[np.float32]
Decode = Callable[[Frames], str]
BLANK, SPACE = "", "|"
CANDIDATES = 30
MARGIN, NOISE = 5.5, 1.5  # of the right character's logit
BLANKS = 4.0  # how clear a blank is, and a character that is none
DEVELOPMENT_LINES = 10
WEIGHTS = (0.15, 0.3, 0.6, 0.9)
KENLM_ORDER = 6
LENGTHS = range(7, 46)  # of the lines


class Way(NamedTuple):
    """A language model in a decoder.

    Attributes:
        name: for people.
        make: makes a decoder with a weight and a bonus for each character, both for nats.
        nats_per_character: what a character costs the language model; None: there is none.
    """

    name: str
    make: Callable[[float, float], Decode]
    nats_per_character: float | None


def noisy_frames(text: str, labels: Sequence[str], p: NDArray[np.float64], rng: np.random.Generator) -> Frames:
    """Returns log-probabilities, shape (2 characters, labels), the blank last."""
    logits = np.full((2 * len(text), len(labels)), -30.0)
    for place, char in enumerate(text):
        candidates = np.unique(rng.choice(len(p), CANDIDATES, p=p))
        right = labels.index(char)
        for row in (2 * place, 2 * place + 1):
            logits[row, candidates] = rng.normal(0, NOISE, len(candidates))
        logits[2 * place, right] = rng.normal(MARGIN, NOISE)
        logits[2 * place, -1] = rng.normal(0, NOISE)
        logits[2 * place + 1, -1] = rng.normal(BLANKS, NOISE)
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    return logits.astype(np.float32)


def edit_distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, char in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (char != other))
    return row[-1]


def error_rate(decode: Decode, frames: Sequence[Frames], lines: Sequence[str]) -> float:
    wrong = sum(edit_distance(decode(each), line) for each, line in zip(frames, lines, strict=True))
    return 100 * wrong / sum(map(len, lines))


def collapse(path: Sequence[int], labels: Sequence[str]) -> str:
    """Returns the text of a path through the frames: repetitions are one, blanks nothing."""
    return "".join(labels[b] for a, b in zip([-1, *path], path, strict=False) if a != b)


def greedy(labels: Sequence[str]) -> Decode:
    return lambda frames: collapse(frames.argmax(1).tolist(), labels)


def kenlm_in_pyctcdecode(arpa: Path, labels: Sequence[str], beams: int) -> Callable[[float, float], Decode]:
    """A KenLM of characters: each is a word of an alphabet in BPE style, which writes no spaces."""
    import kenlm
    from pyctcdecode.alphabet import Alphabet
    from pyctcdecode.decoder import BeamSearchDecoderCTC
    from pyctcdecode.language_model import LanguageModel

    tokens = [SPACE if label == " " else label for label in labels]
    alphabet = Alphabet([f"▁{token}" if token else token for token in tokens], True)
    model = kenlm.Model(str(arpa))

    def make(weight: float, bonus: float) -> Decode:
        scorer = LanguageModel(model, [token for token in tokens if token], alpha=weight, beta=bonus)
        decoder = BeamSearchDecoderCTC(alphabet, scorer)
        return lambda frames: decoder.decode(frames, beam_width=beams).replace(" ", "").replace(SPACE, " ")

    return make


def charlm_in_pyctcdecode(
    lm: charlm.LanguageModel, labels: Sequence[str], beams: int, *, in_context: bool
) -> Callable[[float, float], Decode]:
    from pyctcdecode.alphabet import Alphabet
    from pyctcdecode.decoder import BeamSearchDecoderCTC

    from charlm.decoders.pyctcdecode import BeamSearchDecoder, Scorer

    kind = BeamSearchDecoder if in_context else BeamSearchDecoderCTC

    def make(weight: float, bonus: float) -> Decode:
        decoder = kind(Alphabet(list(labels), False), Scorer(lm, alpha=weight, beta=bonus))
        return lambda frames: str(decoder.decode(frames, beam_width=beams))

    return make


def flashlight(model: Any, labels: Sequence[str], beams: int, nats: float) -> Callable[[float, float], Decode]:
    """A language model in flashlight-text, whose units are so many nats."""
    from flashlight.lib.text.decoder import CriterionType, LexiconFreeDecoder, LexiconFreeDecoderOptions

    space = labels.index(" ") if " " in labels else -1

    def make(weight: float, bonus: float) -> Decode:
        options = LexiconFreeDecoderOptions(beams, CANDIDATES, 20.0, weight * nats, 0.0, True, CriterionType.CTC)
        decoder = LexiconFreeDecoder(options, model, space, len(labels) - 1, [])

        def decode(frames: Frames) -> str:
            frames = frames + np.float32(
                bonus
            )  # it has no bonus for a character, so each frame without a blank has
            frames[:, -1] -= bonus
            best = decoder.decode(np.ascontiguousarray(frames).ctypes.data, *frames.shape)[0]
            return collapse(best.tokens, labels).strip()

        return decode

    return make


def ways(
    lm: charlm.LanguageModel, labels: Sequence[str], lines: Sequence[str], beams: int, folder: Path
) -> list[Way]:
    """Returns all ways for which the packages are installed."""
    vocabulary = lm.vocabulary
    ngrams = count(lm, KENLM_ORDER)
    arpa = folder / "characters.arpa"
    write_arpa(ngrams, vocabulary, arpa, space=SPACE)
    ids = [np.append(vocabulary.encode(line), vocabulary.boundary_id) for line in lines]
    kenlm_nats = -float(np.concatenate(ngrams.sequence_log_probs(ids)).mean())
    scores = lm.score(lines)
    charlm_nats = -sum(score.logprob for score in scores) / sum(score.n for score in scores)
    tokens = [SPACE if label == " " else label or "<blank>" for label in labels]

    def kenlm_in_flashlight() -> Callable[[float, float], Decode]:
        from flashlight.lib.text.decoder.kenlm import KenLM
        from flashlight.lib.text.dictionary import Dictionary

        return flashlight(KenLM(str(arpa), Dictionary(tokens)), labels, beams, math.log(10))

    def charlm_in_flashlight() -> Callable[[float, float], Decode]:
        from charlm.decoders.flashlight import CharacterLM

        return flashlight(CharacterLM(lm, tokens, space=SPACE), labels, beams, 1.0)

    made: list[tuple[str, Callable[[], Callable[[float, float], Decode]], float | None]] = [
        ("no language model, likeliest path", lambda: lambda weight, bonus: greedy(labels), None),
        ("KenLM in flashlight-text", kenlm_in_flashlight, kenlm_nats),
        ("charlm in flashlight-text", charlm_in_flashlight, charlm_nats),
        ("KenLM in pyctcdecode", lambda: kenlm_in_pyctcdecode(arpa, labels, beams), kenlm_nats),
        (
            "charlm in pyctcdecode's decoder",
            lambda: charlm_in_pyctcdecode(lm, labels, beams, in_context=False),
            charlm_nats,
        ),
        (
            "charlm in pyctcdecode, half words in context",
            lambda: charlm_in_pyctcdecode(lm, labels, beams, in_context=True),
            charlm_nats,
        ),
    ]
    found = []
    for name, make, nats in made:
        try:
            found.append(Way(name, make(), nats))
        except (ImportError, charlm.InputError) as error:
            print(f"{name}: left out ({error})")
    return found


def measure(path: Path, budget: str, lines: int, beams: int) -> None:
    rng = np.random.default_rng(1)
    text = path.read_text(encoding="utf-8").split("\n")
    cut = len(text) * 9 // 10
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus.txt"
        corpus.write_text("\n".join(text[:cut]) + "\n", encoding="utf-8")
        lm = charlm.train(corpus=corpus, budget=budget, out=folder / "run", overrides={"corpus.framing": "lines"})
        labels = [char for char in lm.vocabulary.characters if char != "\n"] + [BLANK]
        held_out = [line for line in text[cut:] if len(line) in LENGTHS and set(line) <= set(labels)]
        rng.shuffle(held_out)
        chosen = held_out[: DEVELOPMENT_LINES + lines]
        counts = dict(zip(lm.vocabulary.symbols, lm.vocabulary.counts, strict=True))
        p = np.array([counts[label] for label in labels[:-1]], np.float64)
        frames = [noisy_frames(line, labels, p / p.sum(), rng) for line in chosen]
        development = slice(0, DEVELOPMENT_LINES)
        test = slice(DEVELOPMENT_LINES, None)
        print(f"\n{path.name}: {lines} held-out lines, {sum(map(len, chosen[test]))} characters\n")
        rows = [["decoded with", "errors", "nats", "weight", "a line"]]
        for way in ways(lm, labels, chosen[development], beams, folder):
            weight, decode = 0.0, way.make(0.0, 0.0)
            if way.nats_per_character is not None:
                tuned = {}
                for weight in WEIGHTS:
                    decode = way.make(weight, weight * way.nats_per_character)
                    tuned[weight] = error_rate(decode, frames[development], chosen[development])
                weight = min(tuned, key=lambda weight: tuned[weight])
                decode = way.make(weight, weight * way.nats_per_character)
            start = time.process_time()
            rate = error_rate(decode, frames[test], chosen[test])
            seconds = (time.process_time() - start) / lines
            nats = "" if way.nats_per_character is None else f"{way.nats_per_character:.2f}"
            rows.append([way.name, f"{rate:.1f}%", nats, f"{weight:g}" if weight else "", f"{seconds:.2f} s"])
            print(*rows[-1], file=sys.stderr)
        print_table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("texts", nargs="+", type=Path, metavar="TEXT")
    parser.add_argument("--budget", default="2 epochs", help="of each training (2 epochs)")
    parser.add_argument("--lines", type=int, default=40, help="to decode (40)")
    parser.add_argument("--beams", type=int, default=20)
    arguments = parser.parse_args()
    logging.getLogger("pyctcdecode").setLevel(logging.ERROR)
    for path in arguments.texts:
        if not path.is_file():
            parser.error(f"{path}: there is no such file; name a text file with one sentence on each line")
        measure(path, arguments.budget, arguments.lines, arguments.beams)


if __name__ == "__main__":
    main()
