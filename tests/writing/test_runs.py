"""Verbatim runs: what is found is there, is the longest, and is the same as a slow search finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.writing import runs
from charlm.writing.runs import find_longest_runs, find_matches


def longest_run(line: str, text: str) -> tuple[int, int, int]:
    """Tries all runs, the longest first: length, place in the line and place in the text."""
    for length in range(len(line), 0, -1):
        for start in range(len(line) - length + 1):
            run = line[start : start + length]
            if run in text and "\ufffd" not in run:
                return length, start, text.index(run)
    return 0, 0, 0


letters = st.text(st.sampled_from("aab船\ufffd🙂"), max_size=12)


@given(
    st.lists(letters, max_size=5),
    st.text(st.sampled_from("aab船\ufffd"), max_size=40),
    st.sampled_from([3, 1000]),
    st.sampled_from([0, 1 << 20]),
)
def test_runs_are_those_of_a_slow_search(lines: list[str], text: str, chunk: int, table: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_CHUNK_CHARACTERS", chunk)
        patch.setattr(runs, "_TABLE_NUMBERS", table)
        found = find_longest_runs(lines, text)
    assert [(run.length, run.in_line, run.in_text) for run in found] == [longest_run(line, text) for line in lines]


@given(st.lists(letters, max_size=3), st.text(st.sampled_from("aab船\ufffd"), max_size=30))
def test_from_each_place_the_longest_run_is_found(lines: list[str], text: str) -> None:
    for line, found in zip(lines, find_matches(lines, text), strict=True):
        for place in range(len(line)):
            rest = line[place:].partition("\ufffd")[0]
            length = next(n for n in range(len(rest), -1, -1) if rest[:n] in text)
            assert found.lengths[place] == length
            if length:
                assert found.places[place] == text.index(rest[:length])
