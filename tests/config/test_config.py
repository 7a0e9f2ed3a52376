"""What a configuration may say, what a person is told when it is wrong, and how it is written and read back."""

import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from charlm.config import Config, json_schema, keys, load_config, parse_amount, parse_assignment, to_yaml
from charlm.config.messages import describe_allowed
from charlm.config.reading import MAX_CONFIG_BYTES
from charlm.config.schema import RETIRED
from charlm.config.writing import LEFT_OUT, without_paths
from charlm.errors import ConfigError

Write = Callable[[str | bytes], Path]
EXAMPLES = "not an amount of training; write for example 3m, 90s, 20 epochs, 5000 steps or 10M characters"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration file and returns its path."""
    path = tmp_path / "config.yaml"
    return lambda content: (path.write_bytes(content if isinstance(content, bytes) else content.encode()), path)[1]


def load(key: str, value: Any) -> Config:
    """A configuration of defaults but for one key."""
    return load_config(None, {"corpus.path": "/x", key: value})


def refused(source: Any = None, overrides: dict[str, Any] | None = None) -> str:
    """The message with which a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides)
    return str(caught.value)


def test_all_but_the_corpus_has_a_default(write: Write) -> None:
    expected = """
        corpus: {path: /x, encoding: utf-8, strict: false, field: null, framing: auto, split: spread,
                 level: character, validation: 0.1, test: 0.0, normalization: none, lowercase: false, min_count: 1,
                 max_line_length: null}
        model: {cell: lstm, hidden_size: 256, num_layers: 1, bias: true, embedding_size: null, output_rank: null,
                dropout: 0.0, recurrent_dropout: 0.0, ngram: null, words: false,
                    networks: 1}
        training: {budget: 3m, batch_size: 16, sequence_length: 64, optimizer: adamw, learning_rate: 0.004,
                   momentum: 0.0, beta2: 0.99, weight_decay: 0.01, schedule: linear, warmup: 0.05, clip_norm: 1.0,
                   evaluate_every: 10%, early_stopping: null, keep: 1, log: null, kernel: auto, precision: auto,
                   seed: 1, device: auto}
        sampling: {length: 200, temperature: 0.8, top_k: null, top_p: null, min_p: null}"""
    assert load("corpus.path", "/x").model_dump() == yaml.safe_load(expected)
    for source in (None, {}, write(""), write("# nothing but a comment\n")):
        assert "corpus: missing" in refused(source)


def test_every_problem_is_reported_at_once_with_its_key_line_value_and_what_is_allowed(write: Write) -> None:
    path = write(
        "corpus: {framing: rows}\nmodel:\n  cell: transformer\n  embedding_size: 0\n  hiden_size: 2\n"
        "training: {learning_rate: fast, budget: soon, batch_size: true}\nsampling: 3\n"
    )
    head, *problems = refused(path).splitlines()
    assert head == f"{path}: 9 problems"
    assert {problem.strip() for problem in problems} == {
        f"corpus.path: missing. {dict(keys())['corpus.path'].description}",
        "corpus.framing (line 1) = 'rows': must be one of auto, stream, lines",
        "model.cell (line 3) = 'transformer': must be one of rnn, lstm, gru, gru-before",
        "model.embedding_size (line 4) = 0: must be an integer, at least 1, at most 16384 or null",
        "model.hiden_size (line 5): unknown key; did you mean model.hidden_size?",
        "training.learning_rate (line 6) = 'fast': must be a number, above 0, at most 1000",
        f"training.budget (line 6) = 'soon': {EXAMPLES}",
        "training.batch_size (line 6) = True: must be an integer, at least 1, at most 65536",
        "sampling (line 7) = 3: must be a section that contains keys and values",
    }


def test_a_file_of_nothing_but_problems_is_refused_without_naming_them_all(write: Write) -> None:
    head, *problems = refused(write("".join(f"key{i}: 1\n" for i in range(5000)))).splitlines()
    assert head.endswith("more than 50 problems")
    assert len(problems) == 51


NEAR_MISSES = """model.hiden_size>model.hidden_size training.optimiser>training.optimizer modle>model
    hidden_size>model.hidden_size training.hidden_size>model.hidden_size training.droput>model.dropout
    sampling.seed>training.seed model.zzzz> training.epochs> corpus.files>corpus.field corpus.zzzz>"""


@pytest.mark.parametrize("pair", NEAR_MISSES.split())
def test_an_unknown_key_is_answered_with_the_nearest_right_one_if_there_is_one(pair: str) -> None:
    wrong, right = pair.split(">")
    answer = f"{wrong}: unknown key" + (f"; did you mean {right}?" if right else "")
    assert refused(None, {"corpus.path": "x", wrong: 1}).endswith(answer)


