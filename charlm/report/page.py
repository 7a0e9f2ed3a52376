"""The page: what was gathered of one or several runs, as one HTML file.

Texts of a corpus, and what a model wrote, are as hostile as the file that they came from:

    in HTML          jinja2 escapes them
    in JSON          <, >, & and the separators U+2028 and U+2029 are escaped, so no element ends early
    anywhere         what turns the direction of writing, controls, and halves of surrogate pairs are made visible
    the browser      a Content-Security-Policy lets only our two scripts and our styles run, by their SHA-256, and
                     nothing be fetched or sent
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from charlm import __version__
from charlm.analysis.gradient_tables import decay_rows, gate_rows, matrix_rows
from charlm.analysis.held_out import HeldOut
from charlm.analysis.learning import Reference
from charlm.analysis.overlap import OverlapReport
from charlm.analysis.units import Units
from charlm.report import views
from charlm.report.charts import Chart
from charlm.report.contents import Contents, configuration_text
from charlm.report.views import Rows
from charlm.system.files import replace_file

PARTS = [
    ("try", "Try it"),
    ("learning", "How it learnt"),
    ("held-out", "Where it is good and where not"),
    ("experts", "Who knew it?"),
    ("gradients", "Gradients and memory"),
    ("units", "Cells that mean something"),
    ("overlap", "Is it writing or quoting?"),
    ("facts", "The run"),
]

# In JSON: what could end a script element or a line of it, turns the direction of writing, or is no character.
_UNSAFE_IN_JSON = re.compile(r"[<>&\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
# In HTML: the same, and controls but for the newline and the tab; the JSON in it is escaped already.
_UNSAFE_IN_HTML = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True)
class RunView:
    """What the template shows of a run; its names are explained where the template uses them."""

    id: str
    name: str
    corpus: str
    language: str
    summary: Markup
    network_note: Markup
    notes: Sequence[str]
    missing: dict[str, str]
    beginning: str
    shades: Sequence[tuple[str, str]]
    layers: int
    hidden_size: int
    has_memory: bool
    temperature: str
    top_p: str
    curves: Sequence[Chart]
    evaluation_head: Sequence[str]
    evaluation_rows: Rows
    references: Sequence[Reference]
    samples: Sequence[tuple[str, str]]
    held_out: HeldOut | None
    experts: Sequence[str]
    held_out_name: str
    calibration: Chart | None
    calibration_head: Sequence[str]
    calibration_rows: Rows
    decided: Sequence[str]
    gradient_charts: Sequence[tuple[Chart, Sequence[str], Rows]]
    gradient_places: int
    decays: Rows
    gates: Rows
    matrices: Rows
    connected: bool
    units_found: Units | None
    overlap: OverlapReport | None
    overlap_sentence: str
    quotations: Sequence[tuple[int, str, str, str]]
    overlap_chart: Chart | None
    overlap_head: Sequence[str]
    overlap_rows: Rows
    facts: Sequence[tuple[str, str]]
    command: str
    symbols: Sequence[tuple[str, int]]
    symbols_left_out: int
    vocabulary_size: int
    config: str
    data: Markup
    network: Markup


def render(runs: Sequence[Contents]) -> str:
    """Returns the page; with several runs, it has a chooser and a table that compares them."""
    css, scripts = _asset("page.css"), [_asset("model.js"), _asset("page.js")]
    found = [_view(contents, f"r{number}") for number, contents in enumerate(runs)]
    corpora = {contents.corpus for contents in runs}
    title = runs[0].corpus if len(corpora) == 1 else f"{len(corpora)} texts"
    if len(runs) > 1:
        title = f"{len(runs)} models of {title}"
    html = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            title=title,
            version=__version__,
            policy=policy(css, scripts),
            css=Markup(css),
            model_script=Markup(scripts[0]),
            page_script=Markup(scripts[1]),
            parts=PARTS,
            runs=found,
            several=len(found) > 1,
            comparison_head=views.COMPARISON_HEAD,
            comparison_rows=[views.comparison_row(contents) for contents in runs],
        )
    )
    return _UNSAFE_IN_HTML.sub(lambda found: name_unseen(found[0]), html)


def write_report(path: Path, runs: Sequence[Contents]) -> None:
    """Writes the page, as a whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    content = render(runs).encode()
    with replace_file(path) as file:
        file.write(content)


