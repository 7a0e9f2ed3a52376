"""What a configuration may say, what a person is told when it is wrong, and how it is written and read back."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from charlm import config as module
from charlm.config import Config, allowed, json_schema, keys, load_config, parse_amount, parse_assignment, to_yaml
from charlm.errors import ConfigError

relaxed = settings(deadline=None, max_examples=60)
Write = Callable[[str | bytes], Path]
EXAMPLES = "write for example 3m, 90s, 20 epochs, 5000 steps or 10M characters"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration file and returns its path."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "config.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def load(key: str, value: Any) -> Config:
    """A configuration of defaults but for one key."""
    return load_config(None, {"corpus.path": "/x", key: value})


def refused(source: Any = None, overrides: dict[str, Any] | None = None) -> str:
    """The message with which a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides)
    return str(caught.value)


def test_all_but_the_corpus_has_a_default() -> None:
    expected = """
        corpus: {path: /x, framing: stream, level: character, validation: 0.1, test: 0.0, normalization: none,
                 lowercase: false, min_count: 1, max_line_length: null}
        model: {cell: lstm, hidden_size: 256, num_layers: 1, reset: after, bias: true, embedding_size: null,
                dropout: 0.0, forget_bias: 1.0, recurrent_init: orthogonal}
        training: {budget: 3m, batch_size: 16, sequence_length: 64, optimizer: adamw, learning_rate: 0.004,
                   momentum: 0.0, beta2: 0.99, weight_decay: 0.01, schedule: linear, warmup: 0.05, clip_norm: 1.0,
                   evaluate_every: 10%, early_stopping: null, seed: 1, device: auto}
        sampling: {length: 200, temperature: 0.8, top_k: null, top_p: null, min_p: null}"""
    assert load("corpus.path", "/x").model_dump() == yaml.safe_load(expected)


def test_a_configuration_without_a_corpus_says_so(write: Write) -> None:
    for source in (None, {}, write(""), write("# nothing but a comment\n")):
        assert "corpus: missing" in refused(source)


def test_a_number_may_be_written_in_scientific_notation_without_a_point(write: Write) -> None:
    training = load_config(write("corpus: {path: x}\ntraining: {learning_rate: 4e-3, clip_norm: 1E+2}\n")).training
    assert (training.learning_rate, training.clip_norm) == (0.004, 100.0)


FAULTY = """\
corpus: {framing: rows}
model:
  cell: transformer
  embedding_size: 0
  hiden_size: 2
training:
  learning_rate: fast
  budget: soon
  batch_size: true
sampling: 3
"""


def test_every_problem_is_reported_at_once_with_its_key_line_value_and_what_is_allowed(write: Write) -> None:
    path = write(FAULTY)
    head, *problems = refused(path).splitlines()
    assert head == f"{path}: 9 problems"
    assert {problem.strip() for problem in problems} == {
        f"corpus.path: missing; give {dict(keys())['corpus.path'].description}",
        "corpus.framing (line 1) = 'rows': must be one of stream, lines",
        "model.cell (line 3) = 'transformer': must be one of rnn, lstm, gru",
        "model.embedding_size (line 4) = 0: must be an integer, at least 1, at most 16384 or null",
        "model.hiden_size (line 5): unknown key; did you mean model.hidden_size?",
        "training.learning_rate (line 7) = 'fast': must be a number, above 0, at most 1000",
        f"training.budget (line 8) = 'soon': {EXAMPLES}",
        "training.batch_size (line 9) = True: must be an integer, at least 1, at most 65536",
        "sampling (line 10) = 3: must be a section of keys and values",
    }


@pytest.mark.parametrize(
    "pair",
    [
        *("model.hiden_size > model.hidden_size", "training.optimiser > training.optimizer", "modle > model"),
        *("training.hidden_size > model.hidden_size", "sampling.seed > training.seed"),  # in another section
        *("hidden_size > model.hidden_size", "training.droput > model.dropout"),  # no section; both wrong
    ],
)
def test_a_misspelt_or_misplaced_key_is_answered_with_the_right_one(pair: str) -> None:
    wrong, right = pair.split(" > ")
    assert f"{wrong}: unknown key; did you mean {right}?" in refused(None, {"corpus.path": "x", wrong: 1})


