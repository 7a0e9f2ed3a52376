"""`charlm config` and `charlm corpus`: what a training would be, and what it would learn from."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from charlm.config import keys, load_config
from commands import answer, run


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line)


# --------------------------------------------------------------------------------------------- init, show, schema


def test_init_gives_a_configuration_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("new.yaml").write_text(answer("config", "init", "my text.txt"), encoding="utf-8")
    assert load_config("new.yaml") == load_config(None, {"corpus.path": "my text.txt"})
    text = answer("config", "init", "my text.txt", "--set", "model.cell=gru", "--set", "sampling.top_k=5")
    Path("gru.yaml").write_text(text, encoding="utf-8")
    assert (load_config("gru.yaml").model.cell, load_config("gru.yaml").sampling.top_k) == ("gru", 5)


def test_init_explains_every_key_above_it() -> None:
    section, comment, explained = "", "", {}
    for line in answer("config", "init").splitlines():
        name = line.strip().partition(":")[0]
        if line.startswith("  # "):
            comment += line.removeprefix("  #")
        elif line.startswith("  "):
            explained[f"{section}.{name}"] = comment
            comment = ""
        elif line and not line.startswith("#"):
            section = name
    assert explained.keys() == dict(keys()).keys()
    for key, field in keys():
        assert field.description
        assert field.description in explained[key]


def test_init_with_a_misspelt_key_is_refused() -> None:
    result = run("config", "init", "--set", "model.cel=gru")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean model.cell?" in result.stderr


def test_show_fills_in_every_default_and_means_the_same(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("corpus: {path: sub/text.txt}\nmodel: {hidden_size: 32}\n")
    shown = answer("config", "show", config)
    (tmp_path / "shown.yaml").write_text(shown, encoding="utf-8")
    assert load_config(tmp_path / "shown.yaml") == load_config(config)
    found = {f"{section}.{key}" for section, inner in yaml.safe_load(shown).items() for key in inner}
    assert found == dict(keys()).keys()
    assert yaml.safe_load(shown)["corpus"]["path"] == str(tmp_path / "sub/text.txt")


def test_show_puts_the_command_lines_values_in(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("corpus: {path: a}\nmodel: {hidden_size: 32}\n")
    options = ["--set", "model.hidden_size=48", "--budget", "7 steps", "--corpus", "/elsewhere/b"]
    shown = yaml.safe_load(answer("config", "show", tmp_path / "config.yaml", *options))
    assert shown["model"]["hidden_size"] == 48
    assert shown["training"]["budget"] == "7 steps"
    assert shown["corpus"]["path"] in ("/elsewhere/b", ["/elsewhere/b"])


def test_schema_is_json_that_describes_every_key() -> None:
    schema = json.loads(answer("config", "schema"))
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["required"] == ["corpus"]
    described = {}
    for section, reference in schema["properties"].items():
        name = reference.get("$ref", "").rpartition("/")[2]
        described |= {f"{section}.{key}": value for key, value in schema["$defs"][name]["properties"].items()}
        assert schema["$defs"][name]["additionalProperties"] is False
    assert described.keys() == dict(keys()).keys()
    assert all(value["description"] for value in described.values())
    assert described["model.hidden_size"]["minimum"] == 1
    assert described["model.cell"]["enum"] == ["rnn", "lstm", "gru", "gru-before"]


# --------------------------------------------------------------------------------------------------------- check


def test_check_tells_what_the_training_would_be_and_writes_nothing(
    tiny_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text(tiny_text[:1000] + "~" + tiny_text[1000:] + "é" * 200, encoding="utf-8")
    config = {
        "corpus": {"path": "text.txt", "framing": "stream", "split": "tail", "test": 0.05},
        "model": {"cell": "lstm", "hidden_size": 8},
        "training": {"budget": "3 epochs", "batch_size": 4, "sequence_length": 16},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*")}
    result = run("config", "check", "config.yaml")
    found = dict(cells(line) for line in result.stdout.splitlines())
    assert result.stderr.startswith("validation: the end of the text (")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*")} == before

    total = len(tiny_text) + 201
    train = int(total * 0.85)
    validation = (total - train) * 2 // 3
    V, H, rows = len(set(tiny_text)) + 2, 8, -(-train // 4)  # V: ~ and <unk> are new, é is not in the training text
    assert found["training text"] == f"{train:,} characters"
    assert found["validation"].startswith(f"{validation} characters, ")
    assert found["test"] == f"{total - train - validation} characters"
    assert 0 < float(re.search(r"([\d.]+)% of them unknown", found["validation"])[1]) <= 100
    assert found["vocabulary"] == f"{V} symbols; 1 character occurs once or twice: ~"
    assert found["windows"] == f"{-(-rows // 16)} of 4 x 16 per epoch"
    assert found["parameters"] == f"{4 * H * (V + H) + 8 * H + V * H + V:,}"
    assert re.match(r"[\d.,]+ [MG]B at most", found["memory"])
    assert re.match(r"[\d,]+ characters per second", found["speed"])
    assert re.fullmatch(r"3 epochs: about .+, 3\.0 epochs", found["budget"])


def test_check_says_which_lines_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("short\n" * 99 + "a long line\n")
    config = "corpus: {path: text.txt, framing: lines, max_line_length: 6}\nmodel: {hidden_size: 4}\n"
    (tmp_path / "config.yaml").write_text(config)
    result = run("config", "check", tmp_path / "config.yaml", "--budget", "1 epochs")
    assert result.exit_code == 0
    assert "1 of 100 lines is longer than 6 characters and is left out" in result.stderr


def test_check_says_of_the_text_what_training_says(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a line of the text\n" * 900 + "Ωψ ωμέγα ξένο\n" * 100, encoding="utf-8")
    config = ["--set", "corpus.split=tail", "--set", "corpus.framing=stream", "--set", "model.hidden_size=4"]
    (tmp_path / "config.yaml").write_text(f"corpus: {{path: {tmp_path / 'text.txt'}}}\n")
    checked = run("config", "check", tmp_path / "config.yaml", "--budget", "1 steps", *config)
    trained = run("train", tmp_path / "config.yaml", "--budget", "1 steps", *config, "--out", tmp_path / "run")
    remarks = checked.stderr.splitlines()
    assert [remark.split()[0] for remark in remarks] == ["validation:", "warning:", "warning:"]
    assert trained.stderr.splitlines()[: len(remarks)] == remarks


# -------------------------------------------------------------------------------------------------------- corpus


@pytest.fixture
def cache(tmp_path: Path) -> dict[str, str]:
    """An environment in which nothing was ever downloaded."""
    return {"CHARLM_CACHE": str(tmp_path / "cache")}


def test_list_shows_name_size_licence_and_checksum(cache: dict[str, str]) -> None:
    header, *rows = answer("corpus", "list", env=cache).splitlines()
    assert header.split() == ["name", "size", "licence", "sha256", "what"]
    listed = {row.split()[0]: row for row in rows}
    assert listed.keys() >= {"english", "chinese", "python", "tiny-shakespeare"}
    english = Path(run("corpus", "fetch", "english", env=cache).stdout.removesuffix("\n")).read_bytes()
    assert f" {len(english) / 1000:.1f} kB " in listed["english"]
    assert f" {hashlib.sha256(english).hexdigest()[:16]} " in listed["english"]
    assert " MIT" in listed["english"]
    assert cells(listed["tiny-shakespeare"])[1:4] == ["1.1 MB", "public domain", "86c4e6aa9db7c042"]
    starts = {row.index(cells(row)[-1]) for row in rows}
    assert starts == {header.index("what")}


@pytest.mark.parametrize("name", ["english", "chinese"])
def test_fetch_of_a_shipped_corpus_prints_its_path_and_nothing_else(name: str, cache: dict[str, str]) -> None:
    result = run("corpus", "fetch", name, env=cache)
    assert result.exit_code == 0
    path = Path(result.stdout.removesuffix("\n"))
    assert path.is_absolute()
    assert path.read_text(encoding="utf-8")
    assert result.stderr == ""
    assert run("corpus", "stats", path).exit_code == 0


@pytest.fixture
def mirror() -> Iterator[str]:
    """The address of a server on this machine that gives the same wrong text for every path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "12")
            self.end_headers()
            self.wfile.write(b"wrong names\n")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/names.txt"
        server.shutdown()
        thread.join()


