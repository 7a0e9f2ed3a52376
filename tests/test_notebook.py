"""In a notebook: training shows its progress, and models, scores and alternatives show themselves."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import charlm
from charlm.notebook import NotebookProgress, draw_curve, in_notebook
from charlm.scoring.measures import Scores
from charlm.training.reports import Metrics
from models import make_language_model, make_mixture
from runs import config

HOSTILE = "<script>alert(1)</script> & \u202e\x1b[31m </span></table>"
MAX_BYTES = 30_000
ELSEWHERE = re.compile(r"<script|<link|<img|<iframe|@import|url\(|src=|href=|http|on\w+=", re.IGNORECASE)
# Executes a notebook of these cells in a kernel of its own, and prints the outputs of each.
EXECUTE = """
import json, sys, nbformat
from nbclient import NotebookClient
cells = [nbformat.v4.new_code_cell(source) for source in json.loads(sys.argv[1])]
notebook = nbformat.v4.new_notebook(cells=cells)
NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
print(json.dumps([cell.outputs for cell in notebook.cells]))
"""


def check(html: str) -> str:
    """Checks what holds for all that a notebook shows, and returns it."""
    assert len(html.encode()) < MAX_BYTES
    assert not ELSEWHERE.search(html)
    for tag in ("div", "span", "table", "tr", "td", "th", "svg", "pre", "em"):
        assert len(re.findall(f"<{tag}[ >]", html)) == html.count(f"</{tag}>"), tag
    assert "\u202e" not in html
    assert "\x1b" not in html
    return html


def plain(html: str) -> str:
    return re.sub(r"<[^>]+>", "", html).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


# ------------------------------------------------------------------------------------------- a real notebook


@pytest.fixture(scope="module")
def outputs(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What the cells of an executed notebook show."""
    if "CI" not in os.environ:  # there they must be installed
        for package in ("ipykernel", "nbclient"):
            pytest.importorskip(
                package, reason=f"{package} is not installed: pip install -c constraints.txt {package}"
            )
    folder = tmp_path_factory.mktemp("notebook")
    cells = [
        f"import charlm\nlm = charlm.train({config(tiny_corpus)!r}, out={str(folder / 'run')!r})",
        "lm",
        "lm.score(['the boat sees the river', 'the hreon'])",
        "lm.score(['the boat sees the river'])[0]",
        "lm.alternatives('the boat', 3)",
        "charlm.train(corpus='nothing.txt', out='none')",
    ]
    cells[-1] = f"try:\n    {cells[-1]}\nexcept charlm.CorpusError:\n    pass"
    environment = {**os.environ, "IPYTHONDIR": str(folder), "JUPYTER_PLATFORM_DIRS": "1", "HOME": str(folder)}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(charlm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    program = [sys.executable, "-c", EXECUTE, json.dumps(cells)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


def shown(outputs: list[dict[str, Any]]) -> str:
    (output,) = outputs
    return check("".join(output["data"]["text/html"]))


@pytest.mark.slow
def test_a_cell_that_trains_shows_the_end_of_its_training_in_one_output(outputs: list[Any]) -> None:
    html = shown(outputs[0])
    assert "finished" in html
    assert "step 24: train" in html
    assert html.count("<polyline") == 2
    assert "written at the last evaluation" in html
    assert "<progress" not in html
    assert "finished" in "".join(outputs[0][0]["data"]["text/plain"])


@pytest.mark.slow
def test_a_training_that_fails_leaves_no_bar_behind(outputs: list[Any]) -> None:
    assert plain(shown(outputs[5])) == "stopped"


@pytest.mark.slow
def test_a_model_shows_what_it_is(outputs: list[Any]) -> None:
    text = plain(shown(outputs[1]))
    for part in ("GRU, 1 layer, hidden size 6", "mixed with", "ngram", "tiny.txt", "best validation loss"):
        assert part in text


@pytest.mark.slow
def test_scores_and_alternatives_show_themselves(outputs: list[Any]) -> None:
    both, one, table = (shown(outputs[cell]) for cell in (2, 3, 4))
    assert both.count("bits per character") == 2
    assert one.count("bits per character") == 1
    assert plain(one).startswith("the boat sees the river⏎log-probability -")
    assert table.count("<tr>") == 1 + len("the boat") + 1
    assert ">likeliest<" in table


# ---------------------------------------------------------------------------------------- without a notebook


def test_nothing_is_shown_and_ipython_is_not_imported_outside_a_notebook(tiny_corpus: Path, tmp_path: Path) -> None:
    code = (
        "import sys, charlm; charlm.train(eval(sys.argv[1]), out=sys.argv[2]); assert 'IPython' not in sys.modules"
    )
    program = [sys.executable, "-c", code, repr(config(tiny_corpus)), str(tmp_path / "run")]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("shell", "there"), [(None, False), (SimpleNamespace(), False), (SimpleNamespace(kernel=1), True)]
)
def test_a_notebook_is_told_from_a_terminal(shell: object, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    assert in_notebook() is there


@pytest.fixture
def lm(tiny_run: Path) -> charlm.LanguageModel:
    return charlm.load(tiny_run)


def test_what_is_shown_stays_small_and_says_what_it_leaves_out(lm: charlm.LanguageModel) -> None:
    (score,) = lm.score(["the boat & <b> " * 400])
    assert re.search(r"… \d,\d{3} more characters", check(score._repr_html_()))
    assert re.search(r"… \d{2,3} more sentences", check(lm.score(["the boat sees the river"] * 300)._repr_html_()))
    assert re.search(r"… \d{3} more places", check(lm.alternatives("the boat & <b> " * 40)._repr_html_()))
    assert len(check(Scores()._repr_html_())) == 0
    assert "<table" in check(lm.alternatives("", eos=False)._repr_html_())


def test_text_cannot_become_markup(lm: charlm.LanguageModel) -> None:
    (score,) = lm.score([HOSTILE])
    assert "<script>alert(1)</script> & \\u202e\\x1b[31m </span></table>⏎" in plain(check(score._repr_html_()))
    assert "\\u202e" in check(lm.alternatives(HOSTILE)._repr_html_())
    config = lm.config.model_copy(update={"corpus": lm.config.corpus.model_copy(update={"path": HOSTILE})})
    other = make_language_model(make_mixture(len(lm.vocabulary), hidden_size=4), lm.vocabulary, config, HOSTILE)
    assert "alert(1)" in plain(check(other._repr_html_()))


def test_the_more_surprising_the_darker_and_numbers_say_it_too(lm: charlm.LanguageModel) -> None:
    (score,) = lm.score(["the boatq"])
    html = score._repr_html_()
    found = re.findall(r"rgba\(217,95,2,([\d.]+)\)[^>]*title=\"([\d.]+) nats", html)
    assert len(found) == len(score.chars)
    order = sorted((float(nats), float(opacity)) for opacity, nats in found)
    assert [opacity for _, opacity in order] == sorted(opacity for _, opacity in order)
    worst = min(score.chars, key=lambda c: c.logprob)
    assert f"most surprising, in nats: {worst.char} {-worst.logprob:.2f}" in html
    assert "unknown" in html


def test_lists_of_scores_and_alternatives_are_lists_as_before(lm: charlm.LanguageModel) -> None:
    scores, others = lm.score(["the boat"]), lm.alternatives("the boat", 2)
    assert isinstance(scores, list)
    assert isinstance(others, list)
    assert scores == [*scores]
    assert others == [*others]
    assert all(type(place) is tuple for place in others)


def metrics(step: int, validation: float | None) -> Metrics:
    return Metrics(step, step * 100, step / 10, float(step), 2.0 + 1 / step, validation, 3.0, 0.1, 0.2, 1e5)


@pytest.mark.parametrize("validation", [1.5, None])
def test_a_long_training_and_a_hostile_sample_stay_small(validation: float | None) -> None:
    progress = NotebookProgress()
    for step in range(1, 3000):
        progress.on_evaluation(metrics(step, validation), HOSTILE * 1000, True)
        progress.on_note(HOSTILE * 1000)
    html = check(progress._bundle()["text/html"])
    assert html.count("<polyline") == (2 if validation else 1)
    assert "2,999" in html


def test_a_curve_of_two_equal_points_is_drawn() -> None:
    assert "NaN" not in check(draw_curve([metrics(1, 2.0), metrics(1, 2.0)]))
