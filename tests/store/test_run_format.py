"""A run folder of an earlier format is refused, wherever it is given, by one message that says how to go on."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

import charlm
from charlm.errors import CharlmError, RunError
from charlm.system.run_format import RUN_FORMAT, FormatError, check_format
from commands import refused, run
from hostile import joined, split_header
from runs import contents

FILES = ["vocabulary.json", "model.safetensors", "ngram.safetensors", "last/checkpoint.safetensors"]
ADVICE = (
    "written by an older charlm (format 1), whose runs this version cannot read; train the model again: copy the "
    "run's config.yaml, change the keys that `charlm config check` names in the copy, and give it to `charlm train`"
)


def age(path: Path) -> None:
    """Makes a file say that it is of format 1."""
    if path.suffix == ".json":
        text = path.read_text(encoding="utf-8")
        assert f'"format": {RUN_FORMAT}' in text
        path.write_text(text.replace(f'"format": {RUN_FORMAT}', '"format": 1'), encoding="utf-8")
        return
    header, rest = split_header(path.read_bytes())
    data = json.loads(header)
    assert data["__metadata__"]["charlm_format"] == str(RUN_FORMAT)
    data["__metadata__"]["charlm_format"] = "1"
    path.write_bytes(joined(json.dumps(data).encode(), rest))


@pytest.fixture
def old_run(tmp_path: Path, tiny_mixture_run: Path) -> Path:
    """A run as an earlier charlm wrote it: in each file the number of its format, in its configuration old keys."""
    folder = Path(shutil.copytree(tiny_mixture_run, tmp_path / "old"))
    for name in FILES:
        age(folder / name)
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    config = config.replace("  cell: lstm\n", "  cell: gru\n  reset: before\n")
    config = config.replace("  ngram: 3\n", "  ngram: 3\n  forget_bias: 1.0\n  recurrent_init: orthogonal\n")
    config = config.replace("  kernel: auto\n  precision: auto\n", "  backend: auto\n")
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    return folder


def test_the_format_of_this_charlm_is_read_and_no_other():
    check_format("file", RUN_FORMAT)
    with pytest.raises(FormatError, match=f"^file: written by a newer charlm .format {RUN_FORMAT + 1}.; install"):
        check_format("file", RUN_FORMAT + 1)
    for number in (RUN_FORMAT - 1, 0, -1):
        with pytest.raises(
            FormatError, match=rf"^file: written by an older charlm \(format {number}\), .* again: "
        ):
            check_format("file", number)
    assert issubclass(FormatError, RunError)


def test_an_old_run_is_not_loaded(old_run: Path):
    with pytest.raises(FormatError) as caught:
        charlm.load(old_run)
    assert str(caught.value) == f"{old_run / 'vocabulary.json'}: {ADVICE}"


def test_an_old_run_is_not_gone_on_with_and_stays_as_it_is(old_run: Path, tiny_corpus: Path):
    before = contents(old_run)
    for config in (None, {"corpus": {"path": str(tiny_corpus)}}):
        with pytest.raises(FormatError) as caught:
            charlm.train(config, resume=True, out=old_run, budget="60 steps")
        assert str(caught.value) == f"{old_run / 'last' / 'checkpoint.safetensors'}: {ADVICE}"
        assert contents(old_run) == before


def test_no_training_begins_with_an_old_run(old_run: Path, tiny_corpus: Path, tmp_path: Path):
    with pytest.raises(FormatError) as caught:
        charlm.train(from_run=old_run, corpus=tiny_corpus, out=tmp_path / "new")
    assert str(caught.value) == f"{old_run / 'vocabulary.json'}: {ADVICE}"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", FILES)
def test_one_file_of_an_old_run_among_new_ones_is_refused_by_its_name(
    tmp_path: Path, tiny_mixture_run: Path, name: str
):
    folder = Path(shutil.copytree(tiny_mixture_run, tmp_path / "run"))
    age(folder / name)
    reads = partial(charlm.train, resume=True, out=folder) if "last" in name else partial(charlm.load, folder)
    with pytest.raises(FormatError) as caught:
        reads()
    assert str(caught.value) == f"{folder / name}: {ADVICE}"


@pytest.mark.parametrize(
    "command",
    ["score RUN text", "pairs OTHER PAIRS --against RUN", "sample RUN", "eval RUN", "inspect RUN",
     "train --resume --out RUN", "train --from RUN --corpus TEXT --out OUT"],
)  # fmt: skip
def test_each_command_refuses_an_old_run_with_the_same_message(
    command: str, old_run: Path, tiny_run: Path, tiny_corpus: Path, tmp_path: Path
):
    (pairs := tmp_path / "pairs.tsv").write_text("the boat\tthe boar\n")
    places = {"RUN": old_run, "OTHER": tiny_run, "TEXT": tiny_corpus, "OUT": tmp_path / "out", "PAIRS": pairs}
    message = refused(*(places.get(word, word) for word in command.split()))
    assert message.startswith(f"charlm: {old_run}/")
    assert message.endswith(f": {ADVICE}\n")
    assert not (tmp_path / "out").exists()


def test_who_follows_the_message_has_the_model_anew(old_run: Path, tmp_path: Path):
    copy = tmp_path / "copy.yaml"
    shutil.copy(old_run / "config.yaml", copy)
    result = run("config", "check", copy)
    assert result.exit_code == 2
    named = [line.split(" (line")[0].strip() for line in result.stderr.splitlines()[1:]]
    assert named == ["model.reset", "model.forget_bias", "model.recurrent_init", "training.backend"]
    lines = copy.read_text(encoding="utf-8").replace("  cell: gru\n", "  cell: gru-before\n").splitlines()
    kept = [line for line in lines if line.split(":")[0].strip() not in [key.split(".")[1] for key in named]]
    copy.write_text("\n".join(kept), encoding="utf-8")
    result = run("train", copy, "--out", tmp_path / "new", "--budget", "4 steps")
    assert result.exit_code == 0, result.stderr
    assert charlm.load(tmp_path / "new").config.model.cell == "gru-before"


def test_an_old_run_is_in_the_way_of_a_new_one(old_run: Path, tiny_corpus: Path):
    before = contents(old_run)
    with pytest.raises(CharlmError, match="already contains a run"):
        charlm.train(corpus=tiny_corpus, out=old_run, budget="2 steps")
    assert contents(old_run) == before