def test_a_download_with_a_wrong_checksum_is_refused_and_not_kept(
    mirror: str, cache: dict[str, str], tmp_path: Path
) -> None:
    result = run("corpus", "fetch", "names", "--source", mirror, env=cache)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{mirror} did not give corpus 'names'" in result.stderr
    assert hashlib.sha256(b"wrong names\n").hexdigest() in result.stderr
    assert "Traceback" not in result.stderr
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_mirror_that_is_not_there_is_named(cache: dict[str, str]) -> None:
    result = run("corpus", "fetch", "names", "--source", "http://127.0.0.1:1/names.txt", env=cache)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "http://127.0.0.1:1/names.txt" in result.stderr


def test_stats_counts_a_known_text(tmp_path: Path) -> None:
    lines = ["aaa b", "", "河边的船\x1b", "aa aa aa"]
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    found = dict(cells(line)[:2] for line in answer("corpus", "stats", tmp_path / "text.txt").splitlines())
    printed = answer("corpus", "stats", tmp_path / "text.txt")
    assert found["characters"] == str(5 + 0 + 5 + 8 + 3)
    assert found["bytes"] == str(5 + 13 + 8 + 3)
    assert found["lines"] == "4"
    assert found["vocabulary"] == "9 different characters"  # a, b, space, newline, four of Chinese and the escape
    assert found["frequent"] == "a 9"
    assert "␣ 3" in printed
    assert r"\n 3" in printed
    assert "6 occur once or twice: " in printed
    assert r"\x1b 1" in printed
    assert "\x1b" not in printed
    assert found["longest lines"] == "8 characters (line 4)"


def test_stats_counts_a_column_and_says_which_files_look_like_columns(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text('{"id": 7, "data": {"text": "ab"}}\n{"data": {"text": "c"}}\n')
    (tmp_path / "text").write_text("ab\nc\nab\nc\n")
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    assert answer("corpus", "stats", *files, "--field", "data.text") == answer("corpus", "stats", tmp_path / "text")
    noted = run("corpus", "stats", *files).stderr
    assert f"{files[0]}, {files[1]}: look like JSON lines" in "".join(noted.split("\n"))
    assert "--field reads only one of them" in noted.replace("\n", " ")


def test_stats_reads_several_files_and_standard_input(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab\n")
    (tmp_path / "b.txt").write_text("cd\n")
    of_files = answer("corpus", "stats", tmp_path / "a.txt", tmp_path / "b.txt")
    assert of_files == answer("corpus", "stats", "-", input="ab\ncd\n")
    assert of_files == answer("corpus", "stats", tmp_path)
    assert cells(of_files.splitlines()[0]) == ["characters", "6"]
