"""What the cells are: gates held open or shut turn one into another, and PyTorch's own layers agree with them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from charlm.cells import CELLS, rnn
from models import make_network, randomize

DOUBLE = torch.float64
OPEN, SHUT = 1000.0, -1000.0  # biases at which σ is exactly 1 and exactly 0

both_grus = pytest.mark.parametrize("cell", ["gru", "gru-before"])
sizes = st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 6))  # T, B, H
few = settings(max_examples=25, deadline=None)


def draw(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    """Random tensors in float64 that want a gradient."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng, dtype=DOUBLE).requires_grad_() for shape in shapes]


def assert_same_function(ours: Tensor, theirs: Tensor, arguments: list[Tensor]) -> None:
    """Checks values, and the gradients of a random weighing of them, to rounding."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    (weights,) = draw(7, tuple(ours.shape))
    for ours_grad, theirs_grad in zip(
        torch.autograd.grad((ours * weights.detach()).sum(), arguments),
        torch.autograd.grad((theirs * weights.detach()).sum(), arguments),
        strict=True,
    ):
        torch.testing.assert_close(ours_grad, theirs_grad, rtol=0, atol=1e-11)


@few
@given(sizes, st.integers(0, 999))
def test_lstm_with_i_1_f_0_o_1_is_the_rnn_with_one_more_tanh(size: tuple[int, int, int], seed: int) -> None:
    T, B, H = size
    x, s0, c0, W, b, others, x_others = draw(seed, (T, B, H), (B, H), (B, H), (H, H), (H,), (3, H, H), (3, T, B, H))
    level = torch.tensor([OPEN, SHUT, OPEN], dtype=DOUBLE).repeat_interleave(H)  # of i, f, o
    lstm_x = torch.cat((x_others[0], x_others[1], x, x_others[2]), 2)  # i, f, g, o
    lstm_W = torch.cat((others[0], others[1], W, others[2]))
    lstm_b = torch.cat((level[: 2 * H], b, level[2 * H :]))

    s, states = s0, []
    for x_t in x:
        s = torch.tanh(rnn.step(x_t, (s,), W, b)[0])
        states.append(s)
    lstm, (last_s, last_c) = CELLS["lstm"].sequence(lstm_x, (s0, c0), lstm_W, lstm_b)

    assert_same_function(lstm, torch.stack(states), [x, s0, W, b])
    torch.testing.assert_close(last_s, torch.tanh(last_c))


@both_grus
@few
@given(size=sizes, seed=st.integers(0, 999))
def test_gru_with_r_1_z_0_is_the_rnn(cell: str, size: tuple[int, int, int], seed: int) -> None:
    T, B, H = size
    x, s0, W, b, others, x_others = draw(seed, (T, B, H), (B, H), (H, H), (H,), (2 * H, H), (T, B, 2 * H))
    level = torch.tensor([OPEN, SHUT], dtype=DOUBLE).repeat_interleave(H)  # of r, z
    gru_x = torch.cat((x_others + level, x), 2)  # r, z, n

    gru, (last,) = CELLS[cell].sequence(
        gru_x, (s0,), torch.cat((others, W)), torch.cat((torch.zeros(2 * H, dtype=DOUBLE), b))
    )
    simple, (simple_last,) = CELLS["rnn"].sequence(x, (s0,), W, b)

    assert_same_function(gru, simple, [x, s0, W, b])
    torch.testing.assert_close(last, simple_last, rtol=0, atol=1e-12)


@both_grus
def test_gru_with_z_1_keeps_its_old_state(cell: str) -> None:
    x, s0, W = draw(3, (5, 2, 12), (2, 4), (12, 4))
    level = torch.tensor([0.0, OPEN, 0.0], dtype=DOUBLE).repeat_interleave(4)

    states, _ = CELLS[cell].sequence(x + level, (s0,), W, None)

    assert torch.equal(states, s0.expand(5, 2, 4))


def test_lstm_with_i_0_f_1_keeps_its_old_cell() -> None:
    x, s0, c0, W = draw(3, (5, 2, 16), (2, 4), (2, 4), (16, 4))
    level = torch.tensor([SHUT, OPEN, 0.0, 0.0], dtype=DOUBLE).repeat_interleave(4)

    _, (_, c) = CELLS["lstm"].sequence(x + level, (s0, c0), W, None)

    assert torch.equal(c, c0)


@few
@given(size=sizes, seed=st.integers(0, 999))
def test_the_two_forms_of_the_gru_agree_while_r_is_1_and_differ_otherwise(
    size: tuple[int, int, int], seed: int
) -> None:
    T, B, H = size
    x, s0, W, b = draw(seed, (T, B, 3 * H), (B, H), (3 * H, H), (3 * H,))
    open_r = torch.tensor([OPEN, 0.0, 0.0], dtype=DOUBLE).repeat_interleave(H)
    before, after = CELLS["gru-before"].sequence, CELLS["gru"].sequence

    assert_same_function(before(x + open_r, (s0,), W, b)[0], after(x + open_r, (s0,), W, b)[0], [x, s0, W, b])
    assert not torch.allclose(before(x, (s0,), W, b)[0], after(x, (s0,), W, b)[0], rtol=0, atol=1e-9)


def test_the_cell_named_gru_is_that_of_pytorch_and_gru_before_is_not() -> None:
    x, s0, W, b = draw(4, (3, 12), (3, 4), (12, 4), (12,))
    theirs = torch.nn.GRUCell(12, 4, dtype=DOUBLE)
    theirs.load_state_dict(
        {
            "weight_ih": torch.eye(12, dtype=DOUBLE),
            "bias_ih": torch.zeros(12, dtype=DOUBLE),
            "weight_hh": W.detach(),
            "bias_hh": b.detach(),
        }
    )
    expected = theirs(x, s0)
    torch.testing.assert_close(CELLS["gru"].step(x, (s0,), W, b)[0], expected, rtol=0, atol=1e-12)
    assert not torch.allclose(CELLS["gru-before"].step(x, (s0,), W, b)[0], expected, rtol=0, atol=1e-3)


TORCH = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", TORCH)
def test_equals_torchs_own_layers_with_the_same_weights(cell: str, num_layers: int, bias: bool) -> None:
    T, B, K, H = 5, 3, 4, 6
    network = make_network(
        9, dtype=DOUBLE, cell=cell, embedding_size=K, hidden_size=H, num_layers=num_layers, bias=bias
    )
    ours = randomize(network, seed=1, std=0.6).recurrent
    theirs = TORCH[cell](K, H, num_layers, bias=bias, dtype=DOUBLE)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x, *state = draw(2, (T, B, K), *[(num_layers, B, H)] * ours.cell.states)
    weights = [w.detach() for w in draw(3, (T, B, H), *[(num_layers, B, H)] * ours.cell.states)]

    s, last = ours(x, [tuple(part[layer] for part in state) for layer in range(num_layers)])
    ours_out = [s, *(torch.stack(parts) for parts in zip(*last, strict=True))]
    theirs_s, theirs_last = theirs(x, tuple(state) if len(state) > 1 else state[0])
    theirs_out = [theirs_s, *(theirs_last if len(state) > 1 else [theirs_last])]

    for a, b in zip(ours_out, theirs_out, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    names = [name for name, _ in ours.named_parameters()]
    assert names == [name for name, _ in theirs.named_parameters()]
    ours_grads, theirs_grads = (
        torch.autograd.grad(
            sum((o * w).sum() for o, w in zip(out, weights, strict=True)), [x, *state, *module.parameters()]
        )
        for module, out in ((ours, ours_out), (theirs, theirs_out))
    )
    for name, a, b in zip(["x", *"sc"[: len(state)], *names], ours_grads, theirs_grads, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11, msg=lambda m, name=name: f"gradient of {name}: {m}")
