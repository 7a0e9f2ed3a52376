"""What KenLM's and SRILM's readers find in our output; their own formulas give the perplexities it prints."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import commands
from charlm.cli.score_toolkits import token

LINES = ["the boat sees", "", "a ßmiller é", "tab\there"]
TEXT = "".join(line + "\n" for line in LINES)


refused = partial(commands.refused, "score")


def printed(*args: object, **options: Any) -> str:
    return commands.score(*args, **options).stdout


# -------------------------------------------------------------------------------------------------------- kenlm


def read_kenlm(output: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Reads what `query` prints: entries that end in a tab, the totals of the line, and four lines of summary."""
    *lines, including, excluding, oovs, tokens = output.removesuffix("\n").split("\n")
    sentences = []
    for line in lines:
        *entries, totals = line.split("\t")
        total, oov = re.fullmatch(r"Total: (\S+) OOV: (\d+)", totals).groups()  # type: ignore[union-attr]
        words = []
        for entry in entries:
            word, length, log10 = entry.split(" ")
            surface, _, word_id = word.rpartition("=")
            words.append((surface, int(word_id), int(length), float(log10)))
        sentences.append({"words": words, "total": float(total), "oov": int(oov)})
    summary = {}
    for line in (including, excluding, oovs, tokens):
        name, value = line.split(":\t")
        summary[name] = float(value)
    return sentences, summary


