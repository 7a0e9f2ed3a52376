"""Numbers of things and of bytes, as messages write them."""

import pytest

from charlm.system.counts import count_of, format_size


@pytest.mark.parametrize(("number", "said"), [(0, "0 lines"), (1, "1 line"), (2, "2 lines"), (1234, "1,234 lines")])
def test_one_is_singular(number: int, said: str) -> None:
    assert count_of(number, "line") == said


def test_a_plural_of_its_own() -> None:
    assert [count_of(n, "occurs", "occur") for n in (1, 2)] == ["1 occurs", "2 occur"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (158_843, "158.8 kB"),
        (1_115_394, "1.1 MB"),
        (100_000_000, "100.0 MB"),
        (2_500_000_000, "2.5 GB"),
        (5_000_000_000_000, "5,000.0 GB"),
    ],
)
def test_size(number: float, said: str) -> None:
    assert format_size(number) == said