def test_a_dotted_key_in_a_file_is_not_answered_with_itself(write: Write) -> None:
    assert "did you mean model.cell?" not in refused(write("corpus: {path: x}\nmodel.cell: rnn\n"))


# What each key of an earlier version said, and what its message tells a person to write or to do.
RETIRED_KEYS: dict[str, tuple[Any, list[str]]] = {
    "model.reset": ("before", ["model.cell: gru-before", "before the recurrent product", "model.cell: gru "]),
    "model.forget_bias": (1.0, ["remove it", "the bias of the forget gate always starts at 1"]),
    "model.recurrent_init": ("orthogonal", ["remove it", "recurrent matrices always start orthogonal"]),
    "training.backend": ("derived", [
        "training.kernel (auto, python for derived, compiled or fused)",
        "training.precision (auto, float32 or bfloat16)",
    ]),
}  # fmt: skip


def test_each_retired_key_is_among_those_tested() -> None:
    assert RETIRED_KEYS.keys() == RETIRED.keys()
    assert not RETIRED.keys() & dict(keys()).keys()


@pytest.mark.parametrize("key", RETIRED_KEYS)
def test_a_retired_key_is_refused_with_what_takes_its_place(write: Write, key: str) -> None:
    value, advice = RETIRED_KEYS[key]
    section, _, name = key.partition(".")
    path = write(f"corpus: {{path: x}}\n{section}:\n  {name}: {value}\n")
    in_file, in_override = refused(path), refused(None, {"corpus.path": "x", key: value})
    assert f"{key} (line 3): this key no longer exists; " in in_file
    assert f"{key}: this key no longer exists; " in in_override
    for message in (in_file, in_override):
        assert len(message.splitlines()) == 2
        assert all(part in message for part in advice)


@pytest.mark.parametrize("key", RETIRED_KEYS)
def test_what_the_message_of_a_retired_key_names_is_accepted(key: str) -> None:
    names = dict(keys())
    written = re.findall(r"(\w+\.\w+)(?:: ([\w-]+)| \(([^)]+)\))", RETIRED[key])
    for name, one, several in written:
        assert name in names
        for value in [one] if one else re.split(", | or ", several):
            assert load(name, value.removesuffix(" for derived"))


NONSENSE = {
    "training.seed=-1": "training.seed = -1: must be an integer, at least 0, below 4294967296",
    "corpus.path=''": "corpus.path",
    "corpus.path=[]": "corpus.path",
    "corpus.path=['', a]": "corpus.path",
    "corpus.path=3": "configuration: 1 problem\n  corpus.path = 3: must be a string or a list of strings",
    "training.budget=10%": "training.budget = '10%': a budget must be a time",
    "training.evaluate_every=0%": EXAMPLES,
    "training.weight_decay=.nan": "training.weight_decay = nan: must be a number, at least 0",
    "training.clip_norm=.inf": "training.clip_norm = inf: must be a number",
    "training.learning_rate=.inf": "training.learning_rate = inf: must be a number",
}


@pytest.mark.parametrize("assignment", NONSENSE)
def test_a_value_that_makes_no_sense_is_refused(assignment: str) -> None:
    assert NONSENSE[assignment] in refused(None, {"corpus.path": "x", **dict([parse_assignment(assignment)])})


