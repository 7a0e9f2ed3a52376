"""Files as people bring them: packed in any way, no text at all, in folders full of everything, through pipes."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard

import charlm
from charlm.config import CorpusConfig
from charlm.errors import CorpusError, InputError
from charlm.text.cache import Cache
from charlm.text.corpus import load_corpus
from charlm.text.lines import read_line_batches
from charlm.text.reading import read_text, refuse_special_files
from commands import answer, run
from hostile import Bounds

TEXT = "".join(f"{number} bottles of 酒\n" for number in range(3000))


def save(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(content: bytes) -> bytes:
    import tarfile

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("text.txt")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.compress,
    "zip": lambda content: zipped({"text.txt": content}),
}
each_packer = pytest.mark.parametrize("kind", PACKERS)


def refused(*paths: Path, **settings: Any) -> str:
    with pytest.raises(CorpusError) as caught:
        read_text([str(path) for path in paths], **settings)
    return str(caught.value)


@contextmanager
def stdin(content: bytes) -> Iterator[None]:
    """Sends something through a pipe to standard input."""
    read, write = os.pipe()

    def feed() -> None:
        with open(write, "wb") as file:
            file.write(content)

    thread = threading.Thread(target=feed)
    thread.start()
    with open(read, encoding="utf-8") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", file)
        yield
    thread.join()


# --- Packed texts


@each_packer
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("chunk", [1, 1000, 1 << 20])
def test_a_packed_text_is_known_by_its_content(kind: str, named: bool, chunk: int, tmp_path: Path) -> None:
    path = save(tmp_path / ("text." + kind if named else "text"), PACKERS[kind](TEXT[:5000].encode()))
    assert read_text([str(path)], read_bytes=chunk) == TEXT[:5000]
    assert [line for batch in read_line_batches(path, "character") for line in batch] == TEXT[:5000].splitlines()


@each_packer
def test_a_packed_text_may_come_through_a_pipe(kind: str) -> None:
    with stdin(PACKERS[kind](TEXT.encode())):
        assert read_text(["-"]) == TEXT
    with stdin(PACKERS[kind](TEXT.encode())):
        assert [line for batch in read_line_batches(None, "character") for line in batch] == TEXT.splitlines()


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_parts_that_were_packed_one_by_one_are_one_text(kind: str, tmp_path: Path) -> None:
    half = len(TEXT) // 2
    content = b"".join(PACKERS[kind](part.encode()) for part in (TEXT[:half], "", TEXT[half:]))
    assert read_text([str(save(tmp_path / "text", content))]) == TEXT


@each_packer
def test_what_is_cut_off_or_damaged_is_named(kind: str, tmp_path: Path) -> None:
    content = PACKERS[kind](os.urandom(5000).hex().encode())
    changed = content[:200] + b"\xff\0\xff" + content[203:]  # zstd has no checksum unless it is asked for
    for damaged in (content[: len(content) // 2], content[:-1], changed)[: 2 if kind == "zst" else 3]:
        path = save(tmp_path / "text", damaged)
        message = refused(path)
        assert message.startswith(f"{path}")
        assert "damaged" in message


@each_packer
def test_a_name_that_promises_a_packed_file_is_believed(kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"text.{kind}", b"<html>404</html>")
    kinds = {"gz": "gzip", "bz2": "bzip2", "zst": "zstd"}
    assert f"this is not a {kinds.get(kind, kind)} file, although its name ends like one" in refused(path)


@each_packer
def test_a_packed_file_that_would_fill_the_disk_is_refused(kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / "bomb", PACKERS[kind](b"a" * 30_000_000))
    assert "unpacks to more than" in refused(path, max_unpacked_bytes=100_000)
    fine = save(tmp_path / "fine", PACKERS[kind](TEXT.encode()))
    assert read_text([str(fine)], max_unpacked_bytes=1) == TEXT


def test_the_members_of_an_archive_are_bounded_together(tmp_path: Path) -> None:
    path = save(tmp_path / "bomb.zip", zipped({f"{i}.txt": b"a" * 3_000_000 for i in range(10)}))
    assert "unpacks to more than" in refused(path, max_unpacked_bytes=5_000_000)


def test_a_zip_archive_is_its_texts_in_order_without_hidden_files_and_what_is_not_text(tmp_path: Path) -> None:
    members = {
        "b/2.txt": b"two",
        "b/1.txt": b"\xef\xbb\xbfone\r\n", ".hidden": b"x", "__MACOSX/._a": b"\0x", "../up": b"up\n",
       
        "c.png": b"\x89PNG\r\n\x1a\n\0", "d.bin": b"a\0b", "e.gz": gzip.compress(b"x"), "f.txt": b"last",
    }  # fmt: skip
    path = save(tmp_path / "a.zip", zipped(members))
    notes: list[str] = []
    assert read_text([str(path)], note=notes.append) == "one\ntwo\nlast"
    assert notes == [f"skipped 3 files that are not text in zip archives: {path}/c.png, {path}/d.bin, {path}/e.gz"]
    assert refused(path, strict=True).startswith(f"{path}/c.png: a PNG image, not a text")
    assert sorted(os.listdir(tmp_path)) == ["a.zip"]


def test_an_encrypted_archive_is_named(tmp_path: Path) -> None:
    content = bytearray(zipped({"a.txt": b"text"}))
    for signature, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        content[content.index(signature) + at] |= 1
    assert "it is encrypted; unzip it first" in refused(save(tmp_path / "a.zip", bytes(content)))


def test_without_the_package_zstd_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    assert "pip install 'charlm[zstd]'" in refused(save(tmp_path / "a.zst", zstandard.compress(b"text")))


# --- What is no text


NO_TEXT: dict[str, tuple[bytes, str, str]] = {
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "a PDF document", "pdftotext"),
    "docx": (zipped({"[Content_Types].xml": b"<x/>", "word/document.xml": b"<x/>"}), "a Word document", "pandoc"),
    "xlsx": (zipped({"[Content_Types].xml": b"<x/>", "xl/workbook.xml": b"<x/>"}), "an Excel workbook", "xlsx2csv"),
    "epub": (zipped({"mimetype": b"x", "META-INF/container.xml": b"<x/>"}), "an EPUB book", "pandoc"),
    "odt": (zipped({"mimetype": b"x", "META-INF/manifest.xml": b"<x/>"}), "an OpenDocument text", "pandoc"),
    "doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "an old Word, Excel or", "libreoffice"),
    "rtf": (b"{\\rtf1\\ansi text}", "an RTF document", "libreoffice"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0", "a PNG image", "tesseract"),
    "jpg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image", "tesseract"),
    "mp3": (b"ID3\x04\0\0", "an MP3 recording", "whisper"),
    "wav": (b"RIFF\x24\0\0\0WAVEfmt ", "a WAV recording", "whisper"),
    "mp4": (b"\0\0\0 ftypisom\0\0", "an MP4 video", "whisper"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0", "a 7-Zip archive", "7z x"),
    "rar": (b"Rar!\x1a\x07\x01\0", "a RAR archive", "unrar x"),
    "tar": (tarred(b"text"), "a tar archive", "tar xf"),
    "tgz": (gzip.compress(tarred(b"text")), "a tar archive in a gzip file", ""),
    "twice.gz": (gzip.compress(gzip.compress(b"text")), "a gzip file in a gzip file", ""),
    "elf": (b"\x7fELF\x02\x01\x01\0", "a program", "strings"),
    "exe": (b"MZ\x90\0\x03\0", "a program", "strings"),
    "sqlite": (b"SQLite format 3\0", "an SQLite database", "sqlite3"),
    "parquet": (b"PAR1\x15\x04\0", "a Parquet table", "parquet-tools"),
    "pt": (zipped({"model/data.pkl": b"\x80"}), "a PyTorch file", ""),
    "zip": (zipped({"a.png": b"\x89PNG\r\n\x1a\n\0\0"}), "a zip archive without any text", ""),
}


@pytest.mark.parametrize("kind", NO_TEXT)
def test_what_cannot_be_text_is_named_with_the_tool_that_makes_text_of_it(kind: str, tmp_path: Path) -> None:
    content, name, tool = NO_TEXT[kind]
    path = save(tmp_path / "it's a file", content)
    message = refused(path)
    assert message.startswith(f"{path}: {name}")
    assert tool in message
    assert not tool or """'"'"'s a file'""" in message  # quoted for the shell
    assert "not UTF-8" not in message
    with pytest.raises(InputError, match=name):
        list(read_line_batches(path, "character"))
    texts = save(tmp_path / "text.txt", b"text\n").parent
    notes: list[str] = []
    assert read_text([str(texts)], note=notes.append) == "text\n"
    assert len(notes) == 1
    assert notes[0].startswith(f"skipped 1 file that is not text in {texts}: it's a file ({name}")
    assert name in refused(texts, strict=True)


