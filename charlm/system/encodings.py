"""Names of encodings: which of them Python can decode text with."""

from __future__ import annotations

import codecs
import re

AUTO = "auto"  # UTF-8, or else what the text is found to be
UTF_8 = "utf-8"
_NOT_FOR_FILES = {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"}


def check_encoding(name: str) -> str:
    """Returns the name of an encoding as it was given.

    Raises:
        ValueError: the name is neither `auto` nor an encoding that Python can decode text with.
    """
    if name != AUTO and _find(name) is None:
        raise ValueError(
            f"{name[:50]!r} is not an encoding that Python knows; examples are utf-8, gb18030, cp932 (Shift-JIS), "
            "cp949 (EUC-KR), big5, koi8-r, cp1251, cp1252 and utf-16, and `auto` recognises the encoding of each "
            "file"
        )
    return name


def is_utf8(name: str) -> bool:
    """Says whether an encoding is UTF-8, under whichever of its names."""
    return (codec := _find(name)) is not None and codec.name in ("utf-8", "utf-8-sig")


def make_decoder(name: str, errors: str = "strict") -> codecs.IncrementalDecoder:
    """Returns a decoder for bytes that arrive piece by piece; the name has passed `check_encoding`."""
    return codecs.getincrementaldecoder("utf-8" if is_utf8(name) else name)(errors)


def _find(name: str) -> codecs.CodecInfo | None:
    if not re.fullmatch(r"[A-Za-z0-9][\w.:+ -]{0,40}", name, re.ASCII):
        return None
    try:
        codec = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    is_text = getattr(codec, "_is_text_encoding", False) and codec.incrementaldecoder is not None
    return codec if is_text and codec.name.replace("-", "_") not in _NOT_FOR_FILES else None
