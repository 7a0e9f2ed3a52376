"""The words of a text that white space separates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from charlm.text.plain import UNREADABLE

_WORD = re.compile(rf"[^\s{UNREADABLE}]+")
_WITHOUT_PUNCTUATION = re.compile(r"[^\W_](?:.*[^\W_])?", re.DOTALL)


def list_words(text: str) -> list[str]:
    """Returns what white space separates, without the punctuation around it, in order."""
    words = (_WITHOUT_PUNCTUATION.search(found[0]) for found in _WORD.finditer(text))
    return [word[0] for word in words if word]


def count_words(texts: Sequence[str]) -> Counter[str]:
    """Counts the words of texts, as `list_words` gives them."""
    result: Counter[str] = Counter()
    for word, count in Counter(found[0] for text in texts for found in _WORD.finditer(text)).items():
        if core := _WITHOUT_PUNCTUATION.search(word):
            result[core[0]] += count
    return result


def share_known(words: Counter[str], known: set[str]) -> float | None:
    """Returns the share of the words that are among the known ones; None if there are no words."""
    found = sum(count for word, count in words.items() if word in known)
    return found / words.total() if words else None