@pytest.mark.parametrize(
    "text", [b"BM is short\n", b"MZ\n", b"PAR1 golf\n", b"wOFF\n", b"%PDF\n", b"BZh9 is bzip2\n", b"PK\n"]
)
def test_a_text_that_begins_like_a_picture_is_a_text(text: bytes, tmp_path: Path) -> None:
    assert read_text([str(save(tmp_path / "a", text))]) == text.decode()


def test_at_byte_level_everything_but_packed_files_is_read_as_it_is(tmp_path: Path) -> None:
    content = NO_TEXT["pdf"][0]
    assert read_text([str(save(tmp_path / "a", content))], level="byte").encode(errors="surrogateescape") == content
    assert read_text([str(save(tmp_path / "b", gzip.compress(b"\xff")))], level="byte") == "\udcff"


# --- Folders


def test_a_folder_names_what_it_leaves_out(tmp_path: Path, bounds: Bounds) -> None:
    folder = save(tmp_path / "all" / "a.txt", b"text\n").parent
    os.mkfifo(folder / "pipe")
    (folder / "broken").symlink_to(folder / "gone")
    (folder / "loop").symlink_to(folder)
    (folder / "link.txt").symlink_to(folder / "a.txt")
    (folder / "zero").symlink_to("/dev/zero")
    save(folder / "raw", b"a\0b")
    with socket.socket(socket.AF_UNIX) as server, bounds():
        server.bind(str(folder / "s"))
        notes: list[str] = []
        assert read_text([str(folder)], note=notes.append) == "text\ntext\n"
    assert notes == [
        f"skipped 6 files that are not text in {folder}: broken (a broken link), loop (a link to a folder), "
        "pipe (a pipe), raw (binary data), s (a socket) and 1 more"
    ]
    assert "pipe: a pipe, not a text" in refused(folder, strict=True) or "binary data" in refused(
        folder, strict=True
    )
    notes.clear()
    assert read_text([f"{folder}/*"], note=notes.append) == "text\ntext\n"
    assert len(notes) == 1


