"""Batches: every character is a target once an epoch, and behind each input stands what really follows it."""

from itertools import groupby, islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.errors import CorpusError
from charlm.system.counts import count_of
from charlm.text.batches import IGNORE, LineBatches, StreamBatches, Window, line_bounds, pad_lines

BOUNDARY = 1


def all_of(windows: list[Window]) -> tuple[np.ndarray, np.ndarray]:
    """The windows of one batch side by side again: inputs and targets, each (B, S)."""
    return np.hstack([w.inputs for w in windows]), np.hstack([w.targets for w in windows])


def assert_same(windows: list[Window], expected: list[Window]) -> None:
    for window, other in zip(windows, expected, strict=True):
        assert (window.inputs == other.inputs).all()
        assert (window.targets == other.targets).all()
        assert (window.carry == other.carry).all()


# --- Streams


@st.composite
def streams(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """N, B, T, a seed and an epoch."""
    B = draw(st.integers(1, 9))
    return draw(st.integers(2 * B, 200)), B, *map(draw, (st.integers(1, 40), st.integers(0, 9), st.integers(0, 9)))


def stream_windows(N: int, B: int, T: int, seed: int, epoch: int) -> list[Window]:
    """Windows of a text in which the i-th character has id i, so that each place can be told from all others."""
    return list(StreamBatches(np.arange(N, dtype=np.int32), B, T, seed).epoch(epoch))


@given(streams())
def test_each_character_of_a_stream_is_a_target_exactly_once_an_epoch(drawn: tuple[int, ...]) -> None:
    _, targets = all_of(stream_windows(*drawn))
    assert sorted(targets[targets != IGNORE].tolist()) == list(range(drawn[0]))


@given(streams())
def test_each_input_is_the_character_before_its_target_the_last_one_before_the_first(
    drawn: tuple[int, ...],
) -> None:
    N = drawn[0]
    inputs, targets = all_of(stream_windows(*drawn))
    real = targets != IGNORE
    assert (inputs[real] == (targets[real] - 1) % N).all()
    assert np.isin(inputs, np.arange(N)).all()  # padding too is an id that the model has


@given(streams())
def test_a_row_carries_on_from_window_to_window_and_into_the_next_row(drawn: tuple[int, ...]) -> None:
    N, B, *_ = drawn
    _, targets = all_of(stream_windows(*drawn))
    rows = [row[row != IGNORE] for row in targets]
    text = np.concatenate(rows)
    assert text.tolist() == [(text[0] + i) % N for i in range(N)]
    assert all((row[len(kept) :] == IGNORE).all() for row, kept in zip(targets, rows, strict=True))
    assert {len(row) for row in rows} <= {N // B, -(-N // B)}  # as even as can be


@given(streams())
def test_windows_are_as_wide_as_asked_for_and_only_the_first_starts_from_a_zero_state(
    drawn: tuple[int, ...],
) -> None:
    N, B, T, seed, _ = drawn
    windows = stream_windows(*drawn)
    widths = [w.inputs.shape[1] for w in windows]
    assert all(w.inputs.shape == w.targets.shape == (B, width) for w, width in zip(windows, widths, strict=True))
    assert set(widths[:-1]) <= {T}
    assert 1 <= widths[-1] <= T
    assert sum(widths) == -(-N // B)
    assert [w.carry.tolist() for w in windows] == [[i > 0] * B for i in range(len(windows))]
    batches = StreamBatches(np.arange(N, dtype=np.int32), B, T, seed)
    assert batches.windows_per_epoch == len(windows)
    assert windows[0].inputs.dtype == windows[0].targets.dtype == np.int32


@given(streams())
def test_the_same_seed_and_epoch_give_the_same_windows_whatever_was_read_before(drawn: tuple[int, ...]) -> None:
    N, B, T, seed, epoch = drawn
    batches = StreamBatches(np.arange(N, dtype=np.int32), B, T, seed)
    for _ in batches.epoch(epoch + 1):
        break
    assert_same(list(batches.epoch(epoch)), stream_windows(*drawn))


@given(streams(), st.integers(0, 50))
def test_an_epoch_can_be_entered_at_any_window(drawn: tuple[int, ...], first: int) -> None:
    N, B, T, seed, epoch = drawn
    batches = StreamBatches(np.arange(N, dtype=np.int32), B, T, seed)
    assert_same(list(batches.epoch(epoch, first)), list(batches.epoch(epoch))[first:])


# --- Streams in parts: what is held out lies between them


@st.composite
def streams_in_parts(draw: st.DrawFn) -> tuple[tuple[int, int, int, int, int], list[int]]:
    """N, B, T, a seed and an epoch; and where the parts of the text begin."""
    drawn = draw(streams())
    cuts = draw(st.sets(st.integers(1, drawn[0] - 1), min_size=1, max_size=8))
    return drawn, [0, *sorted(cuts)]


def batches_in_parts(drawn: tuple[int, int, int, int, int], parts: list[int]) -> StreamBatches:
    N, B, T, seed, _ = drawn
    ids = np.arange(1, N + 1, dtype=np.int32)  # 0 is the symbol before the first of a part
    return StreamBatches(ids, B, T, seed, parts=parts, first_id=0)


def rows_of(windows: list[Window]) -> list[list[tuple[list[int], list[int], bool]]]:
    """Of each row the inputs and targets of its windows, as far as they are real, and whether the state goes on."""
    rows: list[list[tuple[list[int], list[int], bool]]] = [[] for _ in windows[0].inputs]
    for window in windows:
        for row, inputs, targets, carry in zip(rows, *window, strict=True):
            real = targets != IGNORE
            assert real[: real.sum()].all()  # a row is padded at its end alone
            row.append((inputs[real].tolist(), targets[real].tolist(), bool(carry)))
    return rows


@given(streams_in_parts())
def test_each_character_of_parts_is_a_target_exactly_once_an_epoch(
    drawn: tuple[tuple[int, int, int, int, int], list[int]],
) -> None:
    (N, B, T, _, epoch), _ = drawn
    windows = list(batches_in_parts(*drawn).epoch(epoch))
    targets = [target for row in rows_of(windows) for _, each, _ in row for target in each]
    assert sorted(targets) == list(range(1, N + 1))
    assert all(len(window.inputs) == B and 1 <= window.inputs.shape[1] <= T for window in windows)
    assert all((window.targets != IGNORE).any() for window in windows)
    sizes = [sum(len(each) for _, each, _ in row) for row in rows_of(windows)]
    assert set(sizes) <= {N // B, -(-N // B)}  # as even as can be


@given(streams_in_parts())
def test_no_state_and_no_input_reaches_across_the_begin_of_a_part(
    drawn: tuple[tuple[int, int, int, int, int], list[int]],
) -> None:
    (*_, epoch), parts = drawn
    begins = {part + 1 for part in parts}  # the first symbols of parts
    for row in rows_of(list(batches_in_parts(*drawn).epoch(epoch))):
        before = None  # the last symbol that the state of this row has seen as a target
        for number, (inputs, targets, carry) in enumerate(row):
            if not targets:
                continue
            assert not begins & set(targets[1:])  # a part begins in a window of its own
            assert inputs[1:] == targets[:-1]
            assert inputs[0] == (0 if targets[0] in begins else targets[0] - 1)
            assert carry == (number > 0 and targets[0] not in begins)
            assert not carry or targets[0] - 1 == before
            before = targets[-1]


@given(streams_in_parts(), st.integers(0, 60))
def test_an_epoch_of_parts_can_be_entered_at_any_window_and_the_first_one_is_as_long_as_is_said(
    drawn: tuple[tuple[int, int, int, int, int], list[int]], first: int
) -> None:
    epoch = drawn[0][-1]
    windows = list(batches_in_parts(*drawn).epoch(epoch))
    assert_same(list(batches_in_parts(*drawn).epoch(epoch, first)), windows[first:])
    batches = batches_in_parts(*drawn)
    assert len(list(batches.epoch(0))) == batches.windows_per_epoch


@given(streams())
def test_one_part_is_a_whole_text(drawn: tuple[int, int, int, int, int]) -> None:
    whole = [
        Window(w.inputs + 1, np.where(w.targets < 0, IGNORE, w.targets + 1), w.carry)
        for w in stream_windows(*drawn)
    ]
    assert_same(list(batches_in_parts(drawn, [0]).epoch(drawn[-1])), whole)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_ids_are_read_in_whatever_size_they_are_stored(dtype: type) -> None:
    ids = np.arange(120, dtype=np.int32)
    assert_same(
        list(StreamBatches(ids.astype(dtype), 7, 5, 1).epoch(0)), list(StreamBatches(ids, 7, 5, 1).epoch(0))
    )


def test_other_epochs_and_other_seeds_enter_the_text_elsewhere() -> None:
    entries = {
        stream_windows(10**5, 2, 999, seed, epoch)[0].targets[0, 0] for seed in range(3) for epoch in range(3)
    }
    assert len(entries) == 9


@given(st.integers(2, 50), st.integers(1, 60))
def test_a_text_of_less_than_two_characters_a_stream_is_refused_with_advice_that_helps(N: int, B: int) -> None:
    ids = np.arange(N, dtype=np.int32)
    if N >= 2 * B:
        assert StreamBatches(ids, B, 4, 1).windows_per_epoch
        return
    with pytest.raises(CorpusError, match=rf"has {N} characters, .* training.batch_size: {B}; lower") as caught:
        StreamBatches(ids, B, 4, 1)
    advised = int(str(caught.value).partition("to at most ")[2].split()[0])
    assert advised < B
    assert StreamBatches(ids, advised, 4, 1).windows_per_epoch


@pytest.mark.parametrize("N", [0, 1])
def test_a_text_too_small_for_any_batch_is_refused_without_advice_that_cannot_help(N: int) -> None:
    with pytest.raises(CorpusError, match="use more text") as caught:
        StreamBatches(np.zeros(N, np.int32), 1, 4, 1)
    assert "to at most 1" not in str(caught.value)


# --- Lines


def encode(lines: list[list[int]]) -> np.ndarray:
    """Lines, each ended by the boundary, as one array of ids."""
    return np.array([symbol for line in lines for symbol in [*line, BOUNDARY]], np.int32)


def line_batches(batches: LineBatches, epoch: int) -> list[list[Window]]:
    """The windows of an epoch, batch by batch: a batch begins where the state starts from zero."""
    windows = list(batches.epoch(epoch))
    starts = np.cumsum([not window.carry.any() for window in windows])
    return [
        [window for _, window in group] for _, group in groupby(zip(starts, windows, strict=True), lambda p: p[0])
    ]


symbols = st.integers(2, 9)
texts = st.lists(st.lists(symbols, max_size=12), min_size=1, max_size=40)
widths = st.integers(1, 8)
numbers = st.integers(0, 5)


def cut(lines: list[list[int]], B: int, T: int, seed: int, epoch: int) -> list[list[Window]]:
    """The batches of an epoch, B lowered to the number of lines."""
    return line_batches(LineBatches(encode(lines), BOUNDARY, min(B, len(lines)), T, seed), epoch)


@given(texts, widths, widths, numbers, numbers)
def test_every_line_is_read_exactly_once_an_epoch_with_its_end_as_the_last_target(
    lines: list[list[int]], B: int, T: int, seed: int, epoch: int
) -> None:
    read = []
    for batch in cut(lines, B, T, seed, epoch):
        _, targets = all_of(batch)
        read += [row[row != IGNORE].tolist() for row in targets]
    assert sorted(read) == sorted([*line, BOUNDARY] for line in lines)


@given(texts, widths, widths, numbers, numbers)
def test_a_line_starts_with_the_boundary_and_each_input_is_the_target_before(
    lines: list[list[int]], B: int, T: int, seed: int, epoch: int
) -> None:
    for batch in cut(lines, B, T, seed, epoch):
        inputs, targets = all_of(batch)
        for before, after in zip(inputs, targets, strict=True):
            length = int((after != IGNORE).sum())
            assert before[:length].tolist() == [BOUNDARY, *after[: length - 1]]
            assert (after[length:] == IGNORE).all()
            assert (before[length:] == BOUNDARY).all()  # padding is an id that the model has


@given(texts, widths, widths, numbers, numbers)
def test_a_batch_is_full_and_its_long_lines_go_on_in_further_windows_with_the_state_carried(
    lines: list[list[int]], B: int, T: int, seed: int, epoch: int
) -> None:
    batches = cut(lines, B, T, seed, epoch)
    B = min(B, len(lines))
    sizes = sorted((batch[0].inputs.shape[0] for batch in batches), reverse=True)
    assert sizes == [B] * (len(lines) // B) + [len(lines) % B] * (len(lines) % B > 0)
    for batch in batches:
        assert [w.carry.tolist() for w in batch] == [[i > 0] * len(w.carry) for i, w in enumerate(batch)]
        assert all(w.inputs.shape == w.targets.shape for w in batch)
        assert all(w.inputs.shape[1] == T for w in batch[:-1])
        assert 1 <= batch[-1].inputs.shape[1] <= T
        assert (batch[-1].targets[:, -1] != IGNORE).any()  # no wider than its longest line


@given(texts, widths, widths, numbers, numbers)
def test_the_lines_of_a_batch_are_of_like_length(
    lines: list[list[int]], B: int, T: int, seed: int, epoch: int
) -> None:
    # With few lines, lengths in one batch reach up to, never into, those of the next longer batch.
    spans = []
    for batch in cut(lines, B, T, seed, epoch):
        lengths = (all_of(batch)[1] != IGNORE).sum(axis=1)
        spans.append((lengths.min(), lengths.max()))
    spans.sort()
    assert all(longest <= shortest for (_, longest), (shortest, _) in pairwise(spans))


@given(texts, widths, widths, numbers, numbers)
def test_the_same_seed_and_epoch_give_the_same_lines_whatever_was_read_before(
    lines: list[list[int]], B: int, T: int, seed: int, epoch: int
) -> None:
    batches = LineBatches(encode(lines), BOUNDARY, min(B, len(lines)), T, seed)
    for _ in batches.epoch(epoch + 1):
        break
    once = [window for batch in cut(lines, B, T, seed, epoch) for window in batch]
    assert_same(list(batches.epoch(epoch)), once)


@given(texts, widths, st.integers(1, 3), numbers, numbers, st.integers(0, 60))
def test_an_epoch_of_lines_can_be_entered_at_any_window_also_within_a_batch(
    lines: list[list[int]], B: int, T: int, seed: int, epoch: int, first: int
) -> None:
    batches = LineBatches(encode(lines).astype(np.uint8), BOUNDARY, min(B, len(lines)), T, seed)
    assert_same(list(batches.epoch(epoch, first)), list(batches.epoch(epoch))[first:])


def test_other_epochs_and_other_seeds_read_the_lines_in_another_order() -> None:
    lines = [[2 + i] for i in range(50)]
    orders = {
        tuple(batch[0].targets[0, 0] for batch in cut(lines, 1, 4, seed, epoch))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_lines_of_one_length_meet_other_lines_in_each_epoch() -> None:
    lines = [[2 + i] for i in range(50)]
    met = [{frozenset(batch[0].targets[:, 0]) for batch in cut(lines, 2, 4, 1, epoch)} for epoch in range(2)]
    assert met[0] != met[1]


@given(st.lists(st.integers(0, 30), min_size=130, max_size=200), numbers)
def test_the_windows_of_the_first_epoch_are_counted_before_it_is_read(lengths: list[int], seed: int) -> None:
    batches = LineBatches(encode([[2] * length for length in lengths]), BOUNDARY, 1, 1, seed)
    assert batches.windows_per_epoch == len(list(batches.epoch(0)))
    batches = LineBatches(encode([[2] * length for length in lengths]), BOUNDARY, 2, 3, seed)
    assert batches.windows_per_epoch == len(list(batches.epoch(0)))


def test_batches_come_in_no_order_of_length() -> None:
    lines = [[2] * i for i in range(64)]
    widths = [sum(w.inputs.shape[1] for w in batch) for batch in cut(lines, 4, 100, 1, 0)]
    assert sorted(widths) == list(range(4, 65, 4))
    assert widths != sorted(widths)
    assert widths != sorted(widths, reverse=True)


@given(texts, st.integers(1, 9))
def test_fewer_lines_than_a_batch_are_refused_with_their_number(lines: list[list[int]], more: int) -> None:
    B = len(lines) + more
    with pytest.raises(
        CorpusError, match=rf"has {count_of(len(lines), 'line')}, .* training.batch_size: {B}; lower"
    ):
        LineBatches(encode(lines), BOUNDARY, B, 4, 1)


@pytest.mark.parametrize("B", [1, 2])
def test_a_text_without_lines_is_refused(B: int) -> None:
    with pytest.raises(CorpusError, match="has 0 lines"):
        LineBatches(encode([]), BOUNDARY, B, 4, 1)


# --- More lines than are shuffled together


def in_sections(lines: list[list[int]], B: int, seed: int = 1, shuffled: int = 16, block: int = 4) -> LineBatches:
    return LineBatches(encode(lines), BOUNDARY, B, 3, seed, most_shuffled=shuffled, block_lines=block)


@given(texts, st.integers(1, 3), st.integers(1, 16), st.integers(1, 5), numbers)
def test_every_line_is_read_once_in_whatever_section_it_is(
    lines: list[list[int]], B: int, shuffled: int, block: int, epoch: int
) -> None:
    batches = in_sections(lines, min(B, len(lines)), shuffled=shuffled, block=block)
    read = []
    for batch in line_batches(batches, epoch):
        read += [row[row != IGNORE].tolist() for row in all_of(batch)[1]]
    assert sorted(read) == sorted([*line, BOUNDARY] for line in lines)


@given(texts, st.integers(0, 60), numbers)
def test_an_epoch_in_sections_can_be_entered_at_any_window(lines: list[list[int]], first: int, epoch: int) -> None:
    batches = in_sections(lines, 1)
    assert_same(list(batches.epoch(epoch, first)), list(batches.epoch(epoch))[first:])


def test_as_many_lines_as_are_shuffled_together_are_read_in_the_order_that_they_always_had() -> None:
    lines = [[2 + i] for i in range(64)]
    whole, in_one = LineBatches(encode(lines), BOUNDARY, 2, 3, 1), in_sections(lines, 2, shuffled=64)
    assert_same(list(in_one.epoch(1)), list(whole.epoch(1)))
    assert [w.targets[:, 0].tolist() for w in islice(whole.epoch(1), 4)] == [[34, 65], [21, 14], [13, 38], [24, 52]]


def test_a_section_is_of_blocks_from_all_over_the_text_and_each_epoch_has_others() -> None:
    batches = in_sections([[2 + i] for i in range(64)], 1)
    drawn = [{int(w.targets[0, 0] - 2) // 4 for w in islice(batches.epoch(epoch), 16)} for epoch in range(3)]
    assert [len(blocks) for blocks in drawn] == [4] * 3  # of four lines each
    assert len(set(map(frozenset, drawn))) == 3
    assert any(max(blocks) - min(blocks) > 3 for blocks in drawn)
    first = [int(w.targets[0, 0]) for w in islice(batches.epoch(0), 16)]
    assert first != sorted(first)


def test_the_windows_of_a_text_in_sections_are_estimated_by_its_first() -> None:
    batches = in_sections([[2] * (i % 7) for i in range(210)], 1)
    assert batches.windows_per_epoch == pytest.approx(len(list(batches.epoch(0))), rel=0.2)


# --- Helpers that scoring shares


@pytest.mark.parametrize("piece_size", [1, 2, 3, 100])
def test_lines_begin_behind_the_boundary_before(piece_size: int) -> None:
    assert line_bounds(encode([[5, 6], [], [7]]), BOUNDARY, piece_size=piece_size).tolist() == [0, 3, 4, 6]
    assert line_bounds(encode([]), BOUNDARY, piece_size=piece_size).tolist() == [0]


def test_sequences_are_padded_to_the_longest() -> None:
    inputs, targets = pad_lines([np.array([5, 6, 1]), np.array([7])], first_id=1)
    assert inputs.tolist() == [[1, 5, 6], [1, 1, 1]]
    assert targets.tolist() == [[5, 6, 1], [7, IGNORE, IGNORE]]
