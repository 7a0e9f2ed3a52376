"""charlm as a model of the lm-evaluation-harness, with the real package."""

import json
import os
import random
import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

if "CI" not in os.environ:  # there it must be installed
    pytest.importorskip("lm_eval", reason="lm_eval is not installed: pip install -c constraints.txt lm-eval")

from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

import charlm
from charlm.errors import InputError
from charlm.language_model import LanguageModel
from charlm.lm_eval.__main__ import main
from charlm.lm_eval.model import CharlmLM

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/explanation/lm-evaluation-harness.md").read_text(encoding="utf-8")


def requests(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, each, place) for place, each in enumerate(arguments)]


@pytest.fixture(scope="module")
def stream(tiny_run: Path) -> CharlmLM:
    return CharlmLM(str(tiny_run))


@pytest.fixture(scope="module")
def lines(tiny_lines_run: Path) -> CharlmLM:
    return CharlmLM(run=str(tiny_lines_run))


# ------------------------------------------------------------------------------------------------- registration


def test_the_harness_knows_the_model_by_its_name_and_its_own_models_too() -> None:
    assert get_model("charlm") is CharlmLM
    assert get_model("dummy").__module__ == "lm_eval.models.dummy"


def test_the_entry_point_is_the_model() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ((name, value),) = project["entry-points"]["lm_eval.models"].items()
    assert name == "charlm"
    assert EntryPoint(name, value, "lm_eval.models").load() is CharlmLM


@pytest.mark.parametrize("name", ["pretrained", "run"])
def test_a_run_folder_is_named_in_either_way(tiny_run: Path, name: str) -> None:
    # What the harness's command line adds where nobody has said anything.
    defaults = {"batch_size": 1, "max_batch_size": None, "device": "cuda:0"}
    model = CharlmLM.create_from_arg_string(f"{name}={tiny_run}", defaults)
    assert model.language_model.folder == charlm.load(tiny_run).folder


@pytest.mark.parametrize("arguments", [{}, {"pretrained": "a", "run": "b"}])
def test_one_run_folder_is_named(arguments: dict[str, str]) -> None:
    with pytest.raises(InputError, match="pretrained=RUN"):
        CharlmLM(**arguments)


def test_a_folder_may_be_called_by_a_number(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "7").symlink_to(tiny_run)
    monkeypatch.chdir(tmp_path)
    assert CharlmLM.create_from_arg_string("run=7").loglikelihood_rolling(requests("", ("the",)))


