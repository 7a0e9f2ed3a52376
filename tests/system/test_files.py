"""A file is replaced as a whole or not at all, and nothing is left beside it."""

import os
from pathlib import Path

import pytest

from charlm.system.files import make_folder, replace_file, sync_folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt])
def test_whatever_ends_the_writing_early_leaves_the_old_content_alone(
    tmp_path: Path, error: type[BaseException], shared: bool
) -> None:
    (path := tmp_path / "file").write_bytes(b"old")

    def write() -> None:
        with replace_file(path, shared=shared) as file:
            file.write(b"half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert contents(tmp_path) == {"file": b"old"}


@pytest.mark.parametrize("shared", [False, True])
def test_a_reader_sees_the_old_content_until_the_new_is_whole(tmp_path: Path, shared: bool) -> None:
    (path := tmp_path / "file").write_bytes(b"old")
    with replace_file(path, shared=shared) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert contents(tmp_path) == {"file": b"new"}


def test_processes_that_write_one_file_at_once_each_write_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    with replace_file(path, shared=True) as first:
        first.write(b"first, ")
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with replace_file(path, shared=True) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
        first.write(b"whole")
    assert contents(tmp_path) == {"file": b"first, whole"}


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replace_file(tmp_path / "missing" / "file"):
        pass
    sync_folder(tmp_path / "missing")  # what cannot be synced is let be


# ---------------------------------------------------------------------------------------------------------- folders


def test_a_folder_is_there_when_it_is_full(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with make_folder(path) as beside:
        (beside / "file").write_bytes(b"content")
        assert not path.exists()
    assert contents(path) == {"file": b"content"}
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
    (tmp_path / "usual").mkdir()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_folder_that_is_not_finished_is_not_there(tmp_path: Path, error: type[BaseException]) -> None:
    def write() -> None:
        with make_folder(tmp_path / "folder") as beside:
            (beside / "file").write_bytes(b"content")
            raise error

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_has_come_there_meanwhile_is_not_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "place"

    def write() -> None:
        with make_folder(path) as beside:
            (beside / "file").write_bytes(b"new")
            if kind == "folder":
                path.mkdir()
                (path / "file").write_bytes(b"old")
            else:
                path.write_bytes(b"old")

    with pytest.raises(OSError):
        write()
    assert (path / "file" if kind == "folder" else path).read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["place"]
