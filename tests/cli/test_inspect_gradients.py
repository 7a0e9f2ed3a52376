"""`charlm inspect --gradients`: tables, JSON and a plot of the same numbers, for every kind of run."""

import json
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len

import charlm
import commands
from charlm.analysis.gradients import untrained_network
from charlm.store.run_folder import RunFolder
from charlm.training import job
from commands import refused


def gradients(*args: object) -> str:
    """Returns the answer; remarks may stand on standard error."""
    result = commands.run("inspect", *args, "--gradients")
    assert result.exit_code == 0, result.stderr
    return result.stdout


def train(corpus: Path, out: Path, framing: str = "stream", level: str = "character", **model: Any) -> Path:
    config = {
        "corpus": {"path": str(corpus), "framing": framing, "level": level},
        "model": {"hidden_size": 8, **model},
        "training": {"budget": "1 steps", "sequence_length": 16},
    }
    charlm.train(config, out=out)
    return out


@pytest.mark.parametrize("run", ["tiny_run", "tiny_lines_run", "tiny_mixture_run"])
def test_table_json_and_plot_agree(run: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue(run)
    found = json.loads(gradients(folder, "--format", "json", "--lags", 10, "--out", tmp_path / "plot.svg"))
    printed = gradients(folder, "--lags", 10)
    assert all(cell_len(line) <= 80 for line in printed.splitlines())
    assert found["unit"] == "characters"
    assert len(found["places"]) == 11
    for network in ("trained", "untrained"):
        for curve in found[network]["gradients"]:
            assert len(curve["median"]) == 11
            assert f"{curve['median'][-1]:.2e}" in printed
            assert f"{curve['decay']:.4f}" in printed
        assert len(found[network]["connectivity"]["median"]) == 10
        for gate in found[network]["gates"]:
            assert f"{gate['below_0.1']:.1%}" in printed
        for matrix in found[network]["recurrent_matrices"]:
            assert f"{matrix['spectral_radius']:.3f}" in printed
    assert found["trained"]["gradients"] != found["untrained"]["gradients"]
    text = "".join(ElementTree.parse(tmp_path / "plot.svg").getroot().itertext())
    assert f"{found['trained']['gradients'][0]['median'][0]:.2e} at lag 0" in text


def test_of_a_mixture_the_network_alone_is_looked_at_and_that_is_said(tiny_mixture_run: Path) -> None:
    result = commands.run("inspect", tiny_mixture_run, "--gradients", "--lags", 5)
    assert "only the gradients of its network are shown" in result.stderr


def test_the_untrained_network_is_the_one_that_training_began_with(tiny_run: Path, tmp_path: Path) -> None:
    lm = charlm.load(tiny_run)
    begun = job.begin(lm.config, RunFolder(tmp_path / "run"), note=lambda text: None)
    fresh = untrained_network(lm).state_dict()
    weights = begun.mixture.network.arrays()
    assert fresh.keys() == weights.keys()
    assert all((fresh[name].numpy() == weights[name]).all() for name in weights)


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "rnn", "num_layers": 2, "embedding_size": 3},
        {"cell": "gru", "output_rank": 4, "framing": "lines", "bias": False},
        {"cell": "lstm", "level": "byte", "num_layers": 2},
    ],
    ids=lambda settings: settings["cell"],
)
def test_every_kind_of_network_is_measured(settings: dict[str, Any], tiny_corpus: Path, tmp_path: Path) -> None:
    run = train(tiny_corpus, tmp_path / "run", **settings)
    printed = gradients(run, "--text", tiny_corpus, "--lags", 12)
    unit = "bytes" if settings.get("level") == "byte" else "characters"
    assert f"gradients at 256 places of {tiny_corpus}, up to 12 {unit} back" in printed.replace("\n  ", " ")
    names = {"rnn": ["candidate"], "gru": ["reset", "update"], "lstm": ["input", "forget", "output"]}
    for name in names[settings["cell"]]:
        assert (f"{name}, layer 2" if settings.get("num_layers") else name) in printed


def test_lags_that_the_text_does_not_have_are_left_out_and_that_is_said(tiny_lines_run: Path) -> None:
    result = commands.run("inspect", tiny_lines_run, "--gradients")
    assert "too few places have more characters before them" in result.stderr


def test_a_plot_as_png_has_two_pixels_for_each_of_the_svg(tiny_run: Path, tmp_path: Path) -> None:
    for name in ("plot.svg", "plot.png"):
        gradients(tiny_run, "--format", "json", "--lags", 5, "--out", tmp_path / name)
    root = ElementTree.parse(tmp_path / "plot.svg").getroot()
    picture = (tmp_path / "plot.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", picture[16:24])
    assert (width, height) == (2 * int(root.attrib["width"]), 2 * int(root.attrib["height"]))
    pixels = zlib.decompress(b"".join(chunk for name, chunk in png_chunks(picture) if name == b"IDAT"))
    assert len(set(pixels)) > 50  # lines, bands and letters, not an empty page


def png_chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place < len(picture):
        (length,) = struct.unpack(">I", picture[place : place + 4])
        yield picture[place + 4 : place + 8], picture[place + 8 : place + 8 + length]
        place += length + 12


def test_a_plot_as_png_without_resvg_says_how_to_install_it(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    message = refused("inspect", tiny_run, "--gradients", "--out", tmp_path / "plot.png")
    assert "pip install 'charlm[png]'" in message


def test_what_cannot_be_measured_is_refused_with_one_message(
    tiny_run: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    (short := tmp_path / "short.txt").write_text("the boat")
    (unknown := tmp_path / "unknown.txt").write_text("船船船")
    assert "too short" in refused("inspect", tiny_run, "--gradients", "--text", short)
    assert "no character that the model knows" in refused("inspect", tiny_run, "--gradients", "--text", unknown)
    assert "no such file" in refused("inspect", tiny_run, "--gradients", "--text", tmp_path / "none.txt")
    assert "can only be used with --gradients" in refused("inspect", tiny_run, "--out", "plot.svg")
    assert "can only be used for a text that --text names" in refused(
        "inspect", tiny_run, "--gradients", "--encoding", "gb18030"
    )
    assert ".svg or .png" in refused("inspect", tiny_run, "--gradients", "--out", tmp_path / "plot.pdf")
    assert "no such folder" in refused("inspect", tiny_run, "--gradients", "--out", tmp_path / "a/plot.svg")
    config = {
        "corpus": {"path": str(tiny_corpus), "validation": 0.0},
        "model": {"hidden_size": 4},
        "training": {"budget": "1 steps"},
    }
    charlm.train(config, out=tmp_path / "all")
    message = refused("inspect", tmp_path / "all", "--gradients")
    assert "trained without a validation split; name a text with --text" in message
    assert gradients(tmp_path / "all", "--text", tiny_corpus, "--lags", 3)
