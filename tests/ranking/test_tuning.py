"""Tuning: the grid finds what a plain search with sacrebleu's public interface confirms."""

import sys
from collections.abc import Iterable, Sequence

import pytest
import sacrebleu

from charlm.errors import InputError
from charlm.ranking.nbest import Hypothesis, read_groups, reranked, score_groups
from charlm.ranking.tuning import Tuning, tune
from charlm.scoring.measures import Score

REFERENCES = [
    "the river was high in the morning",
    "the boat is old but she will hold",
    "nobody was on the landing",
    "we put the lamp in the window",
]
# The decoder prefers what is short or in another order; the model below, what it has seen.
NBEST = [
    "0 ||| river high in morning ||| ||| -1.0",
    "0 ||| the river in the morning was high ||| ||| -1.5",
    "0 ||| the river was high in the morning ||| ||| -2.0",
    "1 ||| boat old but hold ||| ||| -1.0",
    "1 ||| the boat is old but she will hold ||| ||| -2.5",
    "2 ||| nobody was on the landing ||| ||| -0.7",
    "2 ||| nobody on landing was ||| ||| -0.8",
    "3 ||| we lamp in window ||| ||| -0.5",
    "3 ||| we put the lamp in window the ||| ||| -1.0",
    "3 ||| we put the lamp in the window ||| ||| -1.2",
]
SEEN = {pair for line in REFERENCES for pair in zip(["", *line.split()], [*line.split(), ""], strict=True)}


def score(texts: Sequence[str]) -> Iterable[Score]:
    """-1 for each pair of words that has been seen, -5 for another."""
    for text in texts:
        words = text.split()
        logprob = sum(-1.0 if p in SEEN else -5.0 for p in zip(["", *words], [*words, ""], strict=True))
        yield Score(text, len(text), 0, len(text), logprob, 0.0, 1.0, 0.0, 0.0, 0.0, ())


def groups_of(lines: Sequence[str]) -> list[list[Hypothesis]]:
    return [group for groups in read_groups([lines], "list") for group in groups]


def tuned(
    lines: Sequence[str] = NBEST,
    references: Sequence[Sequence[str]] = (REFERENCES,),
    metric: str = "chrf",
    measure: str = "logprob",
) -> Tuning:
    return tune(groups_of(lines), references, score, metric=metric, measure=measure)


def first_ones(lines: Sequence[str], weight: float, bonus: float) -> list[str]:
    """What comes out on top of each id."""
    groups = score_groups(groups_of(lines), score, "logprob")
    return [reranked(group, weight, bonus)[0].split("|||")[1].strip() for group in groups]


@pytest.mark.parametrize("metric", ["chrf", "bleu", "bleu-zh"])
def test_its_scores_are_those_of_sacrebleu_for_what_rerank_puts_first(metric: str) -> None:
    public = {
        "chrf": sacrebleu.CHRF(),
        "bleu": sacrebleu.BLEU(tokenize="13a"),
        "bleu-zh": sacrebleu.BLEU(tokenize="zh"),
    }[metric]
    result = tuned(metric=metric)
    before = public.corpus_score(first_ones(NBEST, 0.0, 0.0), [REFERENCES])
    after = public.corpus_score(first_ones(NBEST, result.weight, result.length_bonus), [REFERENCES])
    assert result.before == pytest.approx(before.score)
    assert result.after == pytest.approx(after.score)
    assert result.metric == f"{after.name}|{public.get_signature()}"
    assert result.sentences == 4


def test_it_finds_the_references_where_weight_and_bonus_can() -> None:
    result = tuned()
    assert first_ones(NBEST, result.weight, result.length_bonus) == REFERENCES
    assert result.after == pytest.approx(100)
    assert result.before < 60


