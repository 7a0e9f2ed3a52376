"""Numbers of things and of bytes, as messages write them."""

import pytest

from charlm.system.counts import count_of, format_size, parse_size


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


@pytest.mark.parametrize(
    ("text", "size"), [("300", 300), ("1.5 kB", 1500), ("100GB", 1e11), ("2 tb", 2e12), (" 7 MB ", 7e6)]
)
def test_a_size_is_read_as_people_write_it(text: str, size: float):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "0 GB", "-1 GB", "1 q", "GB", "1,5 GB", "1e9", "nan", "١٢"])
def test_what_is_no_size_is_refused(text: str):
    with pytest.raises(ValueError, match="is not a size; write for example 300 MB"):
        parse_size(text)
