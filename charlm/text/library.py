"""Known corpora: the texts that have a name, and how each becomes one local file.

There are three kinds: texts that come with charlm, the standard library of the running interpreter, and public
texts that are downloaded once. A download is used only after its SHA-256 is checked, and every finished file is
replaced as a whole, so a file that is there is complete. Reading is left to `reading`.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Literal
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from charlm.errors import CorpusError
from charlm.system.files import cache_folder, replace_file, shipped_folder

Progress = Callable[[int, int | None], None]

_READ_BYTES = 1 << 16
_ZIP_HEADER_BYTES = 1 << 16  # by which an archive may be larger than the one text wanted from it
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test"}  # folders of the standard library


@dataclass(frozen=True)
class KnownCorpus:
    """A corpus that has a name.

    Attributes:
        name: what the user types.
        kind: `shipped` with charlm, `public` (downloaded), or `python` (built on this machine).
        description: one line for a list.
        size_bytes: the size of the finished text file; None if it is not known yet.
        licence: the licence of the text.
        sha256: the checksum of the file itself if it is shipped, of the download if it is public, else None.
        url: the address of the download; None if there is none.
        member: the name of the text in a zip archive; None if the download is the text itself.
    """

    name: str
    kind: Literal["shipped", "public", "python"]
    description: str
    size_bytes: int | None
    licence: str
    sha256: str | None = None
    url: str | None = None
    member: str | None = None


_SHIPPED = {
    "english": "a ferry-keeper's day-book: prose, dialogue and verse in one voice",
    "chinese": "everyday sentences in simplified Chinese, one a line",
}

# Sources of the checksums and sizes:
#   tiny-shakespeare  computed from char-rnn's file; equal to dataset_infos.json of Hugging Face `datasets`
#   names             computed from makemore's names.txt
#   text8             many independent word2vec and language-model projects; 10^8 bytes by Matt Mahoney's definition
#   enwik8            dataset_infos.json of Hugging Face `datasets`; size from Matt Mahoney's "About the Test Data"
#   wikitext-2        dataset_infos.json of Hugging Face `datasets` (wikitext-2-raw-v1); address from
#                     Quettos-open-accelerator, which pins the same checksum; size from metria
#   tiny-stories      the Git LFS pointer of roneneldan/TinyStories at the revision in the address, as pinned by
#                     inkling-quant and others
_PUBLIC = (
    KnownCorpus(
        name="tiny-shakespeare",
        kind="public",
        description="40,000 lines of Shakespeare, the sample text of char-rnn and nanoGPT",
        size_bytes=1_115_394,
        licence="public domain",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    ),
    KnownCorpus(
        name="names",
        kind="public",
        description="32,033 given names, one a line, from makemore",
        size_bytes=228_145,
        licence="MIT",
        sha256="0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
        url="https://raw.githubusercontent.com/karpathy/makemore/master/names.txt",
    ),
    KnownCorpus(
        name="text8",
        kind="public",
        description="English Wikipedia of 2006 in 27 characters, a to z and space",
        size_bytes=100_000_000,
        licence="GFDL and CC BY-SA (Wikipedia)",
        sha256="a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
        url="http://mattmahoney.net/dc/text8.zip",
        member="text8",
    ),
    KnownCorpus(
        name="enwik8",
        kind="public",
        description="the first 100 MB of English Wikipedia of 2006, with its markup",
        size_bytes=100_000_000,
        licence="GFDL and CC BY-SA (Wikipedia)",
        sha256="547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
        url="http://mattmahoney.net/dc/enwik8.zip",
        member="enwik8",
    ),
    KnownCorpus(
        name="wikitext-2",
        kind="public",
        description="good English Wikipedia articles, the training split of WikiText-2 raw",
        size_bytes=10_940_747,
        licence="CC BY-SA (Wikipedia)",
        sha256="ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
        url="https://wikitext.smerity.com/wikitext-2-raw-v1.zip",
        member="wikitext-2-raw/wiki.train.raw",
    ),
    KnownCorpus(
        name="tiny-stories",
        kind="public",
        description="21,990 stories in simple English, the validation split of TinyStories",
        size_bytes=19_447_282,
        licence="CDLA-Sharing-1.0",
        sha256="94e431816c4cce81ff71e4408ff8d3bda9a42e8d2663986697c3954288cb38b4",
        url="https://huggingface.co/datasets/roneneldan/TinyStories/resolve/f54c09fd23315a6f9c86f9dc80f725de7d8f9c64/TinyStories-valid.txt",
    ),
)


def known_corpora() -> list[KnownCorpus]:
    """Lists every corpus with a name: the shipped ones that are there, `python`, then the public ones."""
    corpora = []
    for name, description in _SHIPPED.items():
        path = _shipped_path(name)
        if path.is_file():
            size, licence = path.stat().st_size, "MIT, written for charlm"
            known = KnownCorpus(name, "shipped", description, size, licence, _sha256(path))
            corpora.append(known)
    built = _python_path(_corpora_folder())
    size_built = built.stat().st_size if built.is_file() else None
    description = "Python source code, the running interpreter's own standard library"
    corpora.append(KnownCorpus("python", "python", description, size_built, "PSF-2.0"))
    return [*corpora, *_PUBLIC]


def known_corpus(name: str) -> KnownCorpus:
    """Returns the corpus of this name.

    Raises:
        CorpusError: there is none; the message suggests the nearest names.
    """
    corpora = {corpus.name: corpus for corpus in known_corpora()}
    if name not in corpora:
        near = " or ".join(repr(match) for match in difflib.get_close_matches(name, corpora))
        hint = f"did you mean {near}? The" if near else "the"
        raise CorpusError(f"there is no corpus {name!r}; {hint} known ones are {', '.join(corpora)}")
    return corpora[name]


def fetch(
    name: str | KnownCorpus,
    *,
    progress: Progress | None = None,
    folder: Path | None = None,
    source: str | None = None,
    timeout: float = 30.0,
) -> Path:
    """Returns the local text file of a known corpus, which is downloaded or built first if it is not there.

    An interrupted download stays beside the target as `*.part`, and the next call resumes it. A download that was
    placed by hand where the error message says is checked and used.

    Args:
        name: the name of a known corpus, or a corpus itself, such as one that `known_corpora()` does not list.
        progress: called during a download with the number of bytes done and of all bytes (None if the server does
            not tell).
        folder: the folder to keep it in; by default `corpora` in `cache_folder()`.
        source: an address to download from instead of the corpus's own, such as a mirror.
        timeout: seconds to wait for the network at any one step.

    Raises:
        CorpusError: the name is unknown, the network or the disk fails, or a checksum differs.
    """
    corpus = name if isinstance(name, KnownCorpus) else known_corpus(name)
    if corpus.kind == "shipped":
        return _shipped_path(corpus.name)
    folder = _corpora_folder() if folder is None else folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if corpus.kind == "python":
            return _build_python(_python_path(folder))
        report = progress or (lambda done, total: None)
        return _public(corpus, folder, source or corpus.url or "", report, timeout)
    except OSError as error:  # the network's own errors have become CorpusError by here
        raise CorpusError(
            f"corpus {corpus.name!r} cannot be stored in {folder} ({error}); make room there, or set CHARLM_CACHE "
            "to another folder"
        ) from error


def find(name: str | KnownCorpus) -> Path | None:
    """Returns the text file of a corpus if that takes no network, else None (also for an unknown name).

    `python` is built if it is missing, and a download that was placed by hand is checked and used.

    Args:
        name: see `fetch`.

    Raises:
        CorpusError: a file placed by hand has the wrong checksum, or the disk fails.
    """
    corpus = name if isinstance(name, KnownCorpus) else {c.name: c for c in known_corpora()}.get(name)
    if corpus is None:
        return None
    if corpus.kind == "public":
        text, download = _places(corpus, _corpora_folder())
        if not (download.is_file() or _has_size(text, corpus.size_bytes)):
            return None
    return fetch(corpus)


def _corpora_folder() -> Path:
    return cache_folder() / "corpora"


def _shipped_path(name: str) -> Path:
    return shipped_folder("data") / f"{name}.txt"


def _python_path(folder: Path) -> Path:
    version = ".".join(str(number) for number in sys.version_info[:3])
    return folder / f"python-{version}.txt"


def _build_python(target: Path) -> Path:
    """Joins the UTF-8 sources of the standard library, in the order of their paths."""
    if target.is_file():
        return target
    library = Path(sysconfig.get_path("stdlib"))
    sources: list[Path] = []
    for folder, subfolders, files in os.walk(library):
        subfolders[:] = set(subfolders) - _LEFT_OUT  # os.walk does not enter what is removed here
        sources += [Path(folder, file) for file in files if file.endswith(".py")]
    if not sources:
        raise CorpusError(f"this Python has no library sources in {library}, from which the corpus is built")
    with replace_file(target, shared=True) as file:
        for path in sorted(sources):
            content = path.read_bytes()
            try:
                content.decode("utf-8")
            except UnicodeDecodeError:
                continue
            file.write(content if content.endswith(b"\n") or not content else content + b"\n")
    return target


def _places(corpus: KnownCorpus, folder: Path) -> tuple[Path, Path]:
    """Returns the paths of the finished text and of the download: one file, unless the download is an archive."""
    text = folder / f"{corpus.name}.txt"
    return text, text.with_suffix(".zip") if corpus.member else text


def _public(corpus: KnownCorpus, folder: Path, url: str, report: Progress, timeout: float) -> Path:
    text, download = _places(corpus, folder)
    if corpus.member and _has_size(text, corpus.size_bytes):
        return text
    if not download.is_file():
        _download(corpus, url, download, report, timeout)
    elif (got := _sha256(download)) != corpus.sha256:
        raise CorpusError(
            f"{download} is not the download of corpus {corpus.name!r}: its SHA-256 should be {corpus.sha256} but "
            f"is {got}; delete it and run again"
        )
    if corpus.member:
        _unpack(corpus, corpus.member, download, text)
    return text


def _download(corpus: KnownCorpus, url: str, path: Path, report: Progress, timeout: float) -> None:
    """Downloads to `path`, which appears only once its checksum is right."""
    part = path.with_name(f"{path.name}.part")
    if not (part.is_file() and _sha256(part) == corpus.sha256):
        try:
            _transfer(url, part, report, timeout, limit_bytes=(corpus.size_bytes or 0) + _ZIP_HEADER_BYTES)
        except (OSError, HTTPException, ValueError) as error:  # ValueError: not an address, or too much
            reason = error.reason if type(error) is URLError else error
            raise CorpusError(
                f"corpus {corpus.name!r} cannot be downloaded ({reason}); run this command again when the network "
                f"is available, or download {url} in another way, save it as {path}, and run this command again"
            ) from error
    if (got := _sha256(part)) != corpus.sha256:
        part.unlink()
        raise CorpusError(
            f"{url} did not give corpus {corpus.name!r}: its SHA-256 should be {corpus.sha256} but is {got}; the "
            "download was deleted"
        )
    part.replace(path)


def _transfer(url: str, part: Path, report: Progress, timeout: float, limit_bytes: int) -> None:
    """Downloads `url` into `part`, resuming after the bytes already in it (RFC 9110, 14.2).

    A server that sends more than `limit_bytes` does not have the corpus, and must not fill the disk.
    """
    done = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "charlm"}  # some hosts refuse urllib's own
    if done:
        headers["Range"] = f"bytes={done}-"
    try:
        response = urlopen(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        error.close()
        if error.code != 416 or not done:
            raise
        part.unlink()  # 416: the server's file is shorter than this part, which is thus of another file
        _transfer(url, part, report, timeout, limit_bytes)
        return
    with response:
        resumed = response.status == 206  # 200: the server ignores Range and sends it all
        done = done if resumed else 0
        length = response.headers["Content-Length"]
        total = done + int(length) if length else None
        with part.open("ab" if resumed else "wb") as file:
            while chunk := response.read(_READ_BYTES):
                done += len(chunk)
                if done > limit_bytes:
                    part.unlink()
                    raise ValueError(
                        f"the server sent more than the {limit_bytes:,} bytes of the corpus; the download was "
                        "deleted"
                    )
                file.write(chunk)
                report(done, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and done < total:  # http.client does not report that a plain body ends early
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")


def _unpack(corpus: KnownCorpus, member: str, archive: Path, target: Path) -> None:
    """Writes one member of an archive to `target`; no path in the archive is ever used as a path on disk."""
    limit_bytes = corpus.size_bytes or 0
    with (
        zipfile.ZipFile(archive) as opened,
        opened.open(member) as packed,
        replace_file(target, shared=True) as file,
    ):
        while chunk := packed.read(_READ_BYTES):
            if file.tell() + len(chunk) > limit_bytes:
                raise CorpusError(
                    f"{member} in {archive} is larger than the {limit_bytes:,} bytes of corpus {corpus.name!r}, so "
                    f"it was not unpacked; delete {archive} and run again"
                )
            file.write(chunk)


def _has_size(path: Path, size: int | None) -> bool:
    return path.is_file() and path.stat().st_size == size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
