"""What was measured as the sentences, tables and charts of the page; one function for each.

Losses are in nats where they are measured, and in bits on the page.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup

from charlm.analysis.gradient_tables import layer_count, name_in_layer
from charlm.analysis.gradients import GradientReport, NetworkGradients, Quartiles
from charlm.analysis.held_out import HeldOut
from charlm.analysis.learning import Learning, Reference
from charlm.analysis.matches import Match
from charlm.analysis.overlap import OverlapReport
from charlm.analysis.units import UnitFinding
from charlm.report.charts import Chart, Series
from charlm.report.contents import Contents

Rows = Sequence[Sequence[str]]

_SHADES = (1.5, 3.5, 6.5, 10.0)  # bits of surprisal from which each shade begins, in a text in an alphabet
_ALPHABET_BITS = 4.3  # of such a text by the frequencies of its characters alone; where it is more, shades move up
_SECONDS_IN_MINUTES = 180  # of training, from which on its time is given in minutes
_LAGS = (1, 2, 5, 10, 20, 30, 40, 60, 100)  # of the tables
_STYLES = {"validation": 0, "training": 2, "unigram": 3, "n-grams": 1, "network": 4, "mixture": 0}  # of lines
_LONG_RUNS = (3, 5, 10, 15, 20, 30, 50, 80, 120)  # characters: rows of the table of overlaps
_RUNS_SHOWN = 6
_LARGEST_DOT, _SMALLEST_DOT = 9.0, 2.0  # radii in pixels
_BEFORE_MATCH, _AFTER_MATCH = 24, 20  # characters shown around a place in the training text
_BIT = math.log(2)  # in nats


def bits(nats: float) -> str:
    """Formats nats as bits."""
    return f"{nats / _BIT:.2f}"


def percent(log_prob: float) -> str:
    """Formats the logarithm of a probability as a percentage."""
    share = 100 * math.exp(log_prob)
    if not 0.01 <= share < 99.95:
        return (
            "<\N{NO-BREAK SPACE}0.01\N{NO-BREAK SPACE}%"
            if share < 0.01
            else ">\N{NO-BREAK SPACE}99.9\N{NO-BREAK SPACE}%"
        )
    return f"{share:.{2 if share < 1 else 1 if share < 10 or share >= 99 else 0}f}\N{NO-BREAK SPACE}%"


def sentence(words: str) -> str:
    """Returns words with a capital letter in front."""
    return words[:1].upper() + words[1:]


def with_code(text: str) -> Markup:
    """Returns text in which what stands between backticks is code."""
    parts = [
        Markup("<code>{}</code>").format(part) if n % 2 else Markup("{}").format(part)
        for n, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)


def about(count: int) -> str:
    """Formats a large number in words."""
    if count >= 1_000_000:
        return f"{count / 1e6:.3g} million"
    return f"{count / 1000:.3g} thousand" if count >= 10_000 else f"{count:,}"


def duration(seconds: float) -> str:
    """Formats a time in words."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"


# ------------------------------------------------------------------------------------------------ the first screen


def final_nats(contents: Contents) -> float | None:
    """Returns the loss on held-out text; None where there is none."""
    if contents.held_out is not None:
        return contents.held_out.nats
    rows = contents.learning.evaluations if contents.learning else []
    losses = [row["validation_loss"] for row in rows if row["validation_loss"] is not None]
    return min(losses, default=None)