FAULTS_OF_YAML: dict[str, tuple[str | bytes, str]] = {
    "syntax": ("corpus: {path: x\nmodel: 3\n", "line 2, column 6: cannot be read as YAML: "),
    "key twice": ("model:\n  cell: a\n  cell: b\n", "line 3: model.cell is given twice (first in line 2)"),
    "alias": ("corpus: &c {path: x}\nmodel: *c\n", "line 2, column 8: cannot be read as YAML: aliases (*name)"),
    "python tag": ("corpus: {path: !!python/name:os.system }\n", "column 16: cannot be read as YAML: the tag"),
    "python tag on a section": ("corpus: {path: x}\nmodel: !!python/object/new:dict {cell: rnn}\n", "line 2"),
    "a tag that PyYAML cannot read": (
        "training: {seed: !!int ''}\n",
        "line 1, column 18: cannot be read as YAML: the tag",
    ),
    "a number to base 60": ("training: {seed: 1" + ":1" * 5000 + "}\n", "a value has 10,001 characters"),
    "a number to base 60 with a point": ("training: {seed: 1" + ":1" * 400 + ".5}\n", "int too large"),
    "deep nesting": ("corpus: " + "{a: " * 9999, "nested too deeply"),
    "not UTF-8": (b"corpus: caf\xe9\n", "not UTF-8 text (the first invalid byte is at offset 11)"),
    "not UTF-8 behind a byte order mark": (
        b"\xef\xbb\xbfcorpus: caf\xe9\n",
        "not UTF-8 text (the first invalid byte is at offset 14)",
    ),
    "list": ("- corpus\n- model\n", "not a configuration"),
    "two documents": (
        "corpus: {}\n---\nmodel: {}\n",
        "line 2, column 1: cannot be read as YAML: but found another document",
    ),
    "integer too long to read": ("training: {seed: " + "9" * 5000 + "}\n", "YAML: Exceeds the limit"),
    "integer too long to write": ("training: {seed: 0x" + "f" * 5000 + "}\n", "training.seed"),
    "too large": (b"#" * (MAX_CONFIG_BYTES + 1), "larger than the 1,000,000 bytes that a configuration may have"),
}


@pytest.mark.parametrize("fault", FAULTS_OF_YAML)
def test_a_fault_in_the_yaml_is_one_message_that_names_the_place(write: Write, fault: str) -> None:
    content, expected = FAULTS_OF_YAML[fault]
    path = write(content)
    message = refused(path)
    assert message.startswith(str(path))
    assert expected in message


def test_a_byte_order_mark_numbers_like_4e_3_and_the_largest_size_are_read(write: Write) -> None:
    text = b"\xef\xbb\xbfcorpus: {path: /x}\ntraining: {learning_rate: 4e-3, clip_norm: 1E+2}\n"
    config = load_config(write(text + b"#" * (MAX_CONFIG_BYTES - len(text))))
    assert (config.corpus.path, config.training.learning_rate, config.training.clip_norm) == ("/x", 0.004, 100.0)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert refused(missing) == (
        f"{missing}: cannot read the configuration: No such file or directory; `charlm config init` prints one to "
        "begin with"
    )
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
    elsewhere = tmp_path.parent
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", "/home/me")
    path = write("corpus: {path: [a/*.txt, /b, '-', 'corpus:names', ~/c]}\n")
    for same in (path, f"{tmp_path.name}/config.yaml"):
        assert load_config(same).corpus.path == [f"{tmp_path}/a/*.txt", "/b", "-", "corpus:names", "/home/me/c"]
    for given_path in ("-", "corpus:names", "/b"):
        assert load_config(path, {"corpus.path": given_path}).corpus.path == given_path
    assert load_config(path, {"corpus.path": "a"}).corpus.path == str(elsewhere / "a")
    assert load_config({"corpus": {"path": "a"}}).corpus.path == str(elsewhere / "a")


def test_the_home_of_an_unknown_user_stands_as_written_like_in_a_shell() -> None:
    assert str(load("corpus.path", "~no-such-user/x").corpus.path).endswith("~no-such-user/x")


def test_an_assignment_is_a_key_and_a_value_in_yaml() -> None:
    written = {"128": 128, "4e-3": 0.004, "false": False, "null": None, "20 epochs": "20 epochs", "a=b": "a=b"}
    for text, value in {**written, "[a, b]": ["a", "b"]}.items():
        assert parse_assignment(f" section.key ={text}") == ("section.key", value)


NO_ASSIGNMENTS = "|model.cell|=3| =3|a=[1|a=*b|a=!!python/name:os.system |a=2024-13-45|a=" + "[" * 9999


@pytest.mark.parametrize("text", NO_ASSIGNMENTS.split("|"), ids=lambda text: text[:9])
def test_what_is_no_assignment_is_refused_and_shown(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_assignment(text)
    assert str(caught.value).startswith(f"--set {text[:100]}")


NO_AMOUNTS = (
    "soon|| |m|m3|-3m|0 epochs|3 weeks|1..5s|.s|10M|3M|1h30M|0m0s|10%%|3 minute budget|minutes|and|5k|5 k m|"
    "1,00 steps|30 minutes 1 hour|3m3m|1h2|3 monkeys|3 sector|1.2.3 steps|_ steps|1 step and 2 steps|half an hour|"
    "3:00|" + "9" * 400 + " steps"
)


@pytest.mark.parametrize("text", NO_AMOUNTS.split("|"), ids=lambda text: text[:9])
def test_what_is_no_positive_finite_amount_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=EXAMPLES):
        parse_amount(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("3", "3"),
        (" 600 ", "600"),
        ("1.5", "1.5"),
        ("5_000", "5_000"),
        ("5,000", "5,000"),
        ("0", "100"),
        ("0.0", "100"),
    ],
)
def test_a_number_alone_is_refused_with_an_amount_that_works(text: str, shown: str) -> None:
    said = f"a unit is missing; write for example {shown} steps, {shown}s or {shown} epochs"
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_amount(text)