def policy(style: str, scripts: Sequence[str]) -> str:
    """Returns the Content-Security-Policy of a page that has these blocks, and may do nothing else."""
    hashes = " ".join(f"'{_hash(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(block: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}"


def to_safe_json(value: Any) -> Markup:
    """Returns JSON that may stand in a script element; no text in it can end the element."""
    return safe_json(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def safe_json(text: str) -> Markup:
    """Escapes in JSON what could end the element in which it stands: outside of strings there is none of it."""
    return Markup(_UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def name_unseen(character: str) -> str:
    """Returns what is shown in place of a character that cannot be seen, or that changes how others are."""
    return "\N{REPLACEMENT CHARACTER}" if 0xD800 <= ord(character) < 0xE000 else f"[U+{ord(character):04X}]"


def make_visible(text: str) -> str:
    """Returns text in one line for a table: a newline as its sign."""
    return text.replace("</s>", "⏎").replace("\n", "⏎").replace("\t", "⇥")


@cache
def _asset(name: str) -> str:
    return (resources.files("charlm.report") / "assets" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("charlm.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["bits"] = views.bits
    environment.filters["percent"] = views.percent
    environment.filters["visible"] = make_visible
    environment.filters["key"] = lambda text: "␣" if text == " " else make_visible(text)
    environment.filters["code"] = views.with_code
    environment.filters["sentence"] = views.sentence
    environment.filters["above_chance"] = views.above_chance
    return environment


def _view(contents: Contents, identifier: str) -> RunView:
    """Puts together what the template shows of a run."""
    model, sampling = contents.config.model, contents.config.sampling
    held_out, learning, overlap = contents.held_out, contents.learning, contents.overlap
    shades = views.shade_bounds(contents.unigram_nats / math.log(2))
    evaluations = learning.evaluations if learning else []
    references = learning.references if learning else []
    samples = views.sample_entries(learning) if learning else []
    gradients = contents.gradients
    return RunView(
        id=identifier,
        name=contents.name,
        corpus=contents.corpus,
        language=contents.language,
        summary=views.summary(contents),
        network_note=views.network_note(contents),
        notes=contents.notes,
        missing=contents.missing,
        beginning=contents.beginning,
        shades=views.shade_names(shades),
        layers=model.num_layers,
        hidden_size=model.hidden_size,
        has_memory=model.cell == "lstm",
        temperature=f"{min(2.0, sampling.temperature):.2f}",
        top_p=f"{sampling.top_p or 1.0:.2f}",
        curves=views.learning_charts(evaluations, references),
        evaluation_head=views.EVALUATION_HEAD,
        evaluation_rows=views.evaluation_rows(evaluations),
        references=references,
        samples=samples,
        held_out=held_out,
        experts=views.expert_names(held_out) if held_out else [],
        held_out_name=contents.held_out_name,
        calibration=views.calibration_chart(held_out) if held_out else None,
        calibration_head=views.CALIBRATION_HEAD,
        calibration_rows=views.calibration_rows(held_out) if held_out else [],
        decided=views.decided(held_out) if held_out else [],
        gradient_charts=views.gradient_charts(gradients) if gradients else [],
        gradient_places=int(gradients.places[0]) if gradients else 0,
        decays=decay_rows(gradients) if gradients else [],
        gates=gate_rows(gradients, decimals=0) if gradients else [],
        matrices=matrix_rows(gradients) if gradients else [],
        connected=bool(contents.connected),
        units_found=contents.units,
        overlap=overlap,
        overlap_sentence=views.overlap_sentence(overlap) if overlap else "",
        quotations=views.quotations(overlap) if overlap else [],
        overlap_chart=views.overlap_chart(overlap) if overlap else None,
        overlap_head=views.OVERLAP_HEAD,
        overlap_rows=views.overlap_rows(overlap) if overlap else [],
        facts=contents.facts,
        command="charlm train config.yaml --out runs/again",
        symbols=contents.symbols,
        symbols_left_out=contents.vocabulary_size - len(contents.symbols),
        vocabulary_size=contents.vocabulary_size,
        config=configuration_text(contents),
        data=to_safe_json(views.script_data(contents, shades, samples)),
        network=safe_json(contents.network.json),
    )