def test_a_folder_of_nothing_but_other_files_says_which(tmp_path: Path) -> None:
    folder = save(tmp_path / "all" / "a.png", NO_TEXT["png"][0]).parent
    assert (
        refused(folder)
        == f"{folder}: there is no text in it; skipped 1 file that is not text in {folder}: a.png (a PNG image)"
    )


CLOSED = [  # where the closed folder lies, and what stands behind the one that is read
    ("closed", ""),
    ("deep/er/closed", ""),
    ("closed", "/**/*.txt"),
    ("deep/closed", "/*/**/*.txt"),
    ("closed", "/*/*.txt"),
    ("deep/closed", "/*/*/b.*"),
    ("closed", "/closed/*"),
    ("closed", "/c*/b.txt"),
]
READ_ALL = """
import sys
from charlm.errors import CorpusError
from charlm.text.reading import read_text
for path in sys.argv[1:]:
    try: print(read_text([path]).strip())
    except CorpusError as error: print(error)
"""


@pytest.mark.parametrize("mode", [0o000, 0o644, 0o311])
def test_a_subfolder_that_may_not_be_entered_is_named(mode: int, tmp_path: Path) -> None:
    closed = [tmp_path / str(i) / inside for i, (inside, _) in enumerate(CLOSED)]
    for i, folder in enumerate(closed):
        save(folder / "b.txt", b"secret\n")
        save(tmp_path / str(i) / "a.txt", b"text\n")
    command = [sys.executable, "-c", READ_ALL, *(f"{tmp_path / str(i)}{end}" for i, (_, end) in enumerate(CLOSED))]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may enter everything, and there is no setpriv to be somebody else")
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        for folder in [tmp_path, *tmp_path.parents]:
            if any(part.startswith("pytest-of-") for part in folder.parts):
                folder.chmod(0o755)
    try:
        for folder in closed:
            folder.chmod(mode)
        found = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(Path(charlm.__file__).parent.parent)},
        )
    finally:
        for folder in closed:
            folder.chmod(0o755)
    if "ModuleNotFoundError" in found.stderr:
        pytest.skip("nobody else may read this Python")
    messages = found.stdout.splitlines()
    if mode == 0o311:
        assert messages.pop() == "secret"  # what has a name can be read without listing the folder
    assert len(messages) >= len(CLOSED) - 1, found.stderr
    for folder, message in zip(closed, messages, strict=False):
        assert message.startswith(str(folder))
        assert message.endswith("cannot be read: Permission denied")


# --- Pipes