@pytest.mark.parametrize("run", ["tiny_run", "tiny_lines_run"])
@pytest.mark.parametrize("options", [[], ["--no-eos"], ["--no-bos"], ["--context", "the "]], ids=" ".join)
def test_kenlm_output_is_read_back_and_its_formula_gives_the_perplexities(
    run: str, options: list[str], request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(run)
    sentences, summary = read_kenlm(printed(folder, "--format", "kenlm", *options, input=TEXT))
    rows = commands.scores(folder, "--per-char", "--log-base", "10", *options, input=TEXT)

    total = oov_total = 0.0
    tokens = oovs = 0
    for sentence, row in zip(sentences, rows, strict=True):
        assert [w[0] for w in sentence["words"]] == [token(char["char"]) for char in row["chars"]]
        assert [w[3] for w in sentence["words"]] == pytest.approx([c["logprob"] for c in row["chars"]], rel=1e-6)
        assert sentence["total"] == pytest.approx(row["logprob"], rel=1e-6)
        assert sentence["oov"] == row["unknown"] == sum(word_id == 0 for _, word_id, _, _ in sentence["words"])
        # as lm/ngram_query.hh has it
        for _, word_id, _, log10 in sentence["words"]:
            total += log10
            tokens += 1
            if word_id == 0:
                oov_total += log10
                oovs += 1
    assert summary == {
        "Perplexity including OOVs": pytest.approx(10 ** (-total / tokens), rel=1e-5),
        "Perplexity excluding OOVs": pytest.approx(10 ** (-(total - oov_total) / (tokens - oovs)), rel=1e-5),
        "OOVs": oovs,
        "Tokens": tokens,
    }


def test_kenlm_entries_hold_the_vocabularys_ids_and_the_length_of_the_context(tiny_run: Path) -> None:
    symbols = json.loads((tiny_run / "vocabulary.json").read_text(encoding="utf-8"))["characters"]

    def ids_and_lengths(*options: str) -> list[tuple[int, int]]:
        ((sentence,), _) = read_kenlm(printed(tiny_run, "bß a", "--format", "kenlm", *options))
        return [(word_id, length) for _, word_id, length, _ in sentence["words"]]

    ids = [symbols.index("b"), 0, symbols.index(" "), symbols.index("a"), symbols.index("\n")]
    assert ids_and_lengths() == list(zip(ids, range(2, 7), strict=True))  # itself and the <s> before it
    assert ids_and_lengths("--no-bos", "--no-eos") == list(zip(ids[:-1], range(1, 5), strict=True))
    assert ids_and_lengths("--context", "the ") == list(zip(ids, range(6, 11), strict=True))


def test_kenlm_streams_its_answers_and_a_file_without_lines_has_a_summary_only(tiny_run: Path) -> None:
    sentences, summary = read_kenlm(printed(tiny_run, "--format", "kenlm", input=""))
    assert sentences == []
    assert (summary["OOVs"], summary["Tokens"]) == (0, 0)
    assert summary["Perplexity including OOVs"] == summary["Perplexity excluding OOVs"] == 1


# -------------------------------------------------------------------------------------------------------- srilm

STATISTICS = re.compile(
    r"(\d+) sentences, (\d+) words, (\d+) OOVs\n(\d+) zeroprobs, logprob= (\S+) ppl= (\S+) ppl1= (\S+)\n"
)


def read_statistics(text: str) -> dict[str, Any]:
    found = STATISTICS.fullmatch(text)
    assert found, text
    names = ("sentences", "words", "oovs", "zeroprobs")
    counts = dict(zip(names, map(int, found.groups()[:4]), strict=True))
    return {**counts, "logprob": float(found[5]), "ppl": found[6], "ppl1": found[7]}


def read_srilm(output: str) -> tuple[list[dict[str, Any]], str, dict[str, Any]]:
    """Reads what `ngram -ppl FILE -debug 2` prints: blocks, each ended by an empty line, and the totals."""
    *blocks, last = re.split(r"(?<=\n)\n(?=\S|\n\t)", output)
    sentences = []
    for block in blocks:
        text, *rest = block.removesuffix("\n").split("\n")
        tokens = []
        while rest[0].startswith("\t"):
            entry = re.fullmatch(r"\tp\( (\S+) \| (\S*) (\.\.\.)?\) \t= \[(\w+)\] (\S+) \[ (\S+) \]", rest.pop(0))
            assert entry
            tokens.append(entry.groups())
        sentences.append({"text": text, "tokens": tokens, **read_statistics("\n".join(rest) + "\n")})
    name, _, statistics = last.partition(": ")
    return sentences, name, read_statistics(statistics)


def ppl(logprob: float, denominator: int) -> Any:
    """SRILM's TextStats: 10^(-logprob/denominator), undefined where nothing is left to divide by."""
    return pytest.approx(10 ** (-logprob / denominator), rel=1e-4) if denominator > 0 else "undefined"


def number(text: str) -> float | str:
    return text if text == "undefined" else float(text)


@pytest.mark.parametrize("run", ["tiny_run", "tiny_lines_run"])
@pytest.mark.parametrize("options", [[], ["--no-eos"], ["--no-bos"], ["--context", "the "]], ids=" ".join)
def test_srilm_output_is_read_back_and_its_formula_gives_the_perplexities(
    run: str, options: list[str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(run)
    lines = [line for line in LINES if line]  # an empty one with --no-eos has no statistics, as there
    path = tmp_path / "lines.txt"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    sentences, name, total = read_srilm(printed(folder, "--file", path, "--format", "srilm", *options))
    rows = commands.scores(folder, "--file", path, "--per-char", "--log-base", "10", *options)

    assert name == f"file {path}"
    for sentence, row in zip(sentences, rows, strict=True):
        own = [char["char"] for char in row["chars"] if char["char"] != "</s>"]
        assert sentence["text"].split(" ") == [token(char) for char in own]
        known = 0.0
        for (word, _, _, found, p, log10), char in zip(sentence["tokens"], row["chars"], strict=True):
            if char["unknown"]:
                assert (word, found, p, log10) == ("<unk>", "OOV", "0", "-inf")
            else:
                assert word == token(char["char"])
                assert float(log10) == pytest.approx(char["logprob"], rel=1e-5)
                assert float(p) == pytest.approx(10 ** float(log10), rel=1e-4)
                known += float(log10)
        assert sentence["sentences"] == (0 if "--no-eos" in options else 1)
        assert (sentence["words"], sentence["oovs"]) == (len(own), row["unknown"])
        assert sentence["logprob"] == pytest.approx(known, rel=1e-4)
    for name in ("sentences", "words", "oovs", "zeroprobs", "logprob"):
        assert total[name] == pytest.approx(sum(sentence[name] for sentence in sentences), rel=1e-4)
    for one in (*sentences, total):
        denominator = one["words"] - one["oovs"] - one["zeroprobs"]
        assert number(one["ppl"]) == ppl(one["logprob"], denominator + one["sentences"])
        assert number(one["ppl1"]) == ppl(one["logprob"], denominator)


def test_srilm_names_the_symbol_before_each_and_the_length_of_the_context(tiny_run: Path) -> None:
    def contexts(*options: str) -> list[str]:
        output = printed(tiny_run, "bß", "--format", "srilm", *options)
        return re.findall(r"p\( (.*\) \t= \[\w+\])", output)

    assert contexts() == ["b | <s> ) \t= [2gram]", "<unk> | b ...) \t= [OOV]", "</s> | <unk> ...) \t= [4gram]"]
    assert contexts("--no-bos", "--no-eos") == ["b |  ) \t= [1gram]", "<unk> | b ...) \t= [OOV]"]
    assert contexts("--context", "a ")[0] == "b | <space> ...) \t= [4gram]"


def test_srilm_statistics_of_nothing_known_are_undefined(tiny_run: Path) -> None:
    output = printed(tiny_run, "ß", "--no-eos", "--format", "srilm")
    assert output.endswith("0 zeroprobs, logprob= 0 ppl= undefined ppl1= undefined\n")


# ---------------------------------------------------------------------------------------------------------- both


@pytest.mark.parametrize(
    ("char", "name"),
    [
        (" ", "<space>"),
        ("\t", "<U+0009>"),
        ("\u3000", "<U+3000>"),
        ("\u2028", "<U+2028>"),
        ("\udce9", "<U+DCE9>"),
        ("=", "="),
        ("河", "河"),
        ("</s>", "</s>"),
    ],
)
def test_a_character_is_one_visible_word(char: str, name: str) -> None:
    assert token(char) == name
    assert name.split() == [name]


@pytest.mark.parametrize("output", ["kenlm", "srilm"])
@pytest.mark.parametrize(
    "options", [["--rank"], ["--measure", "slor"], ["--log-base", "e"], ["--alternatives", "2"]], ids=" ".join
)
def test_options_that_those_formats_cannot_show_are_refused(
    output: str, options: list[str], tiny_run: Path
) -> None:
    message = refused(tiny_run, "a", "--format", output, *options)
    assert f"--format {output} does not support {options[0]}" in message
    assert "a=" in printed(tiny_run, "a", "--format", "kenlm", "--log-base", "10")


def test_each_form_counts_unknown_characters_in_its_own_way(tiny_run: Path) -> None:
    assert "--unknown skip" in refused(tiny_run, "a", "--format", "kenlm", "--unknown", "skip")
    assert "--unknown spread" in refused(tiny_run, "a", "--format", "srilm", "--unknown", "spread")
    assert "U+00DF" in refused(tiny_run, "ß", "--format", "kenlm", "--unknown", "error")
    assert "they are not scored" in commands.score(tiny_run, "ß", "--format", "srilm").stderr
    assert "of the probability of <unk>" in commands.score(tiny_run, "ß", "--format", "kenlm").stderr
