"""Lines or a stream: is each line of a text a text of its own, or is it one running text?

Name lists, word lists, verse a line, sentences a line, JSON lines, tables and logs are lines; prose, code and
plays are streams. What is looked at is the beginning of the text, and this is what decides, in this order:

- lines of a few words with a blank line after each: lines, and the blank ones do not count;
- blank lines, or separator lines such as `%` and `---`, which part paragraphs, poems and functions: a stream;
- lines that begin with blanks, as code and letters do: a stream;
- lines that are requests of roff or tags and nothing else, and sequences below a title (FASTA): a stream;
- prose that is broken at a margin, so that lines are full and sentences go on in the next one: a stream;
- paragraphs a line, of several sentences each: a stream;
- otherwise lines.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

_SAMPLE_CHARACTERS = 1 << 18  # looked at
_FEWEST_LINES = 20  # of fewer, nothing can be said
_BLANK = 0.04  # share of lines
_INDENTED = 0.15
_MARKED_UP = 0.15
_GOES_ON = 0.3
_MARGIN = 0.9  # of the lines are no longer
_FULL = 0.75  # of the margin
_FULL_LINES = 0.6  # share of the lines whose sentence goes on
_WORDS_OF_PROSE = 5  # in a line, on average
_LONG_CHARACTERS = 250  # a line, on average
_PARAGRAPHS = 0.4  # share of lines that hold several sentences
_SEVERAL = re.compile(r"[.!?][\"')\]]* +\S.*[.!?]|[。！？][」』”]?[^。！？」』”]+[。！？]")
_STRUCTURED = re.compile(
    r"\s*(?:[\[{].*[\]}],?\s*$|[\[(<]?\d)"
)  # JSON, or what begins with a date, a number, an address
_SEPARATOR = re.compile(r"\s*(?:([#$%&*+/=_~-])(?:\s*\1)*|<\|\w+\|>)\s*")  # <|endoftext|> too
_MARKUP = re.compile(r"\s*<[/!?]?[A-Za-z][^<>]*>\s*$|\.(?:[A-Z]{1,2}|\\\")(?:\s|$)")
_FASTA = re.compile(r">\s?\S.*\n[A-Za-z*-]+$", re.MULTILINE)


def find_framing(pieces: Iterable[str], notes: list[str]) -> tuple[str, Iterator[str]]:
    """Finds out how a text is framed; returns the framing, and the pieces as if none had been looked at."""
    pieces = iter(pieces)
    looked_at: list[str] = []
    size = 0
    for piece in pieces:
        looked_at.append(piece)
        size += len(piece)
        if size >= _SAMPLE_CHARACTERS:
            break
    framing, reason = judge("".join(looked_at)[:_SAMPLE_CHARACTERS])
    other = {"lines": "stream", "stream": "lines"}[framing]
    notes.append(f"framing: {framing} ({reason}); --set corpus.framing={other} changes this")
    return framing, itertools.chain(looked_at, pieces)


def judge(text: str) -> tuple[str, str]:
    """Returns `lines` or `stream` for the beginning of a text, and why."""
    lines = text.split("\n")[:-1] if text.endswith("\n") else text.split("\n")
    full = [line for line in lines if line.strip()]
    if len(full) < _FEWEST_LINES:
        return "stream", "it has few lines"
    if sum(bool(_STRUCTURED.match(line)) for line in full) > 0.9 * len(full) and len(full) > 0.9 * len(lines):
        return "lines", "each line is a record"
    words = sum(len(line.split()) for line in full) / len(full)
    is_spaced = words < _WORDS_OF_PROSE and _are_spaced(lines)
    if len(lines) - len(full) > _BLANK * len(lines) and not is_spaced:
        return "stream", "blank lines separate its parts"
    if sum(bool(_SEPARATOR.fullmatch(line)) for line in full) > _BLANK * len(full):
        return "stream", "separator lines divide it"
    if sum(line[0] in " \t" for line in full) > _INDENTED * len(full):
        return "stream", "many lines are indented"
    if sum(bool(_MARKUP.match(line)) for line in full) > _MARKED_UP * len(full):
        return "stream", "many lines are markup"
    if len(_FASTA.findall(text)) > 1 and _FASTA.match(text):
        return "stream", "it has sequences with titles"
    going_on = [len(a) for a, b in itertools.pairwise(full) if _goes_on(a, b)]
    margin = sorted(map(len, full))[int(_MARGIN * (len(full) - 1))]
    filled = sum(length > _FULL * margin for length in going_on)
    if words >= _WORDS_OF_PROSE and len(going_on) > _GOES_ON * len(full) and filled > _FULL_LINES * len(going_on):
        return "stream", "sentences continue from line to line"
    if sum(map(len, full)) / len(full) > _LONG_CHARACTERS:
        return "stream", "its lines are long"
    several = sum(bool(_SEVERAL.search(line)) for line in full) / len(full)
    if several > _PARAGRAPHS:
        return "stream", "each line is a paragraph"
    return "lines", "each line stands by itself"


def _goes_on(line: str, following: str) -> bool:
    """Says whether a sentence goes on from a line to the next."""
    return line.rstrip()[-1] not in ".!?:;…。！？：；\"')" and following[0].islower()


def _are_spaced(lines: list[str]) -> bool:
    """Says whether a blank line stands between nearly all lines that are not blank."""
    pairs = [bool(a.strip()) and bool(b.strip()) for a, b in itertools.pairwise(lines)]
    return sum(pairs) < _BLANK * len(pairs)