@pytest.mark.slow
def test_what_comes_through_a_pipe_is_read_once_also_where_the_recipe_chooses(tmp_path: Path) -> None:
    text = TEXT * 30  # large enough that a smaller share is held out
    train = ["train", "--budget", "1s", "--quiet"]
    result = run(*train, "--corpus", "-", "--out", tmp_path / "run", input=text)
    assert (result.exit_code, result.stderr) == (0, "")
    share = charlm.load(tmp_path / "run").config.corpus.validation
    assert share < 0.1
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=(tmp_path / "pipe").write_text, args=(text,), daemon=True).start()
    assert run(*train, "--corpus", tmp_path / "pipe", "--out", tmp_path / "other").exit_code == 0
    assert charlm.load(tmp_path / "other").vocabulary.counts == charlm.load(tmp_path / "run").vocabulary.counts


def test_a_large_text_whose_share_is_chosen_is_encoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    path, cache = save(tmp_path / "text", TEXT.encode()), Cache(memory_bytes=1)
    asked: list[int] = []

    def choose(characters: int) -> float:
        asked.append(characters)
        return 0.25

    config = CorpusConfig(path=str(path))
    first = load_corpus(config, cache=cache, choose_validation=choose)
    again = load_corpus(config, cache=cache, choose_validation=choose)
    plain = load_corpus(config.model_copy(update={"validation": 0.25}), cache=cache)
    assert asked == [len(TEXT)] * 2
    assert first.key == again.key == plain.key
    assert len(list((tmp_path / "cache" / "encoded").glob("*.ids"))) == 1


# --- A run that someone else has made


@pytest.mark.parametrize(
    "place",
    [
        "pipe",
        "folder of a pipe",
        "/dev/zero",
        "/dev/random",
        "/proc/kmsg",
        "/proc",
        "/dev",
        "/proc/self/fd/0",
        "list",
    ],
)
def test_a_run_whose_text_may_never_end_is_refused_at_once(
    place: str, tiny_run: Path, tmp_path: Path, bounds: Bounds
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    path = place
    if "pipe" in place or place == "list":
        folder = tmp_path / "texts"
        folder.mkdir()
        os.mkfifo(folder / "pipe")
        path = str(folder if "folder" in place else folder / "pipe")
        if place == "list":
            path = f"[{tiny_run}/config.yaml, {path}]"
    config = tmp_path / "run" / "config.yaml"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(f"  path: {path}\n" if line.startswith("  path: ") else line for line in lines))
    with bounds():
        result = run("eval", tmp_path / "run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert str(folder if place in ("pipe", "list") or "folder" in place else place) in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_run_whose_held_out_file_is_a_pipe_is_refused_at_once(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    os.mkfifo(tmp_path / "pipe")
    config = tmp_path / "run" / "config.yaml"
    data = yaml.safe_load(config.read_text())
    data["corpus"]["validation"] = str(tmp_path / "pipe")
    config.write_text(yaml.safe_dump(data))
    assert f"{tmp_path / 'pipe'}: not an ordinary file" in run("eval", tmp_path / "run").stderr


@pytest.mark.parametrize("path", ["", "/**/*.txt", "/*/a.txt"])
def test_a_huge_folder_is_not_searched_for_the_text_of_a_run(path: str, tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / str(number % 3)).mkdir(exist_ok=True)
        save(tmp_path / str(number % 3) / f"{number}.txt", b"text")
    refuse_special_files([f"{tmp_path}{path}".replace("a.txt", "*.txt")], most=33)
    with pytest.raises(CorpusError, match="more than 32 files and folders to search"):
        refuse_special_files([f"{tmp_path}{path}"], most=32)


def test_what_a_user_names_may_be_a_pipe_but_no_endless_device(tmp_path: Path, bounds: Bounds) -> None:
    with bounds():
        assert refused(Path("/dev/zero")) == "/dev/zero: this is a device, not a file; name a file of text"
    assert refused(Path(os.devnull)) == f"{os.devnull}: the corpus is empty; name a file that holds text"
    refuse_special_files([str(save(tmp_path / "a", b"text"))])


@pytest.mark.slow
def test_a_packed_corpus_trains_and_is_evaluated(tmp_path: Path) -> None:
    for kind, pack in PACKERS.items():
        path = save(tmp_path / f"text.{kind}", pack(TEXT[:9000].encode()))
        train = ["train", "--corpus", path, "--budget", "1 steps", "--set", "model.hidden_size=4", "--quiet"]
        answer(*train, "--out", tmp_path / kind)
        assert answer("eval", tmp_path / kind)
