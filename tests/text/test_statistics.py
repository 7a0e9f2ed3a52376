"""What `charlm corpus stats` counts."""

from hypothesis import given
from hypothesis import strategies as st

from charlm.text.statistics import statistics


def test_statistics_count_what_matters_before_training() -> None:
    found = statistics("画bb\naaaa\n\naaab")
    assert (found.characters, found.bytes, found.lines, found.vocabulary) == (14, 16, 4, 4)
    assert found.frequent == [("a", 7), ("b", 3), ("\n", 3), ("画", 1)]
    assert found.rare == [("画", 1)]
    assert found.longest == [(2, 4), (4, 4), (1, 3), (3, 0)]


@given(st.lists(st.text(st.sampled_from("ab\n画"), max_size=9), max_size=9))
def test_a_text_in_pieces_has_the_statistics_of_the_whole(pieces: list[str]) -> None:
    assert statistics(pieces) == statistics("".join(pieces))


@given(st.text(min_size=1))
def test_statistics_agree_with_a_plain_count(text: str) -> None:
    found = statistics(text)
    lines = text.removesuffix("\n").split("\n")
    assert (found.characters, found.lines, found.vocabulary) == (len(text), len(lines), len(set(text)))
    counts = [text.count(char) for char, _ in found.frequent]
    assert counts == [count for _, count in found.frequent] == sorted(map(text.count, set(text)), reverse=True)[:10]
    assert sorted(found.rare) == sorted((char, text.count(char)) for char in set(text) if text.count(char) <= 2)
    assert [count for _, count in found.rare] == sorted(count for _, count in found.rare)
    assert [len(lines[number - 1]) for number, _ in found.longest] == sorted(map(len, lines), reverse=True)[:5]