@pytest.mark.parametrize("key", ["training.budget", "training.evaluate_every"])
@pytest.mark.parametrize(
    ("value", "shown"),
    [(7, "7"), (0.5, "0.5"), (-3, "100"), (0, "100"), (10**30, "100"), (10**5000, "100")],
    ids=range(6),
)
def test_a_number_in_yaml_is_refused_with_an_amount_that_works(key: str, value: float, shown: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"corpus": {"path": "a"}}, {key: value})
    said = re.search(rf"{re.escape(key)} = .*: a unit is missing; write for example (.*) steps", str(caught.value))
    assert said is not None
    assert said[1] == shown


@pytest.mark.parametrize("value", [True, None, ["3m"], {"m": 3}])
def test_what_is_neither_text_nor_number_is_no_amount(value: object) -> None:
    with pytest.raises(ConfigError, match=r"training\.budget = .*must be a string"):
        load_config({"corpus": {"path": "a"}, "training": {"budget": value}})


WORDED = {
    "3 minutes": ("seconds", 180),
    "3min": ("seconds", 180),
    "1 Minute": ("seconds", 60),
    "90 sec": ("seconds", 90),
    "90 seconds": ("seconds", 90),
    "1 hour 30 minutes": ("seconds", 5400),
    "1 hour, 30 minutes": ("seconds", 5400),
    "1 hour and 30 minutes": ("seconds", 5400),
    "1h 30m": ("seconds", 5400),
    "1hr30mins": ("seconds", 5400),
    "2 hours": ("seconds", 7200),
    "1.5 hours": ("seconds", 5400),
    ".5h": ("seconds", 1800),
    "2 days": ("seconds", 172800),
    "1H": ("seconds", 3600),
    "1 day 2 hours 3 minutes 4 seconds": ("seconds", 93784),
    "5k steps": ("steps", 5000),
    "5 k steps": ("steps", 5000),
    "5,000 steps": ("steps", 5000),
    "1,234,567 Characters": ("characters", 1234567),
    "10 million chars": ("characters", 10_000_000),
    "1 epoch": ("epochs", 1),
    "0.5 epochs": ("epochs", 0.5),
}


@pytest.mark.parametrize("text", WORDED)
def test_an_amount_may_be_written_as_people_write_it(text: str) -> None:
    assert parse_amount(text) == WORDED[text]
    assert load_config({"corpus": {"path": "a"}, "training": {"budget": text}}).training.budget == text


@given(st.integers(1, 10**6), st.sampled_from(["epoch", "step", "character"]), st.sampled_from(["", " "]))
def test_a_count_is_read_as_written_with_any_scale(number: int, unit: str, gap: str) -> None:
    for scale, factor in {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}.items():
        for ending in ("", "s"):
            assert parse_amount(f" {number:_}{gap}{scale}{unit}{ending} ") == (f"{unit}s", number * factor)
    assert parse_amount(f"{number / 4}{gap}%") == ("percent", number / 4)


@given(st.lists(st.integers(0, 99), min_size=4, max_size=4).filter(any))
def test_a_time_is_the_sum_of_its_days_hours_minutes_and_seconds(parts: list[int]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in zip(parts, "dhms", strict=True) if number)
    seconds = sum(number * size for number, size in zip(parts, (86400, 3600, 60, 1), strict=True))
    assert parse_amount(text) == ("seconds", seconds)


SCHEMA: dict[str, dict[str, Any]] = {
    f"{section}.{name}": inner
    for section, reference in json_schema()["properties"].items()
    for name, inner in json_schema()["$defs"][reference["$ref"].removeprefix("#/$defs/")]["properties"].items()
}


def branches(key: str) -> list[dict[str, Any]]:
    return SCHEMA[key].get("anyOf", [SCHEMA[key]])


