"""`charlm sample`: text that follows from the seed, and harms no terminal."""

import io
import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import charlm
import commands
from charlm.cli import app

sample = partial(commands.answer, "sample")


def jsonl(*args: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sample(*args, "--format", "jsonl").splitlines()]


def test_text_is_the_sample_and_a_newline(tiny_run: Path) -> None:
    expected = next(charlm.load(tiny_run).sample(1, length=70, seed=3))
    assert sample(tiny_run, "--length", 70, "--seed", 3) == expected + "\n"


def test_jsonl_numbers_the_samples_of_the_python_interface(tiny_run: Path) -> None:
    rows = jsonl(tiny_run, "--count", 70, "--length", 15, "--seed", 4, "--temperature", 1)
    texts = list(charlm.load(tiny_run).sample(70, length=15, seed=4, temperature=1.0))
    assert rows == [
        {"sample": k, "seed": 4, "prompt": "", "text": text, "ended": "length"} for k, text in enumerate(texts)
    ]
    assert list(rows[0]) == ["sample", "seed", "prompt", "text", "ended"]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tiny_run: Path) -> None:
    first = sample(tiny_run, "--seed", 7, "--count", 3)
    assert sample(tiny_run, "--seed", 7, "--count", 3) == first
    assert sample(tiny_run, "--seed", 8, "--count", 3) != first


@pytest.mark.parametrize("seed", [2**63, 2**64 - 1])
def test_a_large_seed_is_refused_or_a_seed_of_its_own(seed: int, tiny_run: Path) -> None:
    result = commands.run("sample", tiny_run, "--seed", seed)
    assert result.exit_code in (0, 2)
    assert result.stdout not in {sample(tiny_run, "--seed", near) for near in (0, 1, 2**63 - 1)}


def test_one_sample_as_it_is_written_is_sample_zero_of_many(tiny_run: Path) -> None:
    streamed = sample(tiny_run, "--prompt", "the ", "--seed", 5)
    assert streamed == jsonl(tiny_run, "--prompt", "the ", "--seed", 5, "--count", 3)[0]["text"] + "\n"
    assert sample(tiny_run, "--prompt", "the ", "--seed", 5, "--count", 3).startswith(streamed + "---\n")


def test_a_sample_depends_on_its_number_and_not_on_the_count(tiny_run: Path) -> None:
    assert jsonl(tiny_run, "--count", 3)[2] == jsonl(tiny_run, "--count", 6)[2]


@pytest.mark.parametrize("length", [1, 40, 333])
def test_length_is_exact_and_does_not_count_the_prompt(length: int, tiny_run: Path) -> None:
    assert len(sample(tiny_run, "--length", length)) == length + 1
    assert len(jsonl(tiny_run, "--length", length, "--prompt", "the boat")[0]["text"]) == length + len("the boat")


def test_without_a_length_that_of_the_run_is_taken(tiny_run: Path) -> None:
    assert len(jsonl(tiny_run)[0]["text"]) == 40


def test_the_settings_reach_the_drawing(tiny_run: Path) -> None:
    greedy = sample(tiny_run, "--temperature", 0, "--seed", 1)
    assert greedy == sample(tiny_run, "--temperature", 0, "--seed", 2)
    for option in (["--top-k", 1], ["--top-p", 1e-9], ["--min-p", 1]):
        assert sample(tiny_run, "--temperature", 1, *option, "--seed", 3) == greedy
    assert sample(tiny_run, "--temperature", 1, "--seed", 3) != greedy


def test_a_text_goes_on_from_its_prompt(tiny_run: Path) -> None:
    texts = [row["text"] for row in jsonl(tiny_run, "--prompt", "a miller ", "--count", 5)]
    assert all(text.startswith("a miller ") for text in texts)
    assert len(set(texts)) == 5


