"""What stands in the place of a file is opened without waiting, and JSON says each thing once."""

import json
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.system.files import open_regular, parse_json, read_regular


def test_an_ordinary_file_is_read_up_to_its_limit_and_not_beyond(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    (link := tmp_path / "link").symlink_to(path)
    assert read_regular(path, 5) == read_regular(link, 5) == b"12345"
    with pytest.raises(ValueError, match=r"larger than such a file can be \(4 bytes\)"):
        read_regular(path, 4)


def test_a_file_of_a_terabyte_is_refused_without_being_read(tmp_path: Path) -> None:
    (path := tmp_path / "file").touch()
    os.truncate(path, 10**12)
    with pytest.raises(ValueError, match="larger"):
        read_regular(path, 1000)


@pytest.mark.parametrize("kind", ["fifo", "folder", "socket", "/dev/zero", "/dev/tty", "loop", "missing"])
def test_what_is_no_ordinary_file_is_refused_at_once(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        open_regular(path)
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
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "the key 'c' stands twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "integer string"),
        ("{", "line 1"),
    ],
)
def test_what_readers_may_understand_differently_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_json(text)