def summary(contents: Contents) -> Markup:
    """Says what the model is and how good it is."""
    rows = contents.learning.evaluations if contents.learning else []
    article = "An" if contents.model[:1] in "AEFHILMNORSX" else "A"
    told = Markup("{} {}").format(article, contents.model)
    if rows:
        told += Markup(", trained on {} characters in {}").format(
            about(rows[-1]["characters"]), duration(rows[-1]["seconds"])
        )
    nats = final_nats(contents)
    if nats is None:
        return told + Markup(". No text was held out to say how good it is.")
    told += Markup(
        ". On text that it has never seen, it needs <strong>{} bits per character</strong>, as if it chose among "
        "{} equally probable characters each time."
    ).format(bits(nats), f"{math.exp(nats):.3g}")
    references = {one.name: one.nats for one in (contents.learning.references if contents.learning else [])}
    unigram = references.get("unigram", contents.unigram_nats)
    told += Markup(" A prediction by the frequency of each character alone needs {} bits").format(bits(unigram))
    if "n-grams" in references:
        told += Markup(", and counting n-grams needs {}").format(bits(references["n-grams"]))
    return told + Markup(".")


def network_note(contents: Contents) -> Markup:
    """Says what of the model is in the page, and what that costs."""
    held_out, network = contents.held_out, contents.network
    cost = ""
    if contents.quantizing_nats is not None:
        change = contents.quantizing_nats
        size = f"{change:+.5f} nats a character" if abs(change) >= 5e-6 else "less than 0.00001 nats a character"
        cost = f", which costs {size} on the held-out text"
    note = Markup("The page contains the weights as {} ({} kB){}. ").format(
        network.format, f"{network.bytes / 1000:,.0f}", cost
    )
    if held_out is not None and len(held_out.experts) > 1:
        note += Markup(
            "The model is a mixture, but its counts are too large for this page, which computes with the network "
            "alone: it needs {} bits per character on the held-out text, and the mixture needs {}. "
        ).format(bits(held_out.expert_nats[0]), bits(held_out.nats))
    elif contents.config.model.mixed_in:
        note += Markup("The model is a mixture, but this page computes with its network alone. ")
    copied = json.loads(network.json)["copied"]
    if copied is None:
        note += Markup("The page does not know the training text, so it cannot mark what is copied from it. ")
    elif copied["falseAlarms"] > 0:
        note += Markup("At about one place in {}, it marks text as copied by mistake. ").format(
            f"{round(1 / copied['falseAlarms'], -2):,.0f}"
        )
    return note


def shade_bounds(unigram_bits: float) -> list[float]:
    """Returns the bits from which each shade begins: among thousands of characters every one is surprising."""
    shift = max(0, round(unigram_bits - _ALPHABET_BITS))
    return [bound + shift for bound in _SHADES]


def shade_names(bounds: Sequence[float]) -> list[tuple[str, str]]:
    """Returns the ends of each shade in bits."""
    ends = ["0", *(f"{bound:g}" for bound in bounds), ""]
    return list(pairwise(ends))


# -------------------------------------------------------------------------------------------------- several runs

COMPARISON_HEAD = ("Model", "Bits", "Network alone", "Weights", "Characters learnt from", "Time", "What it is")


def comparison_row(contents: Contents) -> list[str]:
    """Returns a run as a row."""
    rows = contents.learning.evaluations if contents.learning else []
    nats, held_out = final_nats(contents), contents.held_out
    return [
        contents.name,
        "–" if nats is None else bits(nats),
        bits(held_out.expert_nats[0]) if held_out else "–",
        f"{contents.parameters:,}",
        f"{rows[-1]['characters']:,}" if rows else "–",
        duration(rows[-1]["seconds"]) if rows else "–",
        f"{contents.model}, on {contents.corpus}",
    ]


# ------------------------------------------------------------------------------------------------ 2 how it learnt

EVALUATION_HEAD = (
    "Step", "Characters", "Seconds", "Training, bits", "Validation, bits", "Learning rate", "Gradient norm",
)  # fmt: skip


