"""Untrusted files are opened without waiting, read within bounds, and parsed to one meaning or refused."""

import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from charlm.system.untrusted import (
    YamlLoader,
    map_safetensors,
    open_regular,
    open_regular_for_writing,
    parse_json,
    read_regular,
)


def test_an_ordinary_file_is_read_up_to_its_limit_and_not_beyond(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    (link := tmp_path / "link").symlink_to(path)
    assert read_regular(path, 5) == read_regular(link, 5) == b"12345"
    with pytest.raises(ValueError, match=r"larger than the 4 bytes that such a file may have"):
        read_regular(path, 4)


def test_a_file_of_a_terabyte_is_refused_without_being_read(tmp_path: Path) -> None:
    (path := tmp_path / "file").touch()
    os.truncate(path, 10**12)
    with pytest.raises(ValueError, match="larger"):
        read_regular(path, 1000)


@pytest.mark.parametrize("open_file", [open_regular, map_safetensors, open_regular_for_writing])
@pytest.mark.parametrize("kind", ["fifo", "folder", "socket", "/dev/zero", "/dev/tty", "loop", "missing"])
def test_what_is_no_ordinary_file_is_refused_at_once(
    tmp_path: Path, kind: str, open_file: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "missing" and open_file is open_regular_for_writing:
        return
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    path = Path("file")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    elif kind == "loop":
        path.symlink_to(path)
    elif kind != "missing":
        path.symlink_to(kind)
    before = set(os.listdir("/dev/fd"))
    with pytest.raises(OSError):
        open_file(path)
    assert set(os.listdir("/dev/fd")) == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_json_that_says_each_thing_once_is_read_as_it_is(value: object) -> None:
    assert parse_json(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "the key 'c' appears twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "integer string"),
        ("{", "line 1"),
    ],
)
def test_what_readers_may_understand_differently_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_json(text)


@pytest.mark.parametrize("text", ["[[]]", '["["]', '[{}, "{"]', "[{}, {}]"])
def test_objects_and_lists_are_counted_before_the_text_is_parsed(text: str) -> None:
    assert parse_json(text) == parse_json(text, max_lists=2, max_objects=2) == json.loads(text)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(text, max_lists=1, max_objects=1)


def test_what_is_opened_for_writing_is_made_if_need_be_and_keeps_its_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"", b"content"):
        descriptor = open_regular_for_writing(path)
        assert os.read(descriptor, 100) == content
        os.write(descriptor, b"content")
        os.close(descriptor)
    assert path.stat().st_mode & 0o777 == 0o644


def test_no_link_is_written_through(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.symlink_to(tmp_path / "elsewhere")
    for content in (None, b"dear to someone"):
        if content:
            (tmp_path / "elsewhere").write_bytes(content)
        with pytest.raises(OSError):
            open_regular_for_writing(path)
    assert (tmp_path / "elsewhere").read_bytes() == b"dear to someone"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{a: 4e-3, b: [1, true, null, ~], c: x}", {"a": 0.004, "b": [1, True, None, None], "c": "x"}),
        ("{a: 1e5_names.txt, b: 1e3 steps, c: 1E5}", {"a": "1e5_names.txt", "b": "1e3 steps", "c": 1e5}),
        ("", None),
    ],
)
def test_yaml_is_read_as_plain_values(text: str, value: object) -> None:
    assert yaml.load(text, YamlLoader) == value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: &a [1]\nb: *a", r"aliases \(\*name\) are not allowed here"),
        ("a: !!int x", "the tag tag:yaml.org,2002:int is not allowed here"),
        ("!!python/object/apply:os.system [exit]", "is not allowed here"),
        ("a: " + "1:" * 5000 + "1", "a value has 10,001 characters, but at most 10,000 are allowed"),
        ("[" * 10_000, "recursion"),
    ],
)
def test_yaml_that_would_explode_or_run_something_is_refused(text: str, complaint: str) -> None:
    with pytest.raises((yaml.YAMLError, RecursionError), match=complaint):
        yaml.load(text, YamlLoader)


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (b"[]", "the header is not an object"),
        (b'{"a": 1, "a": 2}', "the key 'a' appears twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b" " * ((1 << 22) + 1), "its header has 4,194,305 bytes, but at most 4,194,304 are allowed"),
        (b"\xff", "utf-8"),
        (None, "GB, but this machine"),
    ],
)
def test_a_safetensors_header_is_one_object_within_bounds(
    tmp_path: Path, header: bytes | None, complaint: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(struct.pack("<Q", 2) + b"{}")
    map_safetensors(path)
    if header is None:
        os.truncate(path, 10**12)
    else:
        path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ValueError, match=complaint):
        map_safetensors(path)
