"""Parquet tables: the texts of one column, a batch of rows at a time, so that a table may be larger than memory.

It is read by the package pyarrow, which is an extra.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charlm.errors import CorpusError
from charlm.text import json_lines
from charlm.text.columns import Field, Record, no_column, not_a_text

_MAGIC = b"PAR1"
_BATCH_ROWS = 1024
_BUFFER_BYTES = 1 << 20  # read of a column at a time, rather than all of it in a group of rows


def is_parquet(path: Path) -> bool:
    """Whether a file is a Parquet table, which begins and ends with the same four bytes."""
    try:
        with path.open("rb") as file:
            if not file.seekable() or file.read(4) != _MAGIC:
                return False
            file.seek(-4, 2)
            return file.read() == _MAGIC
    except OSError:
        return False  # told by whoever opens it


def read_parquet(path: Path, field: Field, name: str) -> Iterator[Record]:
    """Yields the records of a table; the number of the row, from 1, stands for the line.

    Args:
        path: the file.
        field: the column, by its name, its path (`data.text`) or its number from 1.
        name: what messages call the file.

    Raises:
        CorpusError: pyarrow is not installed, the file is damaged, or has no such column, or it holds no texts.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise CorpusError(
            f"{name}: this is a Parquet table, which needs pyarrow to be read; run `pip install 'charlm[parquet]'`"
        ) from None
    number = 0
    try:
        with parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES) as table:
            columns = table.schema_arrow.names
            column = _find(columns, field, name)
            batches = table.iter_batches(
                _BATCH_ROWS,
                columns=[column.partition(".")[0] if column not in columns else column],
                use_threads=False,
            )
            for batch in batches:
                for values in batch.to_pylist():
                    number += 1
                    yield Record(_text(values, column, f"{name}, row {number}"), {}, number)
    except (OSError, pyarrow.ArrowException) as error:
        problem = (str(error).splitlines() or ["not one"])[0]
        raise CorpusError(f"{name}: damaged Parquet file: {problem}; copy or download it again") from None


def _find(columns: list[str], field: Field, name: str) -> str:
    """Returns the name of a column, or the path of a value in one.

    Raises:
        CorpusError: there is none.
    """
    if isinstance(field, int):
        if not 1 <= field <= len(columns):
            raise no_column(name, field, columns)
        return columns[field - 1]
    if field not in columns and field.partition(".")[0] not in columns:
        raise no_column(name, field, columns)
    return field


def _text(values: dict[str, Any], column: str, where: str) -> str | None:
    text = json_lines.take(values, column)
    if text is json_lines.MISSING or text is None:
        return None
    if not isinstance(text, str):
        raise not_a_text(where, column, text)
    return text