def test_no_point_of_a_wide_plain_search_is_better() -> None:
    lines = [*NBEST, "2 ||| there was nobody on the landing now ||| ||| -0.6"]
    references = [*REFERENCES[:2], "there was nobody on landing", *REFERENCES[3:]]
    lines.sort(key=lambda line: line.split()[0])
    result = tuned(lines, [references])
    points = [(w / 4, b / 4) for w in range(-1, 13) for b in range(-8, 9)]
    plain = [sacrebleu.CHRF().corpus_score(first_ones(lines, w, b), [references]).score for w, b in points]
    assert result.after >= max(plain) - 1e-9


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_the_scale_of_the_old_totals_does_not_matter(factor: float) -> None:
    scaled = []
    for line in NBEST:
        head, _, total = line.rpartition(" ")
        scaled.append(f"{head} {float(total) * factor}")
    result = tuned(scaled)
    assert result.after == pytest.approx(100)
    assert result.weight == pytest.approx(tuned().weight * factor, rel=1e-3)


def test_a_bonus_alone_makes_up_for_a_decoder_that_likes_it_short() -> None:
    result = tuned(["0 ||| ab ||| ||| -1", "0 ||| abcdef ||| ||| -2"], [["abcdef"]], measure="slor")
    assert result.after == pytest.approx(100)
    assert result.length_bonus > 0.25


def test_where_nothing_helps_the_old_order_stays() -> None:
    lines = [line for line in NBEST if line.split(" ||| ")[1] in REFERENCES]
    result = tuned(lines)
    assert (result.weight, result.length_bonus, result.before, result.after) == (
        0.0,
        0.0,
        *[pytest.approx(100)] * 2,
    )


def test_held_out_each_half_is_ranked_by_what_the_other_chose() -> None:
    result = tuned()
    assert result.held_out is not None
    even, odd = groups_of(NBEST)[::2], groups_of(NBEST)[1::2]
    hypotheses = {}
    for chosen_on, applied_to in ((even, odd), (odd, even)):
        half = tune(chosen_on, [REFERENCES], score, measure="logprob", metric="chrf")
        for group in score_groups(applied_to, score, "logprob"):
            best = reranked(group, half.weight, half.length_bonus)[0].split("|||")
            hypotheses[int(best[0])] = best[1].strip()
    plain = sacrebleu.CHRF().corpus_score([hypotheses[i] for i in range(4)], [REFERENCES])
    assert result.held_out == pytest.approx(plain.score)
    assert tuned(NBEST[:3]).held_out is None  # one sentence has no halves


def test_several_references_count_together_and_ids_may_have_gaps() -> None:
    lines = [line for line in NBEST if line[0] in "03"]
    others = ["", "", "", "we set the lamp in the window"]
    result = tuned(lines, [REFERENCES, others], metric="bleu")
    best = first_ones(lines, result.weight, result.length_bonus)
    references = [[REFERENCES[0], REFERENCES[3]], [others[0], others[3]]]
    assert result.after == pytest.approx(sacrebleu.BLEU().corpus_score(best, references).score)
    assert result.sentences == 2


def test_a_total_of_minus_infinity_is_never_chosen_over_another() -> None:
    result = tuned(["0 ||| ab ||| ||| -inf", "0 ||| ax ||| ||| -2", *NBEST[3:]], [["ab", *REFERENCES[1:]]])
    assert result.after < 100


@pytest.mark.parametrize(
    ("lines", "references", "metric", "said"),
    [
        ([], [REFERENCES], "chrf", "no hypotheses"),
        (NBEST, [REFERENCES[:3]], "chrf", "id 3 has no reference: .* from 0 to 2"),
        (["a ||| b ||| ||| 0"], [REFERENCES], "chrf", "id a has no reference"),
        (["-1 ||| b ||| ||| 0"], [REFERENCES], "chrf", "id -1 has no reference"),
        (NBEST, [REFERENCES, REFERENCES[:2]], "chrf", "same number of lines: 4, 2"),
        (NBEST, [], "chrf", "same number of lines: none"),
        (NBEST, [REFERENCES], "ter", "metric 'ter': must be one of chrf, bleu, bleu-zh"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_is_scored(
    lines: list[str], references: list[list[str]], metric: str, said: str
) -> None:
    def never(texts: Sequence[str]) -> Iterable[Score]:
        raise AssertionError

    with pytest.raises(InputError, match=said):
        tune(groups_of(lines), references, never, measure="logprob", metric=metric)


def test_without_sacrebleu_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(InputError, match=r"pip install 'charlm\[tune\]'"):
        tuned()
