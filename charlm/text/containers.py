"""Containers: which files are packed and how they are unpacked, and which cannot be text at all, known by content.

Unpacking is bounded by whoever reads, see `source`. Nothing of a zip archive is written to disk, and no name in one
is used as a path.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO, cast
from zipfile import BadZipFile, ZipFile, ZipInfo

HEAD_BYTES = 4096  # of a file, by which it is recognised
_XZ_MEMORY_BYTES = 1 << 28  # of a decompressor; `xz -9` needs 65 MiB
_ZSTD_FEED_BYTES = 1 << 10  # given to a decompressor at a time, which makes at most 32 MiB of it
_PACKED = {
    "gzip": (b"\x1f\x8b",),
    "bzip2": tuple(b"BZh%d1AY&SY" % level for level in range(1, 10))
    + tuple(b"BZh%d\x17\x72\x45\x38\x50\x90" % level for level in range(1, 10)),
    "xz": (b"\xfd7zXZ\x00",),
    "zstd": (b"\x28\xb5\x2f\xfd",),
    "zip": (b"PK\x03\x04", b"PK\x05\x06"),
}
_SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, BadZipFile)  # what unpacking raises beside OSError


@dataclass(frozen=True)
class NotText:
    """What a file is that is no text.

    Attributes:
        kind: with its article, such as `a PDF document`.
        way_out: what makes text of it, where there is such a tool; `{}` stands for the file.
    """

    kind: str
    way_out: str = ""


_OFFICE = "libreoffice --headless --convert-to txt:Text {}"
_OCR = "tesseract {} stdout"
_MEDIA = "whisper {}"
_TAR = NotText("a tar archive", "tar xf {}")
PARQUET = NotText("a Parquet table", "parquet-tools csv {}")  # but for those who read a column of it
_PROGRAM = NotText("a program", "strings {}")
_SIGNATURES: tuple[tuple[int, bytes, NotText], ...] = (
    (0, b"%PDF-", NotText("a PDF document", "pdftotext {} -")),
    (0, b"{\\rtf", NotText("an RTF document", _OFFICE)),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", NotText("an old Word, Excel or PowerPoint document", _OFFICE)),
    (60, b"BOOKMOBI", NotText("a Kindle book", "ebook-convert {} book.txt")),
    (0, b"AT&TFORM", NotText("a DjVu document", "djvutxt {}")),
    (0, b"\x89PNG\r\n\x1a\n", NotText("a PNG image", _OCR)),
    (0, b"\xff\xd8\xff", NotText("a JPEG image", _OCR)),
    (0, b"GIF87a", NotText("a GIF image", _OCR)),
    (0, b"GIF89a", NotText("a GIF image", _OCR)),
    (0, b"II*\0", NotText("a TIFF image", _OCR)),
    (0, b"MM\0*", NotText("a TIFF image", _OCR)),
    (0, b"BM", NotText("a BMP image", _OCR)),
    (8, b"WEBP", NotText("a WebP image", _OCR)),
    (8, b"WAVE", NotText("a WAV recording", _MEDIA)),
    (8, b"AVI ", NotText("an AVI video", _MEDIA)),
    (4, b"ftypheic", NotText("an HEIC image", _OCR)),
    (4, b"ftypavif", NotText("an AVIF image", _OCR)),
    (4, b"ftyp", NotText("an MP4 video or recording", _MEDIA)),
    (0, b"\x1aE\xdf\xa3", NotText("a Matroska video", _MEDIA)),
    (0, b"ID3\x02", NotText("an MP3 recording", _MEDIA)),
    (0, b"ID3\x03", NotText("an MP3 recording", _MEDIA)),
    (0, b"ID3\x04", NotText("an MP3 recording", _MEDIA)),
    (0, b"\xff\xfb", NotText("an MP3 recording", _MEDIA)),
    (0, b"OggS\0", NotText("an Ogg recording", _MEDIA)),
    (0, b"fLaC\0", NotText("a FLAC recording", _MEDIA)),
    (0, b"7z\xbc\xaf\x27\x1c", NotText("a 7-Zip archive", "7z x {}")),
    (0, b"Rar!\x1a\x07", NotText("a RAR archive", "unrar x {}")),
    (257, b"ustar", _TAR),
    (0, b"MSCF\0\0\0\0", NotText("a cabinet archive", "cabextract {}")),
    (0, b"!<arch>\n", NotText("an ar archive or Debian package", "ar x {}")),
    (0, b"\x04\x22\x4d\x18", NotText("an LZ4 file", "lz4 -d {}")),
    (0, b"LZIP\x01", NotText("an lzip file", "lzip -d -k {}")),
    (0, b"\x1f\x9d", NotText("a file of compress", "uncompress -k {}")),
    (0, b"\xed\xab\xee\xdb", NotText("an RPM package", "rpm2cpio {}")),
    (0, b"MZ", _PROGRAM),
    (0, b"\x7fELF", _PROGRAM),
    (0, b"\xcf\xfa\xed\xfe", _PROGRAM),
    (0, b"\xce\xfa\xed\xfe", _PROGRAM),
    (0, b"\xca\xfe\xba\xbe", _PROGRAM),
    (0, b"\0asm", _PROGRAM),
    (0, b"SQLite format 3\0", NotText("an SQLite database", "sqlite3 {} .dump")),
    (0, b"PAR1", PARQUET),
    (0, b"ARROW1\0", NotText("an Arrow table")),
    (0, b"\x89HDF\r\n\x1a\n", NotText("an HDF5 file", "h5dump {}")),
    (0, b"\x93NUMPY", NotText("a NumPy array")),
    (0, b"OTTO\0", NotText("a font")),
    (0, b"\0\1\0\0\0", NotText("a font")),
    (0, b"wOFF", NotText("a font")),
    (0, b"wOF2", NotText("a font")),
    (0, b"\x80\x04\x95", NotText("a Python pickle")),
    (0, b"\x80\x05\x95", NotText("a Python pickle")),
)
# What is a zip archive by content, told by the names of its members.
_ZIPPED = (
    ("word/", NotText("a Word document", "pandoc -t plain {}")),
    ("xl/", NotText("an Excel workbook", "xlsx2csv {}")),
    ("ppt/", NotText("a PowerPoint presentation", _OFFICE)),
    ("META-INF/container.xml", NotText("an EPUB book", "pandoc -t plain {}")),
    ("META-INF/manifest.xml", NotText("an OpenDocument text", "pandoc -t plain {}")),
    ("META-INF/MANIFEST.MF", NotText("a Java archive")),
    ("AndroidManifest.xml", NotText("an Android package")),
)
BINARY = NotText("binary data")


def packing_by_name(name: str) -> str | None:
    """Returns how a file should be packed by the end of its name, or None if it should not."""
    return _SUFFIXES.get(PurePosixPath(name).suffix.lower())


def packing(head: bytes) -> str | None:
    """Returns how a file is packed that begins with these bytes, such as `gzip`, or None."""
    return next((kind for kind, signatures in _PACKED.items() if head.startswith(signatures)), None)


def may_be_packed(head: bytes) -> bool:
    """Says whether a file that begins with these few bytes may turn out to be packed when more of it is known."""
    return any(s.startswith(head) and s != head for signatures in _PACKED.values() for s in signatures)


def not_text(head: bytes) -> NotText | None:
    """Says what a file is that begins with these bytes and cannot be text, or returns None."""
    return next((what for offset, signature, what in _SIGNATURES if _is(head, offset, signature)), None)


def _is(head: bytes, offset: int, signature: bytes) -> bool:
    if not head.startswith(signature, offset):
        return False
    if offset == 8:
        return head.startswith(b"RIFF")
    return (
        len(signature) > 4 or b"\0" in head or (len(signature) > 2 and not head.isascii())
    )  # else a word may be it


def unpack(kind: str, packed: BinaryIO) -> IO[bytes]:
    """Opens a packed file of one stream; what reading it raises is an OSError or one of `DAMAGE`.

    Raises:
        ModuleNotFoundError: this Python cannot unpack zstd.
    """
    if kind == "gzip":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=packed))
    if kind == "bzip2":
        return bz2.BZ2File(packed)
    return io.BufferedReader(_Frames(_xz_decompressor if kind == "xz" else _zstd_decompressor(), packed))


def _xz_decompressor() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)


def _zstd_decompressor() -> Any:
    """Returns what makes a decompressor: of Python 3.14 and later, or of the package `zstandard`."""
    try:
        return importlib.import_module("compression.zstd").ZstdDecompressor
    except ModuleNotFoundError:
        return importlib.import_module("zstandard").ZstdDecompressor().decompressobj


class _Frames(io.RawIOBase):
    """The content of a file of compressed frames, one after another, each with a decompressor of its own."""

    def __init__(self, make_decompressor: Any, packed: BinaryIO) -> None:
        self._make = make_decompressor
        self._decompressor: Any = None
        self._packed = packed
        self._input = self._output = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output:
            if not self._input:
                self._input = self._packed.read(_ZSTD_FEED_BYTES)
            if self._decompressor is None or self._decompressor.eof:
                self._input = self._input.lstrip(b"\0") if self._decompressor else self._input  # padding of xz
                if not self._input:
                    if self._packed.peek(1):  # type: ignore[attr-defined]
                        continue
                    return 0
                self._decompressor = self._make()
            elif not self._input:
                raise EOFError("it ends too early")
            try:
                self._output = self._decompressor.decompress(self._input)
            except (OSError, lzma.LZMAError):
                raise
            except Exception as error:  # the errors of zstd have no class in common
                raise EOFError(str(error)) from None
            self._input = self._decompressor.unused_data if self._decompressor.eof else b""
        count = min(len(buffer), len(self._output))
        buffer[:count] = self._output[:count]
        self._output = self._output[count:]
        return count


def members(archive: ZipFile) -> tuple[list[ZipInfo], NotText | None]:
    """Lists the files of a zip archive that are not hidden, in order of their names, or says what else it is."""
    names = archive.namelist()
    for prefix, what in _ZIPPED:
        if any(name.startswith(prefix) for name in names) and any(
            name in ("[Content_Types].xml", "mimetype", "META-INF/MANIFEST.MF", "AndroidManifest.xml")
            for name in names
        ):
            return [], what
    if any(name.endswith("/data.pkl") for name in names):
        return [], NotText("a PyTorch file")
    files = [
        info
        for info in archive.infolist()
        if not info.is_dir()
        and not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(info.filename).parts)
    ]
    return sorted(files, key=lambda info: info.filename), None


def open_member(archive: ZipFile, info: ZipInfo) -> IO[bytes]:
    """Opens a file of a zip archive.

    Raises:
        BadZipFile: it is encrypted, or packed in a way that Python cannot unpack.
    """
    if info.flag_bits & 1:
        raise BadZipFile("it is encrypted; unzip it first")
    try:
        return archive.open(info)
    except NotImplementedError as error:
        raise BadZipFile(str(error)) from None