def values(branch: dict[str, Any]) -> st.SearchStrategy[Any]:
    low, high = (branch.get(side, branch.get(f"exclusive{side.title()}")) for side in ("minimum", "maximum"))
    excluded = {branch.get("exclusiveMinimum"), branch.get("exclusiveMaximum")} - {None}
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "array": st.lists(st.text().map("/".__add__) | st.sampled_from(["-", "corpus:names"]), min_size=1),
        "string": st.sampled_from(branch.get("enum", ["3m", "20 epochs", "10M characters"])),
        "boolean": st.booleans(),
        "null": st.none(),
        "integer": st.integers(low, high).filter(lambda x: x not in excluded),
        "number": st.floats(low, high, allow_nan=False, allow_infinity=False).filter(lambda x: x not in excluded),
    }
    return kinds[branch["type"]]


ENCODINGS = st.sampled_from(["utf-8", "auto", "gb18030", "UTF-16", "latin1"])
VALUES = {key: st.one_of(map(values, branches(key))) for key in SCHEMA} | {"corpus.encoding": ENCODINGS}


@given(st.fixed_dictionaries(VALUES), st.booleans())
def test_a_configuration_loads_back_equal_from_its_yaml(
    tmp_path_factory: pytest.TempPathFactory, drawn: dict[str, Any], comments: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    config = load_config(None, drawn)
    path.write_text(to_yaml(config, comments=comments), "utf-8", newline="\n")
    assert load_config(path) == config


def test_a_path_of_odd_characters_loads_back_as_it_was(write: Write) -> None:
    for path in ("/a...", "/a\nb", "/ # b: 'c'", "/a\u3000", "/a\x85b"):
        assert load_config(write(to_yaml(load("corpus.path", path)))).corpus.path == path


def test_comments_are_a_manual_of_every_key_and_only_there_if_asked_for() -> None:
    config = load("corpus.path", "/x")
    lines = to_yaml(config, comments=True).splitlines()
    for key, field in keys():
        place = next(i for i, line in enumerate(lines) if line.startswith(f"  {key.partition('.')[2]}: "))
        assert field.description
        comment = list(itertools.takewhile(lambda line: line.startswith("  # "), reversed(lines[:place])))
        assert max(map(len, comment)) <= 100
        said = " ".join(line.removeprefix("  # ") for line in reversed(comment))
        assert said == f"{field.description} Allowed: {describe_allowed(field)}."
    assert [line for line in lines if not line.lstrip().startswith("#")] == to_yaml(config).splitlines()


def test_the_schema_names_every_key_with_its_help_and_default_and_no_other() -> None:
    schema = json_schema()
    assert schema["required"] == ["corpus"]
    assert not any(part["additionalProperties"] for part in (schema, *schema["$defs"].values()))
    assert list(SCHEMA) == [key for key, _ in keys()]
    for key, field in keys():
        assert SCHEMA[key]["description"] == field.description
        assert field.is_required() or SCHEMA[key]["default"] == field.default


def accepts(key: str, value: Any) -> bool:
    try:
        return load(key, value) is not None
    except ConfigError:
        return False


@pytest.mark.parametrize("key", SCHEMA)
def test_the_schema_agrees_with_what_is_accepted(key: str) -> None:
    assert any(branch["type"] == "null" for branch in branches(key)) == accepts(key, None)
    assert accepts(key, "neither of these") == (
        key in {"corpus.path", "corpus.field", "corpus.validation", "corpus.test"}
    )
    for branch in branches(key):
        assert all(accepts(key, value) for value in branch.get("enum", []))
        step = 1 if branch["type"] == "integer" else 2**-20
        inside = {"minimum": 0, "maximum": 0, "exclusiveMinimum": step, "exclusiveMaximum": -step}
        outside = {"minimum": -step, "maximum": step, "exclusiveMinimum": 0, "exclusiveMaximum": 0}
        for bound in branch.keys() & inside.keys():
            assert accepts(key, branch[bound] + inside[bound])
            assert not accepts(key, branch[bound] + outside[bound])


def test_reading_a_configuration_does_not_import_torch() -> None:
    code = "import sys, charlm.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("corpus.path", "/home/anna/letters.txt", LEFT_OUT),
        ("corpus.path", ["corpus:english", "letters.txt"], LEFT_OUT),
        ("corpus.path", "corpus:english", "corpus:english"),
        ("corpus.path", ["corpus:english", "corpus:python"], ["corpus:english", "corpus:python"]),
        ("corpus.validation", "held_out.txt", LEFT_OUT),
        ("corpus.test", "held_out.txt", LEFT_OUT),
        ("corpus.test", 0.2, 0.2),
    ],
)
def test_a_configuration_for_others_names_no_files_of_a_person(key: str, value: Any, shown: Any) -> None:
    config = without_paths(load(key, value))
    assert getattr(config.corpus, key.removeprefix("corpus.")) == shown
