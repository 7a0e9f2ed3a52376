"""Reports of characters that a model has never seen: which, how often, where, and what they count for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from charlm.cli.render import note, printable
from charlm.system.counts import count_of
from charlm.text.characters import name_character

if TYPE_CHECKING:
    from charlm.scoring.summary import UnknownCharacter
    from charlm.text.vocabulary import Vocabulary

_MAX_CHARACTERS = 20  # named in a report
_MAX_PLACES = 10  # named of each character


class UnknownCounter:
    """Counts the unknown characters of scored texts, for commands that do not show the score of each text.

    Args:
        vocabulary: the vocabulary of the model that scores them.
        run: the name of the model, where there is more than one.
    """

    def __init__(self, vocabulary: Vocabulary, run: str = "") -> None:
        self._vocabulary = vocabulary
        self._head = f"{printable(run)}: " if run else ""
        self._characters = 0
        self._found: dict[str, dict[str, UnknownCharacter]] = {}  # by character, then by file

    def add(self, text: str, line: int, file: str = "") -> None:
        """Counts the unknown characters of one line; the file is named where there is more than one."""
        from charlm.scoring.summary import UnknownCharacter

        text = self._vocabulary.normalize(text)
        self._characters += len(text)
        for char in self._vocabulary.unknown_in(text):
            self._found.setdefault(char, {}).setdefault(file, UnknownCharacter()).add(line, text.count(char))

    def tell(self) -> None:
        """Prints the report on standard error, if there were unknown characters."""
        if not self._found:
            return
        several = any(file for files in self._found.values() for file in files)
        rows = []
        for char, files in self._found.items():
            places = [
                f"{printable(file)}:{line}" if file else str(line)
                for file, found in files.items()
                for line in found.lines
            ]
            rows.append((char, sum(found.count for found in files.values()), places))
        report = report_lines(self._characters, rows, "" if several else "line", self._vocabulary)
        note(self._head + "\n".join(report))


def report_lines(
    characters: int,
    found: Iterable[tuple[str, int, Sequence[str]]],
    kind: str,
    vocabulary: Vocabulary,
    *,
    skipped: bool = False,
) -> list[str]:
    """Returns the lines of a report.

    Args:
        characters: the number of characters of all texts, known and unknown.
        found: each unknown character, how often it occurs, and the places where it occurs.
        kind: what a place is, `line` or `sentence`; empty where the places speak for themselves.
        vocabulary: the vocabulary of the model.
        skipped: whether unknown characters count for nothing.
    """
    ordered = sorted(found, key=lambda row: -row[1])
    report = [f"unknown characters: {sum(count for _, count, _ in ordered):,} of {characters:,}"]
    for char, count, places in ordered[:_MAX_CHARACTERS]:
        where = ", ".join(places[:_MAX_PLACES]) + (", ..." if len(places) > _MAX_PLACES else "")
        if kind:
            where = f"{kind}{'s' if len(places) > 1 else ''} {where}"
        report.append(f"  {name_character(char)} {count_of(count, 'time')}, in {where}")
    if len(ordered) > _MAX_CHARACTERS:
        report.append(f"  and {len(ordered) - _MAX_CHARACTERS:,} more")
    if skipped:
        report.append("  they are read, but they are not scored")
    else:
        report.append(
            f"  each has 1/{vocabulary.unseen_characters:,} of the probability of <unk>: "
            "an equal share for every character of Unicode that the model has never seen"
        )
    return report
