"""Amounts of training: "90s", "1 hour 30 minutes", "20 epochs", "5k steps", "10M characters", "10%"."""

from __future__ import annotations

import math
import re

_NUMBER = r"\d{1,3}(?:,\d{3})+|[\d_]*\.?\d[\d_]*\.?"  # 5000, 5,000, 5_000, 1.5, .5
_TIME_UNITS = {
    86400.0: "d|days?",
    3600.0: "h|hrs?|hours?",
    60.0: "m|mins?|minutes?",
    1.0: "s|secs?|seconds?",
}
_SCALES = {"": 1.0, "k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6, "g": 1e9, "billion": 1e9}
_TIME = re.compile(
    r"(?:\s|,|\band\b)*".join(rf"(?:({_NUMBER})\s*(?:{names})(?![a-z]))?" for names in _TIME_UNITS.values()), re.I
)
_COUNT = re.compile(
    rf"(?P<number>{_NUMBER})\s*(?P<scale>{'|'.join(_SCALES)})\s*(?P<unit>epoch|step|char(?:acter)?)s?", re.I
)
_PERCENT = re.compile(rf"(?P<number>{_NUMBER})\s*%")
_MAX_CHARACTERS = 100
_NOT_AN_AMOUNT = "not an amount of training; write for example 3m, 90s, 20 epochs, 5000 steps or 10M characters"


def parse_amount(text: str) -> tuple[str, float]:
    """Reads an amount of training.

    A time has each of its units at most once, the largest first; letters may be small or capital, but for M alone,
    which could be minutes or millions.

    Args:
        text: for example `3m`, `1h30m`, `90 seconds`, `20 epochs`, `5k steps`, `10M characters` or `10%`.

    Returns:
        The unit, one of `seconds`, `epochs`, `steps`, `characters` and `percent`, and a positive number.

    Raises:
        ValueError: the text is none of these.
    """
    text = text.strip()
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(_NOT_AN_AMOUNT)
    unit, amount = "", 0.0
    if re.fullmatch(_NUMBER, text):
        raise ValueError(missing_unit(text))
    if match := _COUNT.fullmatch(text):
        name = match["unit"].lower()
        unit = "characters" if name == "char" else name + "s"
        amount = _number(match["number"]) * _SCALES[match["scale"].lower()]
    elif match := _PERCENT.fullmatch(text):
        unit, amount = "percent", _number(match["number"])
    elif text and not re.search(r"\dM(?![a-z])", text) and (match := _TIME.fullmatch(text)):
        unit = "seconds"
        amount = sum(_number(n) * seconds for n, seconds in zip(match.groups(), _TIME_UNITS, strict=True) if n)
    if not 0 < amount < math.inf:
        raise ValueError(_NOT_AN_AMOUNT)
    return unit, amount


def divide_amount(text: str, parts: int) -> str:
    """Returns one of so many equal parts of an amount; a single part is the text as it is."""
    unit, amount = parse_amount(text)
    return text if parts == 1 else f"{amount / parts:.9f} {unit}"


def missing_unit(number: str) -> str:
    """Returns the message for a number alone, which could be steps, seconds or epochs."""
    shown = number if len(number) <= 20 and _number(number) > 0 else "100"
    return f"a unit is missing; write for example {shown} steps, {shown}s or {shown} epochs"


def _number(text: str) -> float:
    return float(text.replace("_", "").replace(",", ""))