def test_a_prompt_file_is_the_prompt(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("the boat\nthe heron")
    from_file = sample(tiny_run, "--prompt-file", tmp_path / "prompt.txt")
    assert from_file == sample(tiny_run, "--prompt", "the boat\nthe heron")


def test_a_text_that_remembers_itself_is_another_and_the_same_each_time(tiny_mixture_run: Path) -> None:
    plain = ["--length", 300, "--temperature", 1, "--seed", 2, "--prompt", "eteo kobah eteo kobah\n"]
    remembered = sample(tiny_mixture_run, *plain, "--memory")
    assert remembered == sample(tiny_mixture_run, *plain, "--memory") != sample(tiny_mixture_run, *plain)
    texts = jsonl(tiny_mixture_run, *plain, "--memory", "--count", 3)  # side by side, each remembers its own
    assert texts[0]["text"] + "\n" == remembered
    settings = {"length": 300, "temperature": 1.0, "seed": 2, "prompt": "eteo kobah eteo kobah\n", "memory": True}
    assert "".join(charlm.load(tiny_mixture_run).stream(**settings)) + "\n" == remembered


def test_a_prompt_file_may_end_its_line_as_editors_do(tiny_lines_run: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("the boat\n")
    assert sample(tiny_lines_run, "--prompt-file", tmp_path / "prompt.txt").startswith("the boat")


@pytest.mark.parametrize("width", [1, 2, 3])
def test_a_text_ends_with_the_first_stop(width: int, tiny_run: Path) -> None:
    whole = jsonl(tiny_run, "--length", 60)[0]["text"]
    stop = whole[20 : 20 + width]
    expected = whole[: whole.index(stop) + width]
    assert jsonl(tiny_run, "--length", 60, "--stop", stop)[0]["text"] == expected
    assert sample(tiny_run, "--length", 60, f"--stop={stop}") == expected + "\n"


def test_json_lines_say_why_each_text_ended(tiny_run: Path, tiny_lines_run: Path) -> None:
    whole = jsonl(tiny_run, "--length", 60)[0]
    assert whole["ended"] == "length"
    stop = whole["text"][20:23]
    assert jsonl(tiny_run, "--length", 60, f"--stop={stop}")[0]["ended"] == "stop"
    at_the_end = whole["text"][: whole["text"].index(stop) + 3]
    assert jsonl(tiny_run, "--length", len(at_the_end), f"--stop={stop}")[0]["ended"] == "stop"  # both at once
    for row in jsonl(tiny_lines_run, "--count", 20, "--length", 30):
        assert row["ended"] == ("line" if len(row["text"]) < 30 else "length")


def test_only_new_leaves_prompt_and_stop_text_out(tiny_run: Path) -> None:
    whole = jsonl(tiny_run, "--prompt", "the ", "--length", 60)[0]["text"].removeprefix("the ")
    for width in (1, 3):
        stop = whole[20 : 20 + width]
        options = ["--prompt", "the ", "--length", 60, f"--stop={stop}", "--only-new"]
        expected = whole[: whole.index(stop)]
        assert jsonl(tiny_run, *options)[0]["text"] == expected
        assert sample(tiny_run, *options) == expected + "\n"
    assert sample(tiny_run, "--prompt", "the ", "--length", 60, "--only-new") == whole + "\n"
    assert (
        sample(tiny_run, "--prompt", "the ", "--length", 60, "--only-new", "--stop", "bread\nbread") == whole + "\n"
    )


@pytest.mark.parametrize("option", ["--prompt", "--stop"])
def test_what_the_model_cannot_write_is_refused_and_named(
    option: str, tiny_run: Path, tiny_lines_run: Path
) -> None:
    message = commands.refused("sample", tiny_run, option, "the µ河µ")
    assert "'µ' (U+00B5), '河' (U+6CB3)" in message
    assert {"--prompt": "the prompt", "--stop": "the stop text"}[option] in message
    for lines in ("the\nboat", "the\n", "the\rboat"):
        message = commands.refused("sample", tiny_lines_run, option, lines)
        assert "more than one line" in message
        assert "corpus.framing" in message


def test_a_file_of_prompts_has_one_a_line(tiny_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"the boat\r\n\na miller")
    rows = jsonl(tiny_run, "--prompts", file, "--count", 2)
    assert [(row["prompt"], row["sample"]) for row in rows] == [
        ("the boat", 0), ("the boat", 1), ("", 0), ("", 1), ("a miller", 0), ("a miller", 1),
    ]  # fmt: skip
    assert rows[4:] == jsonl(tiny_run, "--prompt", "a miller", "--count", 2)
    assert sample(tiny_run, "--prompts", file) == "\n---\n".join(row["text"] for row in rows[::2]) + "\n"
    assert sample(tiny_run, "--prompts", "-", input="the boat\n") == sample(tiny_run, "--prompt", "the boat")


def test_prompts_may_be_a_column(tiny_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"id": 7, "data": {"opening": "the boat"}}\n{"data": {"opening": "a miller"}}\n')
    lines = tmp_path / "prompts.txt"
    lines.write_text("the boat\na miller\n")
    written = sample(tiny_run, "--prompts", file, "--field", "data.opening")
    assert written == sample(tiny_run, "--prompts", lines)
    file.write_text("id,opening\n7,the boat\n8,画\n")
    refused = commands.refused("sample", tiny_run, "--prompts", file, "--field", "opening")
    assert f"{file}, line 3: the prompt" in refused
    assert "--prompts" in commands.refused("sample", tiny_run, "--field", "opening")


def test_a_file_of_prompts_may_be_in_another_encoding(tiny_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("the boat\n".encode("utf-16"))
    assert sample(tiny_run, "--prompts", file, "--encoding", "utf-16") == sample(tiny_run, "--prompt", "the boat")


def test_in_lines_framing_each_prompt_gives_a_line(tiny_lines_run: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("the boat\nthe heron\n")
    texts = sample(tiny_lines_run, "--prompts", tmp_path / "prompts.txt").splitlines()
    assert [text[:8] for text in texts] == ["the boat", "the hero"]


def test_a_bad_prompt_of_a_file_is_named_with_its_line_before_anything_is_written(
    tiny_run: Path, tmp_path: Path
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("the boat\nthe µ\n")
    assert f"{file}, line 2: the prompt" in commands.refused("sample", tiny_run, "--prompts", file)
    file.write_text("")
    assert "no prompts" in commands.refused("sample", tiny_run, "--prompts", file)
    assert "only one" in commands.refused("sample", tiny_run, "--prompts", file, "--prompt", "the")


def test_a_stop_inside_the_prompt_does_not_end_the_text(tiny_run: Path) -> None:
    assert len(jsonl(tiny_run, "--prompt", "the boat", "--stop", "boat")[0]["text"]) > len("the boat")


def test_several_texts_are_kept_apart(tiny_run: Path) -> None:
    texts = [row["text"] for row in jsonl(tiny_run, "--count", 3)]
    assert sample(tiny_run, "--count", 3) == "\n---\n".join(texts) + "\n"


def test_lines_framing_prints_one_line_a_sample(tiny_lines_run: Path) -> None:
    rows = jsonl(tiny_lines_run, "--count", 20, "--length", 50)
    texts = [row["text"] for row in rows]
    assert not any("\n" in text for text in texts)
    assert min(map(len, texts)) < 50  # a line ends where the model ends it
    assert sample(tiny_lines_run, "--count", 20, "--length", 50).splitlines() == texts
    assert sample(tiny_lines_run, "--length", 50) == texts[0] + "\n"


# ---------------------------------------------------------------------------------------------- escape sequences


@pytest.fixture(scope="module")
def dangerous_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows little but the escape character."""
    folder = tmp_path_factory.mktemp("dangerous")
    (folder / "corpus.txt").write_text("\x1b]m\t\n\u202e" * 30, encoding="utf-8")
    config = {
        "corpus": {"path": str(folder / "corpus.txt"), "framing": "stream", "split": "tail"},
        "model": {"hidden_size": 4},
        "training": {"budget": "1 steps", "batch_size": 4},
    }
    charlm.train(config, out=folder / "run")
    return folder / "run"


@pytest.mark.parametrize("count", [1, 2])
def test_a_terminal_never_gets_a_control_character(
    count: int, dangerous_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = sample(dangerous_run, "--count", count, "--temperature", 1)
    assert "\x1b" in raw
    screen = io.StringIO()
    with monkeypatch.context() as context:
        context.setattr(screen, "isatty", lambda: True)
        context.setattr(sys, "stdout", screen)
        app(["sample", str(dangerous_run), "--count", str(count), "--temperature", "1"], standalone_mode=False)
    shown = screen.getvalue()
    assert not {"\x1b", "\u202e"} & set(shown)
    assert shown == raw.replace("\x1b", r"\x1b").replace("\u202e", r"\u202e")


def test_jsonl_escapes_what_json_escapes(dangerous_run: Path) -> None:
    output = sample(dangerous_run, "--format", "jsonl", "--temperature", 1)
    assert "\x1b" not in output
    assert "\x1b" in json.loads(output)["text"]


# ------------------------------------------------------------------------------------------------------ --novel


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that often writes what it has read; its corpus is beside it."""
    folder = tmp_path_factory.mktemp("names")
    (folder / "names.txt").write_text("ab\nba\naab\nbb\nabb\n" * 20)
    config = {
        "corpus": {"path": str(folder / "names.txt"), "framing": "lines"},
        "model": {"hidden_size": 8},
        "training": {"budget": "30 steps", "batch_size": 8, "learning_rate": 0.02},
        "sampling": {"length": 9, "temperature": 1},
    }
    charlm.train(config, out=folder / "run")
    return folder / "run"


def test_novel_writes_no_line_of_the_corpus_and_says_how_many_were_refused(names: Path) -> None:
    result = commands.run("sample", names, "--novel", "--count", 90, "--seed", 4)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    known = (names.parent / "names.txt").read_text().split()
    assert len(lines) == 90
    assert not set(lines) & set(known)
    plain = sample(names, "--count", 900, "--seed", 4).splitlines()
    new = [number for number, line in enumerate(plain) if line not in known]
    assert lines == [plain[number] for number in new[:90]]
    tried = new[89] + 1
    assert result.stderr.split() == (
        f"--novel: {tried - 90} of {tried} samples were skipped, because they occur in the corpus".split()
    )
    assert tried > 100  # or this would test nothing
    assert sample_of(names, "--novel", "--count", 5, "--seed", 4) == "\n".join(lines[:5]) + "\n"
    assert sample_of(names, "--novel", "--seed", 4) == lines[0] + "\n"
    rows = [
        json.loads(row)
        for row in sample_of(names, "--novel", "--count", 5, "--seed", 4, "--format", "jsonl").splitlines()
    ]
    assert [(row["sample"], row["text"]) for row in rows] == [(number, plain[number]) for number in new[:5]]


def sample_of(*args: object) -> str:
    """Returns standard output, whatever is said beside it."""
    result = commands.run("sample", *args)
    assert result.exit_code == 0
    return result.stdout


def test_novel_ends_where_hardly_anything_is_new(names: Path) -> None:
    result = commands.run("sample", names, "--novel", "--temperature", 0, "--count", 3)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "the last 1,000 samples all occur in the corpus, after 0 new ones" in result.stderr


def test_novel_needs_the_corpus(names: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(names, run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("names.txt", "gone.txt"))
    assert "the corpus of this run is needed" in commands.refused("sample", run, "--novel")
    assert "gone.txt" in commands.refused("eval", run, "--samples", 3)


def test_novel_in_a_stream_is_a_text_that_stands_nowhere_in_the_corpus(tiny_run: Path, tiny_text: str) -> None:
    texts = [row["text"] for row in novel_rows(tiny_run, "--count", 40, "--length", 4, "--prompt", "the ")]
    assert all(text.startswith("the ") and text not in tiny_text for text in texts)
    texts = [row["text"] for row in novel_rows(tiny_run, "--count", 40, "--length", 4, "--only-new")]
    assert not any(text in tiny_text for text in texts)


def novel_rows(*args: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sample_of(*args, "--novel", "--format", "jsonl").splitlines()]
