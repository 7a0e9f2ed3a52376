"""Untrusted files: what a run folder may hold that someone else has made, opened and parsed within bounds.

Run folders are data that people send to each other. Each of their files is opened and parsed by a function of this
module, which says what it guarantees. Texts are left to `charlm.text.source`, which reads them piece by piece.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import yaml
from numpy.typing import NDArray

from charlm.system.portable import physical_memory_bytes

_MAX_SCALAR_CHARACTERS = 10_000  # of a value in YAML; no path is as long
_MAX_HEADER_BYTES = 1 << 22  # of a safetensors file; 16 layers and an optimiser take less than a hundredth
_DTYPES = {  # of a safetensors file, as NumPy calls them; bfloat16, which it lacks, is in no file of ours
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading.

    Guarantees that the file is no FIFO, device, socket or folder, and that opening it does not wait: a FIFO without
    a writer would block for ever. A symbolic link is followed, and what it leads to is held to the same.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
    """
    return open(_open(path, os.O_RDONLY), "rb")


def open_regular_for_writing(path: Path) -> int:
    """Opens a regular file for reading and writing, or creates it, and returns its descriptor.

    Guarantees what `open_regular` does, and that no symbolic link is followed: what is written cannot end up in
    another file. The content is left as it is.

    Raises:
        OSError: the file cannot be opened or created, or is a symbolic link, or not a regular file.
    """
    if not hasattr(os, "O_NOFOLLOW") and path.is_symlink():
        raise OSError("a symbolic link")
    return _open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0))


def _open(path: Path, flags: int) -> int:
    for name in ("O_NONBLOCK", "O_NOCTTY", "O_BINARY"):  # the third is of Windows, which lacks the others
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("not an ordinary file")
    return descriptor


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Reads a regular file.

    Guarantees what `open_regular` does, and that at most `max_bytes` + 1 bytes are read, whatever size the file has
    or claims to have.

    Raises:
        OSError: see `open_regular`.
        ValueError: the file is larger than `max_bytes`.
    """
    with open_regular(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"larger than the {max_bytes:,} bytes that such a file may have")
    return content


def parse_json(text: str, *, max_objects: int | None = None, max_lists: int | None = None) -> Any:
    """Parses JSON.

    Guarantees that every key of an object appears once (of two, each reader would believe another), that deep
    nesting ends in an error, and that there are no more objects and lists than given (a text of nothing but small
    lists takes twenty times its size in memory; brackets inside strings are counted too).

    Raises:
        ValueError: the text is not JSON, or breaks one of these rules.
    """
    for bracket, most in (("{", max_objects), ("[", max_lists)):
        if most is not None and text.count(bracket) > most:
            raise ValueError("nested too deeply")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key[:100]!r} appears twice")
        result[key] = value
    return result


class YamlLoader(yaml.SafeLoader):
    """Parses YAML into plain values: mappings, lists, texts, numbers, true, false and null.

    Guarantees that no alias is expanded (a few lines of aliases can mean gigabytes), that no tag is obeyed (tags
    such as `!!int x` crash PyYAML's own conversions), and that no scalar has more than 10,000 characters (a long
    `1:1:1` is a number to base 60, whose conversion takes for ever). Deep nesting ends in a RecursionError. Unlike
    PyYAML's own loaders it reads `4e-3` as a number, as YAML 1.2 does.

    Raises:
        yaml.YAMLError, ValueError, OverflowError, RecursionError: the text cannot be parsed.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuses aliases, tags and long scalars before anything is made of them."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        problem = None
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases (*name) are not allowed here; write the value in full"
        elif getattr(event, "tag", None) is not None:
            problem = f"the tag {event.tag} is not allowed here; remove it"
        elif isinstance(event, yaml.ScalarEvent) and len(event.value) > _MAX_SCALAR_CHARACTERS:
            most = f"at most {_MAX_SCALAR_CHARACTERS:,} are allowed"
            problem = f"a value has {len(event.value):,} characters, but {most}"
        if problem:
            raise yaml.composer.ComposerError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)


YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def map_safetensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Maps the tensors of a safetensors file into memory, without reading or allocating any.

    Guarantees what `open_regular` does; that the file is not larger than this machine's memory (holes cost a file
    nothing, so one that claims terabytes can be sent by mail); that its header has at most 4 MiB, and is a JSON
    object as `parse_json` takes it; and that the tensors lie behind each other, with the bytes that their shapes
    and dtypes ask for and none between or after them. Which tensors there should be is left to the caller.

    Returns:
        The tensors by name, read-only, and the texts in the header beside them.

    Raises:
        OSError: see `open_regular`; or the file cannot be mapped.
        ValueError: the file breaks one of these rules, or is no safetensors file.
    """
    with open_regular(path) as file:
        size, memory = os.fstat(file.fileno()).st_size, physical_memory_bytes()
        if memory is not None and size > memory:
            raise ValueError(f"it has {size / 1e9:,.0f} GB, but this machine has {memory / 1e9:,.0f} GB of memory")
        if size < 8:
            raise ValueError(f"it ends after {size} bytes")
        content = np.asarray(np.memmap(file, np.uint8, "r"))
    header_bytes = int.from_bytes(content[:8].tobytes(), "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise ValueError(f"its header has {header_bytes:,} bytes, but at most {_MAX_HEADER_BYTES:,} are allowed")
    header = parse_json(content[8 : 8 + header_bytes].tobytes().decode())
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    texts = header.pop("__metadata__", {})
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("the header's __metadata__ contains something other than strings")
    try:
        return _tensors(content[8 + header_bytes :], header), texts
    except (AttributeError, KeyError, TypeError):
        raise ValueError("the header does not describe tensors") from None


def _tensors(data: NDArray[np.uint8], header: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Returns the tensors that lie in the data of a safetensors file, by its header."""
    tensors, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: list(item[1]["data_offsets"])):
        dtype, shape, (begin, stop) = _DTYPES.get(entry["dtype"]), entry["shape"], entry["data_offsets"]
        if dtype is None:
            raise ValueError(f"{name[:100]!r} has the unsupported type {str(entry['dtype'])[:20]}")
        if not all(type(number) is int and number >= 0 for number in (begin, stop, *shape)):
            raise ValueError(f"the shape or the offsets of {name[:100]!r} are not non-negative integers")
        if begin != end or stop > len(data) or stop - begin != math.prod(shape) * np.dtype(dtype).itemsize:
            raise ValueError(f"the size or the offsets of {name[:100]!r} do not fit the file")
        tensors[name] = data[begin:stop].view(dtype).reshape(shape)
        end = stop
    if end != len(data):
        raise ValueError(f"{len(data) - end:,} unexpected bytes follow the last tensor")
    return tensors