@pytest.mark.parametrize("key", ["model.zzzz", "training.epochs", "corpus.files"])
def test_a_key_whose_name_is_like_no_other_is_unknown_without_a_guess(key: str) -> None:
    assert refused(None, {"corpus.path": "x", key: 1}).endswith(f"{key}: unknown key")


def test_a_section_and_key_joined_by_a_dot_in_a_file_are_not_answered_with_themselves(write: Write) -> None:
    message = refused(write("corpus: {path: x}\nmodel.cell: rnn\n"))
    assert "model.cell (line 2)" in message
    assert "did you mean model.cell?" not in message


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("training.seed", -1, "at least 0, below 4294967296"),
        ("corpus.path", "", "corpus.path"),
        ("corpus.path", [], "corpus.path"),
        ("training.budget", "10%", "training.budget = '10%': a budget is a time"),
        ("training.evaluate_every", "0%", EXAMPLES),
        ("training.weight_decay", float("nan"), "training.weight_decay = nan: must be a number, at least 0"),
        ("model.forget_bias", float("inf"), "model.forget_bias = inf: must be a number"),
        ("model", "lstm", "model = 'lstm': must be a section"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(key: str, value: Any, expected: str) -> None:
    assert expected in refused(None, {"corpus.path": "x", key: value})


FAULTS_OF_YAML: dict[str, tuple[str | bytes, str]] = {
    "syntax": ("corpus: {path: x\nmodel: 3\n", "line 2, column 6: YAML: "),
    "key twice": (
        "corpus: {}\nmodel:\n  cell: a\n  cell: b\n",
        "line 4: model.cell stands twice (before in line 3)",
    ),
    "section twice": ("model: {}\ncorpus: {}\nmodel: {}\n", "line 3: model stands twice (before in line 1)"),
    "alias": ("corpus: &c {path: x}\nmodel: *c\n", "line 2, column 8: YAML: aliases (*name) are not used here"),
    "python tag": ("corpus: {path: !!python/name:os.system }\n", "line 1, column 16: YAML: could not determine"),
    "python tag on a section": ("corpus: {path: x}\nmodel: !!python/object/new:dict {cell: rnn}\n", "line 2"),
    "deep list": ("corpus: " + "[" * 9999, "nested too deeply"),
    "deep mapping": ("corpus: " + "{a: " * 9999, "nested too deeply"),
    "not UTF-8": (b"corpus: caf\xe9\n", "not UTF-8 text (byte 11)"),
    "not UTF-8 behind a byte order mark": (b"\xef\xbb\xbfcorpus: caf\xe9\n", "not UTF-8 text (byte 14)"),
    "list": ("- corpus\n- model\n", "not a configuration"),
    "word": ("corpus", "not a configuration"),
    "two documents": ("corpus: {}\n---\nmodel: {}\n", "line 2, column 1: YAML: but found another document"),
    "NUL": ("corpus: {path: 'a\0b'}\n", "YAML: unacceptable character #x0000"),
    "date": ("corpus: {path: 2024-13-45}\n", "YAML: month must be in 1..12"),
    "integer too long to read": ("training: {seed: " + "9" * 5000 + "}\n", "YAML: Exceeds the limit"),
    "integer too long to write": ("training: {seed: 0x" + "f" * 5000 + "}\n", "training.seed"),
    "too large": (b"#" * (module.MAX_CONFIG_BYTES + 1), "larger than a configuration can be"),
}


@pytest.mark.parametrize("fault", FAULTS_OF_YAML)
def test_a_fault_in_the_yaml_is_one_message_that_names_the_place(write: Write, fault: str) -> None:
    content, expected = FAULTS_OF_YAML[fault]
    path = write(content)
    message = refused(path)
    assert message.startswith(str(path))
    assert expected in message


def test_a_byte_order_mark_and_the_largest_size_are_allowed(write: Write) -> None:
    text = b"\xef\xbb\xbfcorpus: {path: /x}\n"
    assert load_config(write(text + b"#" * (module.MAX_CONFIG_BYTES - len(text)))).corpus.path == "/x"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert refused(missing) == f"{missing}: cannot read the configuration: No such file or directory"
    assert refused(tmp_path) == f"{tmp_path}: cannot read the configuration: Is a directory"


def test_overrides_win_and_are_not_blamed_on_a_line_of_the_file(write: Write) -> None:
    source = {"corpus": {"path": "/x"}, "model": {"hidden_size": 8, "cell": "gru"}}
    path = write(yaml.safe_dump(source))
    for same in (source, path):
        config = load_config(same, {"model.hidden_size": 9, "training.seed": 7})
        assert (config.model.hidden_size, config.model.cell, config.training.seed) == (9, "gru", 7)
    assert source["model"] == {"hidden_size": 8, "cell": "gru"}  # the caller's own is left as it was
    assert "model.hidden_size = 0: must be" in refused(path, {"model.hidden_size": 0})


def test_a_path_is_relative_to_its_file_and_an_override_to_the_working_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", "/home/me")
    path = write("corpus: {path: [a/*.txt, /b, '-', 'corpus:names', ~/c]}\n")
    for same in (path, "../config.yaml"):
        found = [str(tmp_path / "a/*.txt"), "/b", "-", "corpus:names", "/home/me/c"]
        assert load_config(same).corpus.path == found
    for given_path in ("-", "corpus:names", "/b"):
        assert load_config(path, {"corpus.path": given_path}).corpus.path == given_path
    assert load_config(path, {"corpus.path": "a"}).corpus.path == str(elsewhere / "a")
    assert load_config({"corpus": {"path": "a"}}).corpus.path == str(elsewhere / "a")


def test_the_home_of_an_unknown_user_stands_as_written_like_in_a_shell() -> None:
    assert str(load("corpus.path", "~no-such-user/x").corpus.path).endswith("~no-such-user/x")


def test_an_assignment_is_a_key_and_a_value_in_yaml() -> None:
    values = {"128": 128, "4e-3": 0.004, "false": False, "null": None, "20 epochs": "20 epochs", "a=b": "a=b"}
    for text, value in {**values, "[a, b]": ["a", "b"]}.items():
        assert parse_assignment(f" section.key ={text}") == ("section.key", value)


NO_ASSIGNMENTS = ["", "model.cell", "=3", " =3", "a=[1", "a=*b", "a=!!python/name:os.system ", "a=2024-13-45"]


@pytest.mark.parametrize("text", [*NO_ASSIGNMENTS, "a=" + "[" * 9999], ids=lambda text: text[:9])
def test_what_is_no_assignment_is_refused_and_shown(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_assignment(text)
    assert str(caught.value).startswith(f"--set {text[:100]}")


NO_AMOUNTS = ["soon", "", " ", "3", "m", "m3", "-3m", "0 epochs", "3 weeks", "1..5s", ".s", "10M", "0m0s", "101%%"]


@pytest.mark.parametrize("text", [*NO_AMOUNTS, "9" * 400 + " steps"], ids=lambda text: text[:9])
def test_what_is_no_positive_finite_amount_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=EXAMPLES):
        parse_amount(text)


@relaxed
@given(st.integers(1, 10**6), st.sampled_from(["epoch", "step", "character"]), st.sampled_from(["", " "]))
def test_a_count_is_read_as_written_with_any_scale(number: int, unit: str, gap: str) -> None:
    for scale, factor in {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}.items():
        for ending in ("", "s"):
            assert parse_amount(f" {number:_}{gap}{scale}{unit}{ending} ") == (f"{unit}s", number * factor)
    assert parse_amount(f"{number / 4}{gap}%") == ("percent", number / 4)


@relaxed
@given(st.lists(st.integers(0, 99), min_size=4, max_size=4).filter(any))
def test_a_time_is_the_sum_of_its_days_hours_minutes_and_seconds(parts: list[int]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in zip(parts, "dhms", strict=True) if number)
    days, hours, minutes, seconds = parts
    assert parse_amount(text) == ("seconds", ((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def any_value(key: str, field: FieldInfo) -> st.SearchStrategy[Any]:
    """Draws every kind of value that a key may hold."""
    kinds = get_args(field.annotation) or (field.annotation,)
    bounds = {
        name: getattr(m, name) for m in field.metadata for name in ("ge", "gt", "le", "lt") if hasattr(m, name)
    }
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if key == "corpus.path":
        path = st.text(st.characters(exclude_categories=["Cs"])).map("/".__add__)
        return path | st.lists(path | st.sampled_from(["-", "corpus:names"]), min_size=1)
    if str in kinds:
        return st.sampled_from(["3m", "1h30m", "20 epochs", "10M characters"])
    if get_origin(field.annotation) is Literal:
        return st.sampled_from(kinds)
    if bool in kinds:
        return st.booleans()
    if int in kinds:
        return st.integers(low, high - 1 if "lt" in bounds else high) | st.sampled_from(kinds[1:] and [None])
    number = st.floats(low, high, exclude_min="gt" in bounds, exclude_max="lt" in bounds, allow_infinity=False)
    return number.filter(lambda x: x == x) | st.sampled_from(kinds[1:] and [None])


@relaxed
@given(st.fixed_dictionaries({key: any_value(key, field) for key, field in keys()}), st.booleans())
def test_a_configuration_loads_back_equal_from_its_yaml(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any], comments: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    config = load_config(None, values)
    path.write_text(to_yaml(config, comments=comments), "utf-8", newline="\n")
    assert load_config(path) == config


def test_comments_are_a_manual_of_every_key_and_only_there_if_asked_for() -> None:
    config = load("corpus.path", "/x")
    lines = to_yaml(config, comments=True).splitlines()
    for key, field in keys():
        place = next(i for i, line in enumerate(lines) if line.startswith(f"  {key.partition('.')[2]}: "))
        assert field.description
        assert lines[place - 1] == f"  # {field.description}; {allowed(field)}"
    assert [line for line in lines if not line.lstrip().startswith("#")] == to_yaml(config).splitlines()


def schema_of(key: str) -> dict[str, Any]:
    """What the JSON Schema says of one key."""
    schema = json_schema()
    section, _, name = key.partition(".")
    found: dict[str, Any] = schema["$defs"][schema["properties"][section]["$ref"].rpartition("/")[2]]
    assert found["additionalProperties"] is False
    return found["properties"][name]


def test_the_schema_names_every_key_with_its_help_and_default_and_no_other() -> None:
    schema = json_schema()
    named = sum(len(section["properties"]) for section in schema["$defs"].values())
    assert (named, schema["required"], schema["additionalProperties"]) == (len(list(keys())), ["corpus"], False)
    for key, field in keys():
        assert schema_of(key)["description"] == field.description
        assert field.is_required() or schema_of(key)["default"] == field.default


def accepts(key: str, value: Any) -> bool:
    """Whether a configuration may hold this value."""
    try:
        return load(key, value) is not None
    except ConfigError:
        return False


@pytest.mark.parametrize("key", [key for key, _ in keys()])
def test_the_schema_agrees_with_what_is_accepted(key: str) -> None:
    branches = schema_of(key).get("anyOf", [schema_of(key)])
    assert any(branch["type"] == "null" for branch in branches) == accepts(key, None)
    for branch in branches:
        assert all(accepts(key, value) for value in branch.get("enum", []))
        assert not accepts(key, "neither of these") or branch["type"] == "string"
        step = 1 if branch["type"] == "integer" else 1e-6
        for bound, outward in (("minimum", -step), ("maximum", step)):
            if bound in branch:
                assert [accepts(key, branch[bound]), accepts(key, branch[bound] + outward)] == [True, False]
            elif (bound := f"exclusive{bound.title()}") in branch:
                assert [accepts(key, branch[bound] - outward), accepts(key, branch[bound])] == [True, False]
            elif branch["type"] in ("integer", "number"):
                assert accepts(key, outward * 1e12 if step < 1 else outward * 10**12)


def test_reading_a_configuration_does_not_import_torch() -> None:
    code = "import sys, charlm.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
