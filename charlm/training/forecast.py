"""What a training would take on a larger text and on more processes, computed from what was measured here.

    t(N) = c · n/N + a · ((N-1)/N) / ((n-1)/n)

t is the time of a step, of which n processes here needed c to compute and a to add up gradients. A process sends
2 (N-1)/N of the gradient in each step, whatever N is; each is taken to compute as fast as one did here.
"""

from __future__ import annotations

from dataclasses import dataclass

from charlm.text.batches import SHUFFLED_LINES

_NGRAM_BYTES = 25  # of memory for each symbol that is counted
_LINE_BYTES = 20  # of memory for each line that is shuffled: where it begins and ends, and its place in the order
_COPIES = 10  # of the weights on disk: the best ones, and a checkpoint with two moments, each beside its successor


@dataclass(frozen=True)
class Measured:
    """What was measured here.

    Attributes:
        processes: n.
        step_seconds: c + a.
        sum_seconds: a; 0 for a process alone.
        symbols_per_step: that a step learns from, on average.
        symbols_per_byte: of the text.
        lines_per_byte: of the text, where lines are apart; else 0.
        id_bytes: of a symbol.
        parameters: of the network.
        memory_bytes: of a process; None: the system does not tell.
        counted_symbols: by n-grams, at most.
    """

    processes: int
    step_seconds: float
    sum_seconds: float
    symbols_per_step: float
    symbols_per_byte: float
    lines_per_byte: float
    id_bytes: int
    parameters: int
    memory_bytes: int | None
    counted_symbols: int


@dataclass(frozen=True)
class Forecast:
    """What is computed from it.

    Attributes:
        step_seconds: of a step; None: nothing was added up here, so that its time is not known.
        pass_seconds: of one pass over the text; None as above.
        sent_bytes: by each process in each step.
        memory_bytes: of rank 0, which counts n-grams; None: the system does not tell.
        follower_bytes: of memory of each other process; None as above.
        text_disk_bytes: for the encoded text, and its copy while it is encoded.
        run_disk_bytes: for the run folder, without n-grams.
    """

    step_seconds: float | None
    pass_seconds: float | None
    sent_bytes: float
    memory_bytes: float | None
    follower_bytes: float | None
    text_disk_bytes: float
    run_disk_bytes: float


def forecast(measured: Measured, text_bytes: float, devices: int) -> Forecast:
    """Computes what training on so many bytes of text with so many processes takes."""
    m, symbols = measured, text_bytes * measured.symbols_per_byte
    step: float | None = (m.step_seconds - m.sum_seconds) * m.processes / devices
    if step is not None and devices > 1:
        share = (devices - 1) / devices
        step = step + m.sum_seconds * share * m.processes / (m.processes - 1) if m.processes > 1 else None
    lines = min(text_bytes * m.lines_per_byte, SHUFFLED_LINES)
    follower = None if m.memory_bytes is None else m.memory_bytes + _LINE_BYTES * lines
    counted = _NGRAM_BYTES * min(symbols, m.counted_symbols)
    return Forecast(
        step_seconds=step,
        pass_seconds=None if step is None else symbols / m.symbols_per_step * step,
        sent_bytes=2 * (devices - 1) / devices * 4 * m.parameters,
        memory_bytes=None if follower is None else follower + counted,
        follower_bytes=follower,
        text_disk_bytes=symbols * m.id_bytes + text_bytes,
        run_disk_bytes=_COPIES * 4 * m.parameters,
    )
