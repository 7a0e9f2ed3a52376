"""Run folders damaged at random: loaded as a model that gives finite numbers, or refused by name; nothing else.

`make fuzz` runs this with many more examples, by the variable CHARLM_FUZZ.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import charlm
from charlm.cli import app
from charlm.config import load_config, to_yaml
from charlm.errors import CharlmError, ConfigError, RunError
from hostile import Bounds, joined, split_header

pytestmark = pytest.mark.slow

many = settings(
    max_examples=int(os.environ.get("CHARLM_FUZZ", "500")),
    suppress_health_check=[HealthCheck.too_slow],
)

VALUES: list[Any] = [
    None, True, 0, -1, 1, 2, 7, 2**31, 2**63, 10**400, 1e308, -1e-308, 0.5, math.nan, math.inf, "", "0", "lines",
    "<unk>", "\x00", "\ud800", "\u2028", "a" * 20_000, [], [[]], {}, {"": {}}, ["a", 1, None], "10000 steps",
    "F64", "BOOL", [0, 1 << 40], [1 << 31, 1 << 31], [-1, 3], "../../../etc/passwd", 16384,
]  # fmt: skip
TOKENS = [
    b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\n", b"\r\n", b"\t", b" ", b'"', b"'", b",", b":", b": ", b"- ", b"[",
    b"]", b"{", b"}", b"&a", b"*a", b"!!int", b"!!python/name:os.system", b"? ", b"| ", b"> ", b"%YAML 1.1\n", 
    b"---\n", b"...\n", b"<<: ", b"1:1", b"0x", b"1e999", b".nan", b"-.inf", b"null", b"true", b"9" * 5000,
    b"[" * 400, b"{a: " * 400, b"\xe2\x80\xa8", b"\\ud800", b"\\u0000", b"#", b"@", b"`", b"NaN", b"Infinity", b"-",
    b"1", b"0",
]  # fmt: skip

edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 20), st.sampled_from(TOKENS) | st.binary(max_size=4)),
    min_size=1,
    max_size=3,
)


def edited(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Cuts a few bytes out at places (from 0, the beginning, to 1, the end) and puts others there."""
    for place, cut, new in changes:
        at = int(place * len(content))
        content = content[:at] + new + content[at + cut :]
    return content


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yields each container with each of its keys; of long lists the first few."""
    for key in list(data if isinstance(data, dict) else range(min(len(data), 5))):
        yield data, key
        if isinstance(data[key], (dict, list)):
            yield from places(data[key])


def exchanged(data: Any, draw: Callable[..., Any]) -> Any:
    """Exchanges one value, or one key, for another."""
    container, key = draw(st.sampled_from(list(places(data))))
    action = draw(st.sampled_from(["value", "value", "remove", "rename"]))
    value = container[key]
    if action != "value":
        del container[key]
    if action == "value":
        container[key] = draw(st.sampled_from(VALUES))
    elif action == "rename" and isinstance(container, dict):
        container[draw(st.sampled_from(["x", "format", "model", "../x", "\x1b", "a" * 20_000]))] = value
    return data


@st.composite
def damages(draw: Callable[..., Any], name: str, content: bytes) -> bytes:
    """Draws a damaged version of a file."""
    if name.endswith(".safetensors"):
        header, rest = split_header(content)
        data = json.loads(header)
        del data["__metadata__"]["sha256"]  # as one who means harm would
        part = draw(st.sampled_from(["values", "header", "numbers", "all"]))
        if part == "values":
            exchanged(data, draw)
        header = json.dumps(data).encode()
        if part == "header":
            header = edited(header, draw(edits))
        if part == "numbers":
            at = draw(st.integers(0, len(rest) - 1))
            new = draw(st.binary(min_size=1, max_size=8))[: len(rest) - at]
            rest = rest[:at] + new + rest[at + len(new) :]
        content = joined(header, rest)
        return edited(content, draw(edits)) if part == "all" else content
    kind = draw(st.sampled_from(["bytes", "values"]))
    if kind == "values" and name.endswith(".yaml"):
        return yaml.safe_dump(exchanged(yaml.safe_load(content), draw)).encode("utf-8", "surrogatepass")
    if kind == "values" and name.endswith(".jsonl"):
        rows = exchanged([json.loads(line) for line in content.splitlines()], draw)
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if kind == "values":
        return json.dumps(exchanged(json.loads(content), draw)).encode()
    return edited(content, draw(edits))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_mixture_run: Path) -> Path:
    """A copy of a run that is damaged and mended again and again."""
    return Path(shutil.copytree(tiny_mixture_run, tmp_path_factory.mktemp("fuzz") / "run"))


@pytest.mark.parametrize("name", ["config.yaml", "vocabulary.json", "model.safetensors", "ngram.safetensors"])
@many
@given(data=st.data())
def test_a_damaged_run_is_refused_by_name_or_gives_finite_numbers(
    name: str, run: Path, tiny_mixture_run: Path, bounds: Bounds, data: st.DataObject
):
    damaged = data.draw(damages(name, (tiny_mixture_run / name).read_bytes()))
    try:
        (run / name).write_bytes(damaged)
        with bounds():
            lm = charlm.load(run, device="cpu")
            score = lm.score(["the boat\x00 sees \ud800"])[0]
            numbers = [score.logprob, score.slor, score.penlp, *(char.logprob for char in score.chars)]
            assert all(map(math.isfinite, numbers))
            assert len(next(lm.sample(length=2))) <= 2
    except RunError as error:
        assert str(run) in str(error)  # noqa: PT017
        assert len(str(error)) < 10_000  # noqa: PT017
    finally:
        shutil.copyfile(tiny_mixture_run / name, run / name)


def damaged_checkpoint(content: bytes, draw: Callable[..., Any]) -> bytes:
    """Exchanges something in the header of a checkpoint, most often in what it says of the training.

    It is left without its checksum.
    """
    header, rest = split_header(content)
    data = json.loads(header)
    texts = data["__metadata__"]
    del texts["sha256"]
    if draw(st.integers(0, 3)):
        texts["info"] = json.dumps(exchanged(json.loads(texts["info"]), draw))
    else:
        exchanged(data, draw)
    return joined(json.dumps(data).encode(), rest)


class _WentOnError(Exception):
    """A training made a step."""


class _StopAtOnce:
    def on_step(self, *_: object) -> None:
        raise _WentOnError

    on_evaluation = on_step

    def on_note(self, note: str) -> None:
        pass


@settings(many, max_examples=max(1, many.max_examples // 3))
@given(data=st.data())
def test_a_damaged_checkpoint_is_refused_by_name_or_training_goes_on(
    run: Path, tiny_mixture_run: Path, tiny_corpus: Path, bounds: Bounds, data: st.DataObject
):
    name = "last/checkpoint.safetensors"
    damaged = damaged_checkpoint((tiny_mixture_run / name).read_bytes(), data.draw)
    try:
        (run / name).write_bytes(damaged)
        with bounds():
            charlm.train(corpus=tiny_corpus, resume=True, out=run, budget="41 steps", observer=_StopAtOnce())
    except _WentOnError:
        pass
    except CharlmError as error:  # the run; or the corpus or device that it names
        assert len(str(error)) < 10_000  # noqa: PT017
        assert not isinstance(error, RunError) or str(run) in str(error)  # noqa: PT017
    finally:
        for file in tiny_mixture_run.rglob("*"):
            if file.is_file():
                shutil.copyfile(file, run / file.relative_to(tiny_mixture_run))


@many
@given(data=st.data())
def test_a_damaged_curve_is_shown_or_refused(
    run: Path, tiny_mixture_run: Path, bounds: Bounds, data: st.DataObject
):
    try:
        (run / "metrics.jsonl").write_bytes(
            data.draw(damages("metrics.jsonl", (tiny_mixture_run / "metrics.jsonl").read_bytes()))
        )
        with bounds():
            result = CliRunner().invoke(app, ["inspect", str(run)])
    finally:
        shutil.copyfile(tiny_mixture_run / "metrics.jsonl", run / "metrics.jsonl")
    assert result.exit_code in (0, 2), result.exception
    assert (str(run) in result.stderr) == (result.exit_code == 2)


@many
@given(data=st.data())
def test_a_damaged_configuration_is_refused_or_means_what_it_says_when_written_again(
    run: Path, tiny_mixture_run: Path, bounds: Bounds, data: st.DataObject
):
    path = run / "other.yaml"
    path.write_bytes(data.draw(damages("config.yaml", (tiny_mixture_run / "config.yaml").read_bytes())))
    with bounds():
        try:
            config = load_config(path)
        except ConfigError as error:
            assert str(error).startswith(str(path))  # noqa: PT017
        else:
            path.write_text(to_yaml(config), encoding="utf-8", errors="surrogatepass")
            assert load_config(path) == config
