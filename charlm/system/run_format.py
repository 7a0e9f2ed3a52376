"""The format of run folders, by a number that stands in each of their files."""

from __future__ import annotations

from pathlib import Path

from charlm.errors import RunError

RUN_FORMAT = 4


class FormatError(RunError):
    """A file is whole, but of a format that this charlm does not read."""


def check_format(source: Path | str, number: int) -> None:
    """Checks that a file of a run folder is of the format that this charlm reads and writes.

    Raises:
        FormatError: it is of another; the message says what to do.
    """
    if number > RUN_FORMAT:
        raise FormatError(f"{source}: written by a newer charlm (format {number}); install the newest version")
    if number < RUN_FORMAT:
        raise FormatError(
            f"{source}: written by an older charlm (format {number}), whose runs this version cannot read; train "
            "the model again: copy the run's config.yaml, change the keys that `charlm config check` names in the "
            "copy, and give it to `charlm train`"
        )