def fail(capsys: pytest.CaptureFixture[str]) -> str:
    """What the command line says on standard error, ending with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_missing_run_folder_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: CharlmLM(str(tmp_path / "gone")))
    message = fail(capsys)
    assert message.startswith("error: ")
    assert "gone" in message


def test_a_missing_harness_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.__main__", None)
    assert "pip install 'charlm[lm-eval]'" in fail(capsys)


# ------------------------------------------------------------------------------------------------------ requests


def test_log_likelihoods_are_natural_and_answered_in_order(stream: CharlmLM) -> None:
    pairs = [("the boat", " sees the river."), ("", "bread"), ("the", " lamp"), ("a miller ", "hß")]
    found = stream.loglikelihood(requests("loglikelihood", *pairs))
    for (context, continuation), (logprob, is_greedy) in zip(pairs, found, strict=True):
        (score,) = stream.language_model.score([continuation], context=context, eos=False)
        assert logprob == pytest.approx(score.logprob, abs=1e-4)
        assert type(logprob) is float
        assert type(is_greedy) is bool


def test_what_it_writes_greedily_is_greedy(stream: CharlmLM, lines: CharlmLM) -> None:
    for model in (stream, lines):
        asked = ("the boat", {"until": [], "max_gen_toks": 12})
        (written,) = model.generate_until(requests("generate_until", asked))
        assert 0 < len(written) <= 12
        other = written[:-1] + ("x" if written[-1] != "x" else "y")
        found = model.loglikelihood(requests("loglikelihood", ("the boat", written), ("the boat", other)))
        assert [is_greedy for _, is_greedy in found] == [True, False]


def test_a_rolling_log_likelihood_is_that_of_the_whole_text(stream: CharlmLM, lines: CharlmLM) -> None:
    text = "the boat sees\nthe heron."
    (rolling,) = stream.loglikelihood_rolling(requests("loglikelihood_rolling", (text,)))
    (score,) = stream.language_model.score([text], eos=False)
    assert rolling == pytest.approx(score.logprob, abs=1e-4)
    (rolling,) = lines.loglikelihood_rolling(requests("loglikelihood_rolling", (text,)))
    (first,) = lines.language_model.score(["the boat sees"])
    (second,) = lines.language_model.score(["the heron."], eos=False)
    assert rolling == pytest.approx(first.logprob + second.logprob, abs=1e-4)


def generate(model: CharlmLM, context: str, **settings: Any) -> str:
    (text,) = model.generate_until(requests("generate_until", (context, settings)))
    return text


def test_texts_end_before_the_first_stop_or_at_their_length(stream: CharlmLM) -> None:
    whole = generate(stream, "the boat", max_gen_toks=60)
    assert len(whole) == 60
    (expected,) = stream.language_model.sample(1, prompt="the boat", length=60, temperature=0, only_new=True)
    assert whole == expected
    assert len(generate(stream, "the boat")) == 256
    assert generate(stream, "the boat", max_gen_toks=60, until=" ") == whole.split(" ")[0]
    late, early = whole[20:23], whole[10:13]
    expected = whole[: min(whole.find(late), whole.find(early))]
    assert generate(stream, "the boat", max_gen_toks=60, until=[late, "", "<|end|>", early]) == expected


def test_a_text_of_lines_ends_with_its_line_and_its_context_is_the_last_one(lines: CharlmLM) -> None:
    whole = generate(lines, "the boat", do_sample=True, temperature=0.1)
    assert "\n" not in whole
    assert generate(lines, "the boat") == generate(lines, "a miller\nthe boat")


def test_many_texts_are_written_side_by_side_as_each_alone(stream: CharlmLM, lines: CharlmLM) -> None:
    contexts = ["the boat", "", "a miller likes the", "ß", "the heron sees the river.\nthe", *["the b"] * 70]
    settings: list[dict[str, Any]] = [{"max_gen_toks": 20}, {"max_gen_toks": 9, "until": ["e", "s"]}]
    asked = [(context, settings[place % 2]) for place, context in enumerate(contexts)]
    for model in (stream, lines):
        together = model.generate_until(requests("generate_until", *asked))
        assert together[:7] == [generate(model, context, **own) for context, own in asked[:7]]
        assert together[7:9] * 34 == together[7:]


def test_unknown_characters_of_a_context_are_read(stream: CharlmLM) -> None:
    assert len(generate(stream, "ß the boat €", max_gen_toks=5)) == 5


def test_sampling_follows_the_seed_of_the_harness_and_repeats_differ(stream: CharlmLM) -> None:
    asked = [("the boat", {"do_sample": True, "temperature": 1.0, "max_gen_toks": 40})] * 2

    def write(seed: int) -> list[str]:
        random.seed(seed)  # as the harness does
        return stream.generate_until(requests("generate_until", *asked))

    one = write(1)
    assert one == write(1) != write(2)
    assert one[0] != one[1]


def test_settings_of_sampling_are_followed(stream: CharlmLM) -> None:
    greedy = generate(stream, "the boat", max_gen_toks=30)
    for settings in ({"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-6, "top_k": 0}):
        assert generate(stream, "the boat", max_gen_toks=30, do_sample=True, **settings) == greedy
    assert generate(stream, "the boat", max_gen_toks=30, do_sample=False, temperature=5.0) == greedy


def test_settings_that_it_does_not_know_are_named_in_the_log(
    stream: CharlmLM, caplog: pytest.LogCaptureFixture
) -> None:
    generate(stream, "the", max_gen_toks=1, repetition_penalty=1.2, num_beams=4)
    assert "num_beams, repetition_penalty" in caplog.text


# --------------------------------------------------------------------------------------------------- the harness


def tasks(folder: Path, text: Path) -> Path:
    """Writes the task of the document, and one of the two other kinds each."""
    (shown,) = re.findall(r"^```yaml\n(task: .*?)^```$", PAGE, re.S | re.M)
    (folder / "pairs.yaml").write_text(shown, encoding="utf-8")
    of_the_text = f"dataset_path: text\ndataset_kwargs: {{data_files: {text}}}\ntest_split: train\n"
    (folder / "rolling.yaml").write_text(
        "task: rolling\noutput_type: loglikelihood_rolling\n"
        + of_the_text
        + "doc_to_text: ''\ndoc_to_target: \"{{text}}\"\n"
        + "metric_list: [{metric: bits_per_byte}, {metric: byte_perplexity}]\n"
    )
    (folder / "writing.yaml").write_text(
        "task: writing\noutput_type: generate_until\n"
        + of_the_text
        + 'doc_to_text: "{{text[:8]}}"\ndoc_to_target: "{{text[8:]}}"\n'
        + 'generation_kwargs: {until: ["."], max_gen_toks: 20}\nmetric_list: [{metric: exact_match}]\n'
    )
    return folder


def run_harness(
    run: Path, folder: Path, *names: str
) -> tuple[str, dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Runs the command line of the document: its output, the results, and the samples of each task."""
    command = [
        *(sys.executable, "-m", "charlm.lm_eval", "run", "--model", "charlm", "--model_args", f"pretrained={run}"),
        *("--tasks", ",".join(names), "--include_path", str(folder), "--output_path", str(folder / "out")),
        "--log_samples",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (results,) = (folder / "out").rglob("results_*.json")
    samples = {
        name: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for name in names
        for path in (folder / "out").rglob(f"samples_{name}_*.jsonl")
    }
    return done.stdout, json.loads(results.read_text(encoding="utf-8"))["results"], samples


@pytest.mark.slow
def test_the_harness_gives_what_charlm_gives(tiny_mixture_run: Path, tiny_text: str, tmp_path: Path) -> None:
    sentences = tiny_text.splitlines()[:5]
    (tmp_path / "text.txt").write_text("\n".join(sentences), encoding="utf-8")
    names = ("river_pairs", "rolling", "writing")
    folder = tasks(tmp_path, tmp_path / "text.txt")
    printed, results, samples = run_harness(tiny_mixture_run, folder, *names)
    lm = charlm.load(tiny_mixture_run)
    assert "river_pairs" in printed

    rows = (ROOT / "docs/examples/pairs.tsv").read_text(encoding="utf-8").splitlines()
    pairs = [(good, bad) for good, bad, _ in (row.split("\t") for row in rows)]
    for metric, measure in (("acc", "logprob"), ("acc_norm", "mean")):
        (result,) = lm.pairs(pairs, measure=measure)
        assert 0 < result.accuracy < 1
        assert result.ties == 0
        assert results["river_pairs"][f"{metric},none"] == result.accuracy
    compare(lm, pairs, samples["river_pairs"])

    scores = lm.score(sentences, eos=False)
    bits = -sum(score.logprob for score in scores) / sum(map(len, sentences)) / 0.6931471805599453
    assert results["rolling"]["bits_per_byte,none"] == pytest.approx(bits, abs=1e-5)

    for sample in samples["writing"]:
        (written,) = lm.sample(
            1, prompt=sample["doc"]["text"][:8], length=20, temperature=0, stop=".", only_new=True
        )
        assert sample["resps"] == [[written]]


def compare(lm: LanguageModel, pairs: list[tuple[str, str]], samples: list[dict[str, Any]]) -> None:
    """Each log-likelihood is the log-probability that charlm gives, the end of the sentence included."""
    assert len(samples) == len(pairs)
    for sample in samples:
        found = [float(answer[0][0]) for answer in sample["resps"]]
        scores = lm.score([sample["doc"]["good"], sample["doc"]["bad"]])
        assert found == pytest.approx([score.logprob for score in scores], abs=1e-3)
