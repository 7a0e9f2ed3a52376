"""Amounts of training: "90s", "1h30m", "20 epochs", "5000 steps", "10M characters", and for intervals "10%"."""

from __future__ import annotations

import math
import re

_TIME = re.compile(r"(?:(?P<d>[\d.]+)d)?(?:(?P<h>[\d.]+)h)?(?:(?P<m>[\d.]+)m)?(?:(?P<s>[\d.]+)s)?")
_COUNT = re.compile(r"(?P<number>[\d_.]+)\s*(?P<scale>[kKMG]?)\s*(?P<unit>epoch|step|character)s?")
_PERCENT = re.compile(r"(?P<number>[\d.]+)\s*%")
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_SCALE = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}


def parse_amount(text: str) -> tuple[str, float]:
    """Reads an amount of training.

    Args:
        text: for example `3m`, `1h30m`, `20 epochs`, `5000 steps`, `10M characters` or `10%`.

    Returns:
        The unit, one of `seconds`, `epochs`, `steps`, `characters` and `percent`, and a positive number.

    Raises:
        ValueError: the text is none of these.
    """
    text = text.strip()
    unit, amount = "", 0.0
    try:
        if match := _COUNT.fullmatch(text):
            unit = match["unit"] + "s"
            amount = float(match["number"].replace("_", "")) * _SCALE[match["scale"]]
        elif match := _PERCENT.fullmatch(text):
            unit, amount = "percent", float(match["number"])
        elif text and (match := _TIME.fullmatch(text)):
            unit = "seconds"
            amount = sum(float(n) * _SECONDS[u] for u, n in match.groupdict().items() if n)
    except ValueError:
        amount = 0.0
    if not 0 < amount < math.inf:
        raise ValueError("write for example 3m, 90s, 20 epochs, 5000 steps or 10M characters")
    return unit, amount
