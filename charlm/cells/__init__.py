"""The recurrent cells, each in one file: equations, one step, all steps, and the gradient by hand.

A cell knows its recurrence and nothing of vocabularies, layers or training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from charlm.cells import gru, lstm, rnn

State = tuple[Tensor, ...]  # each (B, H): (s,) or for the LSTM (s, c)


class Cell(NamedTuple):
    """A recurrence.

    Attributes:
        gates: how many blocks of H rows the weights have.
        states: how many tensors a state has.
        step: one step by the equations: (x (B, G·H), state, weight_hh, bias_hh) → state.
        sequence: all steps: (x (T, B, G·H), state, weight_hh, bias_hh) → (s (T, B, H), last state).
    """

    gates: int
    states: int
    step: Callable[..., Any]
    sequence: Callable[..., tuple[Tensor, Any]]


def find_cell(name: str, reset: str = "after") -> Cell:
    """Returns the cell of this name; `reset` tells the two forms of the GRU apart."""
    return _CELLS[f"gru-{reset}" if name == "gru" else name]


_CELLS = {
    "rnn": Cell(rnn.GATES, rnn.STATES, rnn.step, rnn.sequence),
    "lstm": Cell(lstm.GATES, lstm.STATES, lstm.step, lstm.sequence),
    "gru-before": Cell(gru.GATES, gru.STATES, gru.step_before, gru.sequence_before),
    "gru-after": Cell(gru.GATES, gru.STATES, gru.step_after, gru.sequence_after),
}