def evaluation_rows(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Returns all evaluations as rows."""
    return [
        [
            f"{row['step']:,}",
            f"{row['characters']:,}",
            f"{row['seconds']:.1f}",
            bits(row["train_loss"]),
            "–" if row["validation_loss"] is None else bits(row["validation_loss"]),
            f"{row['learning_rate']:.2e}",
            f"{row['gradient_norm']:.3f}",
        ]
        for row in rows
    ]


def learning_charts(rows: Sequence[dict[str, Any]], references: Sequence[Reference]) -> list[Chart]:
    """Draws the loss against characters and time, the learning rate and the norm of the gradient."""
    if not rows:
        return []
    characters = [row["characters"] for row in rows]
    in_minutes = rows[-1]["seconds"] >= _SECONDS_IN_MINUTES
    times = [row["seconds"] / (60 if in_minutes else 1) for row in rows]
    losses = {
        "training": [row["train_loss"] / _BIT for row in rows],
        "validation": [
            math.nan if row["validation_loss"] is None else row["validation_loss"] / _BIT for row in rows
        ],
    }
    levels = [(f"{one.name} {bits(one.nats)}", one.nats / _BIT, _STYLES.get(one.name, 3)) for one in references]
    told = "; ".join(
        f"{name} from {values[0]:.2f} to {values[-1]:.2f} bits"
        for name, values in losses.items()
        if math.isfinite(values[0]) and math.isfinite(values[-1])
    )
    beside = "; ".join(f"{one.name} {bits(one.nats)}" for one in references)
    description = f"{told}. References: {beside}." if beside else f"{told}."

    def loss(title: str, x_label: str, x: Sequence[float]) -> Chart:
        series = [
            Series(f"{name} {values[-1]:.2f}", x, values, _STYLES[name])
            for name, values in losses.items()
            if any(map(math.isfinite, values))
        ]
        return Chart(title, description, x_label, "bits per character", series, levels)

    rates, norms = [row["learning_rate"] for row in rows], [row["gradient_norm"] for row in rows]
    return [
        loss("Loss against characters", "characters learnt from", characters),
        loss("Loss against time", "minutes" if in_minutes else "seconds", times),
        Chart(
            "Learning rate",
            f"From {rates[0]:.2g} to {rates[-1]:.2g}, at most {max(rates):.2g}.",
            "characters learnt from",
            "learning rate",
            [Series("", characters, rates)],
            from_zero=True,
        ),
        Chart(
            "Norm of the gradient",
            f"From {norms[0]:.2g} to {norms[-1]:.2g}, at most {max(norms):.2g}.",
            "characters learnt from",
            "norm before clipping",
            [Series("", characters, norms)],
            from_zero=True,
        ),
    ]


def sample_entries(learning: Learning) -> list[tuple[str, str]]:
    """Returns what was written, and when, in words."""
    by_step = {row["step"]: row for row in learning.evaluations}
    entries = []
    for step, text in learning.samples:
        when = f"step {step:,}"
        if row := by_step.get(step):
            loss = row["train_loss"] if row["validation_loss"] is None else row["validation_loss"]
            when += f", after {row['characters']:,} characters: {bits(loss)} bits per character"
        entries.append((text, when))
    return entries


# ------------------------------------------------------------------------------- 3 where it is good, 4 who knew it

CALIBRATION_HEAD = ("Predicted", "Observed", "Predictions")


def calibration_rows(held_out: HeldOut) -> list[list[str]]:
    """Returns the bins as rows."""
    return [[_share(one.predicted), _share(one.observed), f"{one.count:,}"] for one in held_out.calibration]


def _share(share: float) -> str:
    return f"{100 * share:.3g}\N{NO-BREAK SPACE}%"


def calibration_chart(held_out: HeldOut) -> Chart | None:
    """Draws what was predicted against what was observed, where something was."""
    bins = [one for one in held_out.calibration if one.predicted > 0 and one.observed > 0]
    if not bins:
        return None
    counts = np.log10([max(1, one.count) for one in bins])
    spread = max(1e-9, float(counts.max() - counts.min()))
    sizes = _SMALLEST_DOT + (counts - counts.min()) / spread * (_LARGEST_DOT - _SMALLEST_DOT)
    series = Series("", [b.predicted for b in bins], [b.observed for b in bins], 0, sizes=sizes.tolist())
    description = "; ".join(f"predicted {_share(one.predicted)}, observed {_share(one.observed)}" for one in bins)
    return Chart(
        "Predicted and observed",
        f"{description}.",
        "predicted probability",
        "how often it came",
        [series],
        log_x=True,
        log_y=True,
        diagonal=True,
    )


def expert_names(held_out: HeldOut) -> list[str]:
    """Returns what the page calls the experts."""
    return [{"ngram": "n-grams", "words": "word contexts"}.get(name, name) for name in held_out.experts]


def decided(held_out: HeldOut) -> list[str]:
    """Returns the share of places that each expert decided, and last of those where they agree."""
    counts, places = Counter(place.decided for place in held_out.excerpt), max(1, len(held_out.excerpt))
    return [f"{counts[expert] / places:.0%}" for expert in (*range(len(held_out.experts)), None)]


# ------------------------------------------------------------------------------------------- 5 gradients and memory


def gradient_charts(report: GradientReport) -> list[tuple[Chart, list[str], Rows]]:
    """Draws the plots of `charlm inspect --gradients`, each with a table."""
    states = report.networks["trained"].states
    layers = layer_count(report)
    charts = [
        _quartile_chart(
            report,
            f"Gradient of the loss by the state {name_in_layer(curve.state, curve.layer, layers)}",
            f"lag, in {report.unit}",
            0,
            lambda network, number=number: network.states[number].norms,  # type: ignore[misc]
        )
        for number, curve in enumerate(states)
    ]
    return [
        *charts,
        _quartile_chart(
            report,
            "Connectivity: how much each character moves the prediction",
            f"{report.unit} back",
            1,
            lambda network: network.connectivity,
        ),
    ]


def _quartile_chart(
    report: GradientReport, title: str, x_label: str, first: int, values_of: Callable[[NetworkGradients], Quartiles]
) -> tuple[Chart, list[str], Rows]:
    series, medians = [], {}
    for style, (name, network) in enumerate(report.networks.items()):
        found = values_of(network)
        medians[name] = found.median.tolist()
        x = range(first, first + len(medians[name]))
        band = (found.lower.tolist(), found.upper.tolist()) if style == 0 else ((), ())
        series.append(Series(name, x, medians[name], style, *band))
    last = first + len(medians["trained"]) - 1
    told = "; ".join(
        f"{name}, median {m[0]:.2g} at {first} and {m[-1]:.2g} at {last}" for name, m in medians.items()
    )
    lags = [lag for lag in (0, *_LAGS) if first <= lag < last] + [last]
    rows = [[str(lag), *(f"{m[lag - first]:.2e}" for m in medians.values())] for lag in lags]
    chart = Chart(title, f"{told}.", x_label, "norm", series, log_y=True)
    return chart, ["Lag", *(name.capitalize() for name in medians)], rows


# --------------------------------------------------------------------------------------------------------- 6 units


def above_chance(finding: UnitFinding, value: float) -> float:
    """Returns how far from chance to perfect a value is, from 0 to 1."""
    chance = 0.0 if "correlation" in finding.measure else 0.5
    return min(1.0, max(0.0, (value - chance) / (1 - chance)))


# ------------------------------------------------------------------------------------------- 7 writing or quoting

OVERLAP_HEAD = ("Characters in a row", "Of lines written", "Of held-out lines")


def _share_from(lengths: Any, least: int) -> float:
    """Returns the share of lengths that are at least so long."""
    return float((np.asarray(lengths) >= least).mean()) if len(lengths) else 0.0


def overlap_rows(report: OverlapReport) -> list[list[str]]:
    """Returns which share of lines has a run of at least so many characters."""
    longest = _longest_run(report)
    return [
        [
            f"{least} or more",
            f"{_share_from(report.lengths, least):.1%}",
            f"{_share_from(report.held_out_lengths, least):.1%}",
        ]
        for least in [least for least in _LONG_RUNS if least <= longest][-_RUNS_SHOWN:]
    ]


def _longest_run(report: OverlapReport) -> int:
    return int(max([1, *report.lengths, *report.held_out_lengths]))


def overlap_chart(report: OverlapReport) -> Chart:
    """Draws the share of lines whose longest run is at least so long, for written and for held-out ones."""
    x = range(_longest_run(report) + 2)
    series = [
        Series(name, x, [100 * _share_from(lengths, least) for least in x], style)
        for style, (name, lengths) in enumerate(
            (("written", report.lengths), ("held out", report.held_out_lengths))
        )
        if len(lengths)
    ]
    told = "; ".join(
        f"{row[0]}: {row[1]} of lines written, {row[2]} of held-out lines" for row in overlap_rows(report)
    )
    return Chart(
        "Lines with a run of at least so many characters",
        f"{told}.",
        "characters in a row",
        "% of lines",
        series,
        from_zero=True,
    )


def quotations(report: OverlapReport) -> list[tuple[int, str, str, str]]:
    """Returns for each long run its length, what stands before it in the training text, itself, and what comes."""
    found = []
    for text, length, where in report.longest:
        before, there, after = where.partition(text)
        found.append((length, before, text, after) if there else (length, "", text, ""))
    return found


def overlap_sentence(report: OverlapReport) -> str:
    """Says what was searched, and how to read it."""
    ours = float(np.median(report.lengths)) if len(report.lengths) else 0.0
    sentence = (
        f"The model wrote {report.sampled_lines:,} lines. In each line, the longest piece was found that occurs in "
        f"the training text. Its median length is {ours:.0f} characters"
    )
    if len(report.held_out_lengths):
        theirs = float(np.median(report.held_out_lengths))
        sentence += (
            f"; in held-out lines of the same lengths, which people wrote, it is {theirs:.0f}. A model that quotes "
            "has much longer pieces than people have, and a model that writes has pieces of about the same length"
        )
    sentence += "."
    if report.words_known is not None:
        sentence += f" Of the words it wrote, {report.words_known:.1%} occur in the training text"
        if report.held_out_words_known is not None:
            sentence += f"; of held-out words, {report.held_out_words_known:.1%}"
        sentence += "."
    return sentence


# ------------------------------------------------------------------------------------------ for the page's script


def script_data(contents: Contents, shades: Sequence[float], samples: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Returns what page.js shows: texts, and numbers for each of their characters."""
    held_out, units = contents.held_out, contents.units
    return {
        "shades": list(shades),
        "samples": [list(entry) for entry in samples],
        "experts": expert_names(held_out) if held_out else [],
        **_excerpt_data(held_out),
        "connected": [
            [place.before, place.target, [float(f"{move:.3g}") for move in place.moves]]
            for place in contents.connected
        ],
        "findings": [
            [one.excerpt[0], [round(value, 2) for value in one.excerpt[1]]]
            for one in (units.findings if units else [])
        ],
    }


def _excerpt_data(held_out: HeldOut | None) -> dict[str, Any]:
    places = held_out.excerpt if held_out else []
    kinds = sorted({place.kind for place in places if place.kind})
    return {
        "kinds": kinds,
        "excerpt": {
            "texts": [place.text for place in places],
            "known": [int(place.known) for place in places],
            "logProbs": [round(place.log_prob, 3) for place in places],
            "alternatives": [
                [part for text, log_prob in place.alternatives for part in (text, round(log_prob, 2))]
                for place in places
            ],
            "experts": [[round(value, 2) for value in place.expert_log_probs] for place in places],
            "kindOf": [kinds.index(place.kind) if place.kind else -1 for place in places],
            "decided": [-1 if place.decided is None else place.decided for place in places],
            "matches": [_match_data(place.match) for place in places],
        },
    }


def _match_data(match: Match | None) -> list[Any] | None:
    """Returns the length, what stands around the place, what stands there, and whether it is the true character."""
    if match is None:
        return None
    before = match.before[-max(_BEFORE_MATCH, match.length) :]
    return [match.length, before, match.after[:_AFTER_MATCH], match.followed_by, int(match.agrees)]
