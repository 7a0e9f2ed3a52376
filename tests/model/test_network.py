"""The network around the cells: its input, its output, its size, its first weights."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from charlm.model.exchange import as_arrays
from charlm.model.network import (
    CharacterModel,
    NetworkState,
    keep_by_bits,
    keep_by_numbers,
    parameter_count,
    plan_layers,
)
from charlm.model.transfer import initialize_output_bias, transfer_weights
from charlm.training.loss import cross_entropy
from models import CELLS, make_network, randomize

GATES = {"rnn": 1, "lstm": 4, "gru": 3, "gru-before": 3}
every_cell = pytest.mark.parametrize("cell", CELLS)
few = settings(max_examples=25, deadline=None)


def build(V: int = 5, seed: int = 0, **shape: object) -> CharacterModel:
    """A network in float64 whose every number, biases too, is random."""
    return randomize(make_network(V, dtype=torch.float64, **shape), seed)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_ids(V: int, T: int, B: int, seed: int = 0) -> Tensor:
    return torch.randint(V, (T, B), generator=generator(seed))


@few
@given(V=st.integers(1, 40), H=st.integers(1, 20))
def test_one_layer_without_bias_has_this_many_parameters(V: int, H: int) -> None:
    def recurrent(cell: str) -> int:
        network = make_network(V, cell=cell, hidden_size=H, bias=False)
        assert parameter_count(network) == parameter_count(network.recurrent) + V * H  # the output matrix
        return parameter_count(network.recurrent)

    assert recurrent("rnn") == H * (V + H)
    assert recurrent("gru") == recurrent("gru-before") == 3 * H * (V + H)
    assert recurrent("lstm") == 4 * H * (V + H)


@every_cell
@given(V=st.integers(1, 9), K=st.integers(1, 9), H=st.integers(1, 9), L=st.integers(1, 3), R=st.integers(1, 9))
@few
def test_biases_layers_and_factored_matrices_add_theirs(cell: str, V: int, K: int, H: int, L: int, R: int) -> None:
    G = GATES[cell]
    shape = {"cell": cell, "hidden_size": H, "num_layers": L, "embedding_size": K, "output_rank": R}
    first, higher = G * H * (K + H + 2), G * H * (H + H + 2)
    assert parameter_count(make_network(V, **shape)) == V * K + first + (L - 1) * higher + R * H + V * (R + 1)


def test_an_output_matrix_of_full_rank_can_be_factored() -> None:
    whole, factored = build(5, hidden_size=3), build(5, hidden_size=3, output_rank=3)
    weights = whole.state_dict()
    product = factored.output.weight @ factored.projection.weight
    factored.load_state_dict(
        {**factored.state_dict(), **{k: v for k, v in weights.items() if k != "output.weight"}}
    )
    whole.load_state_dict({**weights, "output.weight": product})
    ids = draw_ids(5, 4, 2)
    torch.testing.assert_close(
        factored(ids, factored.initial_state(2))[0], whole(ids, whole.initial_state(2))[0], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@every_cell
def test_looking_up_an_id_equals_multiplying_by_its_one_hot_vector(cell: str, bias: bool) -> None:
    V, T, B, H = 5, 6, 2, 4
    network = build(V, cell=cell, hidden_size=H, num_layers=2, bias=bias)
    ids = draw_ids(V, T, B)
    one_hot = F.one_hot(ids, V).double()  # (T, B, V)

    looked_up, state = network.recurrent(ids, network.initial_state(B))
    multiplied, same_state = network.recurrent(one_hot, network.initial_state(B))

    torch.testing.assert_close(looked_up, multiplied, rtol=0, atol=1e-12)
    torch.testing.assert_close(state, same_state, rtol=0, atol=1e-12)
    weights = torch.randn(T, B, H, dtype=torch.float64, generator=generator(1))
    parameters = list(network.recurrent.parameters())
    for a, b in zip(
        torch.autograd.grad((looked_up * weights).sum(), parameters),
        torch.autograd.grad((multiplied * weights).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@every_cell
def test_an_embedding_factors_the_input_matrix(cell: str) -> None:
    V, K, H = 7, 2, 4
    narrow = build(V, cell=cell, hidden_size=H, embedding_size=K)
    wide = build(V, cell=cell, hidden_size=H)
    weights = {name: w for name, w in narrow.state_dict().items() if name != "embedding.weight"}
    factors = weights["recurrent.weight_ih_l0"], narrow.embedding.weight.detach()
    assert [tuple(f.shape) for f in factors] == [(GATES[cell] * H, K), (V, K)]
    wide.load_state_dict(weights | {"recurrent.weight_ih_l0": factors[0] @ factors[1].t()}, strict=True)
    ids = draw_ids(V, 6, 3)

    torch.testing.assert_close(
        narrow(ids, narrow.initial_state(3)), wide(ids, wide.initial_state(3)), rtol=0, atol=1e-12
    )


def sigmoid(a: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-a))


def test_worked_example_a_chinese_sentence_is_encoded_step_by_step() -> None:
    """我在画画, one-hot over {我, 在, 画}, five hidden units, reset gate before the product."""
    symbols, sentence, H = "我在画", "我在画画", 5
    V = len(symbols)
    rng = np.random.default_rng(20)
    U_z, U_r, U_h = rng.normal(size=(3, H, V))
    W_z, W_r, W_h = rng.normal(size=(3, H, H))
    b_z, b_r, b_h = rng.normal(size=(3, H))
    V_o, b_o = rng.normal(size=(V, H)), rng.normal(size=V)

    s = np.zeros(H)
    states, distributions = [], []
    for char in sentence:
        x = np.array([float(char == symbol) for symbol in symbols])
        z = sigmoid(U_z @ x + W_z @ s + b_z)
        r = sigmoid(U_r @ x + W_r @ s + b_r)
        h = np.tanh(U_h @ x + W_h @ (r * s) + b_h)
        s = (1 - z) * h + z * s
        states.append(s)
        distributions.append(np.exp(V_o @ s + b_o) / np.exp(V_o @ s + b_o).sum())

    network = make_network(V, dtype=torch.float64, cell="gru-before", hidden_size=H)
    halves = np.concatenate((b_r, b_z, b_h)) / 2  # PyTorch's b is bias_ih + bias_hh, its order r, z, n
    weights = {
        "recurrent.weight_ih_l0": np.concatenate((U_r, U_z, U_h)),
        "recurrent.weight_hh_l0": np.concatenate((W_r, W_z, W_h)),
        "recurrent.bias_ih_l0": halves,
        "recurrent.bias_hh_l0": halves,
        "output.weight": V_o,
        "output.bias": b_o,
    }
    network.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()}, strict=True)
    ids = torch.tensor([[symbols.index(char)] for char in sentence])  # (4, 1)
    features, ((last,),) = network.features(ids, network.initial_state(1))
    probabilities = torch.softmax(network(ids, network.initial_state(1))[0], 2)

    torch.testing.assert_close(features[:, 0], torch.from_numpy(np.stack(states)), rtol=0, atol=1e-12)
    torch.testing.assert_close(last[0], torch.from_numpy(s), rtol=0, atol=1e-12)
    torch.testing.assert_close(probabilities[:, 0], torch.from_numpy(np.stack(distributions)), rtol=0, atol=1e-12)


@every_cell
@few
@given(
    shape=st.tuples(st.integers(2, 9), st.integers(1, 3), st.integers(1, 3)),
    cuts=st.sets(st.integers(1, 8)),
    seed=st.integers(0, 99),
)
def test_one_pass_equals_chunks_with_the_state_carried(
    cell: str, shape: tuple[int, int, int], cuts: set[int], seed: int
) -> None:
    T, B, L = shape
    network = build(5, seed, cell=cell, hidden_size=4, num_layers=L)
    ids = draw_ids(5, T, B, seed)

    whole, last = network(ids, network.initial_state(B))
    state, parts = network.initial_state(B), []
    for chunk in ids.tensor_split(sorted(cut for cut in cuts if cut < T)):
        logits, state = network(chunk, state)
        parts.append(logits)

    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-12)


@every_cell
def test_the_state_before_the_first_symbol_is_zero_in_every_layer(cell: str) -> None:
    network = build(5, cell=cell, hidden_size=4, num_layers=3)
    state: NetworkState = network.initial_state(2)

    assert [len(layer) for layer in state] == [2 if cell == "lstm" else 1] * 3
    for part in (part for layer in state for part in layer):
        assert torch.equal(part, torch.zeros(2, 4, dtype=torch.float64))
    logits, last = network(draw_ids(5, 6, 2), state)
    assert logits.shape == (6, 2, 5)
    assert [[part.shape for part in layer] for layer in last] == [[part.shape for part in layer] for layer in state]


@every_cell
def test_the_softmax_of_the_logits_is_a_distribution(cell: str) -> None:
    network = build(9, cell=cell, hidden_size=4)
    logits, _ = network(draw_ids(9, 6, 2), network.initial_state(2))
    probabilities = torch.softmax(logits, 2)

    torch.testing.assert_close(probabilities.sum(2), torch.ones(6, 2, dtype=torch.float64))
    assert (probabilities > 0).all()
    features, _ = network.features(draw_ids(9, 6, 2), network.initial_state(2))
    expected = features @ network.output.weight.t() + network.output.bias
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)


def test_dropout_drops_its_share_before_the_output_in_training_only() -> None:
    plain, dropping = (build(5, hidden_size=50, dropout=p) for p in (0.0, 0.3))
    ids = draw_ids(5, 40, 4)
    whole, _ = plain.features(ids, plain.initial_state(4))

    dropped, _ = dropping.features(ids, dropping.initial_state(4), training=generator(0))
    kept = dropped != 0
    assert (~kept).double().mean() == pytest.approx(0.3, abs=0.03)
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.7)

    evaluated, _ = dropping.features(ids, dropping.initial_state(4))
    assert torch.equal(evaluated, whole)
    without, _ = plain.features(ids, plain.initial_state(4), training=generator(0))
    assert torch.equal(without, whole)


@every_cell
def test_recurrent_dropout_drops_its_share_of_each_matrix_in_training_only(cell: str) -> None:
    shape = {"cell": cell, "hidden_size": 40, "num_layers": 2}
    plain, dropping = (build(5, recurrent_dropout=p, **shape) for p in (0.0, 0.3))
    ids = draw_ids(5, 6, 3)
    whole, _ = plain.features(ids, plain.initial_state(3))
    evaluated, _ = dropping.features(ids, dropping.initial_state(3))
    assert torch.equal(evaluated, whole)

    drawing = generator(0)
    dropped, _ = dropping.features(ids, dropping.initial_state(3), training=drawing)
    dropped.sum().backward()
    for layer in range(2):
        gradient = dropping.recurrent.parameter("weight_hh", layer).grad
        assert gradient is not None
        kept = gradient != 0
        assert (~kept).double().mean() == pytest.approx(0.3, abs=0.05)
        with torch.no_grad():  # the same network with the rest of its weights, enlarged
            plain.recurrent.parameter("weight_hh", layer).mul_(kept.double() / 0.7)
    torch.testing.assert_close(dropped, plain.features(ids, plain.initial_state(3))[0])

    again, _ = dropping.features(ids, dropping.initial_state(3), training=drawing)
    assert not torch.allclose(again, dropped)  # drawn anew


@every_cell
def test_what_is_dropped_follows_from_the_generator_alone(cell: str) -> None:
    network = build(5, cell=cell, hidden_size=8, num_layers=2, dropout=0.3, recurrent_dropout=0.3)
    ids = draw_ids(5, 6, 3)
    untouched = torch.get_rng_state()
    first, other, same = (
        network.features(ids, network.initial_state(3), training=generator(seed))[0] for seed in (1, 2, 1)
    )
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)
    assert torch.equal(torch.get_rng_state(), untouched)


@pytest.mark.parametrize("keep", [keep_by_bits, keep_by_numbers])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_both_ways_of_drawing_drop_the_share_and_follow_from_the_generator(
    keep: Callable[[Tensor, float, torch.Generator], Tensor], dtype: torch.dtype, share: float
) -> None:
    values = torch.zeros(301, 333, dtype=dtype)
    mask = keep(values, share, generator(3))
    assert (mask.shape, mask.dtype) == (values.shape, dtype)
    assert ((mask == 0) | (mask == 1)).all()
    assert mask.mean().item() == pytest.approx(1 - share, abs=5 * (share * (1 - share) / values.numel()) ** 0.5)
    assert torch.equal(keep(values, share, generator(3)), mask)
    assert not torch.equal(keep(values, share, generator(4)), mask)


@every_cell
@pytest.mark.parametrize("embedding_size", [None, 3])
def test_the_network_and_its_loss_ask_nothing_of_the_device_they_are_on(
    cell: str, embedding_size: int | None
) -> None:
    """On the meta device tensors have shapes alone: what reads numbers, or makes tensors elsewhere, fails."""
    network = make_network(5, cell=cell, hidden_size=8, num_layers=2, embedding_size=embedding_size, output_rank=4)
    network.recurrent.plan = plan_layers(5, network.config, torch.device("meta"))
    network.to("meta")
    ids = torch.zeros(6, 3, dtype=torch.int64, device="meta")
    features, last = network.features(ids, network.initial_state(3))
    loss = cross_entropy(
        features.flatten(0, 1), network.output.weight, network.output.bias, ids.flatten(), dtype=torch.bfloat16
    )
    gradients = torch.autograd.grad(features, list(network.recurrent.parameters()), loss.features.view_as(features))
    tensors = [*gradients, *(part for layer in last for part in layer), loss.total, loss.weight]
    assert all(tensor.is_meta and tensor.dtype == torch.float32 for tensor in tensors)


@pytest.mark.parametrize("embedding_size", [None, 3])
def test_dropout_acts_between_layers_but_not_on_the_input_or_in_the_recurrence(embedding_size: int | None) -> None:
    shape = {"hidden_size": 8, "dropout": 0.5, "embedding_size": embedding_size}
    one, two = (build(5, num_layers=L, **shape) for L in (1, 2))
    ids = draw_ids(5, 6, 2)

    def last_states(network: CharacterModel, training: torch.Generator | None) -> list[Tensor]:
        return [layer[0] for layer in network.features(ids, network.initial_state(2), training)[1]]

    assert torch.equal(last_states(one, generator(0))[0], last_states(one, generator(1))[0])
    assert torch.equal(last_states(two, generator(0))[0], last_states(two, generator(1))[0])
    assert not torch.allclose(last_states(two, generator(0))[1], last_states(two, generator(1))[1])
    assert torch.equal(last_states(two, None)[1], last_states(two, None)[1])
    assert not torch.allclose(last_states(two, None)[1], last_states(two, generator(0))[1])
    assert torch.equal(last_states(two, None)[0], last_states(two, generator(0))[0])


@every_cell
@pytest.mark.parametrize("embedding_size", [None, 3])
def test_without_bias_there_is_no_bias_anywhere(cell: str, embedding_size: int | None) -> None:
    network = make_network(5, cell=cell, hidden_size=4, num_layers=2, bias=False, embedding_size=embedding_size)
    assert all(parameter.dim() == 2 for parameter in network.parameters())
    assert not any("bias" in name for name in network.state_dict())
    assert network.output.bias is None


@every_cell
@pytest.mark.parametrize("H", [1, 8])
def test_the_recurrent_matrix_of_each_gate_starts_orthogonal(cell: str, H: int) -> None:
    network = make_network(5, cell=cell, hidden_size=H, num_layers=2)

    for layer in range(2):
        gates = network.recurrent.parameter("weight_hh", layer).detach().split(H)
        assert len(gates) == GATES[cell]
        for W in gates:
            torch.testing.assert_close(W @ W.t(), torch.eye(H), rtol=0, atol=1e-5)


def test_the_forget_gates_bias_starts_at_one_and_all_others_at_zero() -> None:
    H = 4
    network = make_network(5, cell="lstm", hidden_size=H, num_layers=2)
    expected = torch.zeros(4 * H)
    expected[H : 2 * H] = 1  # i, f, g, o
    for layer in range(2):
        total = network.recurrent.parameter("bias_ih", layer) + network.recurrent.parameter("bias_hh", layer)
        assert torch.equal(total.detach(), expected)
    assert torch.equal(network.output.bias.detach(), torch.zeros(5))


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != "lstm"])
def test_only_the_lstm_has_a_forget_bias(cell: str) -> None:
    network = make_network(5, cell=cell, hidden_size=4)
    assert not any(p.any() for name, p in network.named_parameters() if "bias" in name)


@pytest.mark.parametrize(("size", "std"), [(30, 2.0), (256, 1.0), (6400, 0.2)])
def test_a_one_hot_input_starts_large_and_smaller_the_more_symbols_there_are(size: int, std: float) -> None:
    weight = make_network(size, hidden_size=25).recurrent.parameter("weight_ih", 0)
    assert weight.std().item() == pytest.approx(std, rel=0.05)


def test_other_inputs_start_by_their_width() -> None:
    network = make_network(90, hidden_size=25, num_layers=2, embedding_size=7)
    for layer, width in enumerate((7, 25)):
        largest = network.recurrent.parameter("weight_ih", layer).abs().max().item()
        assert 0.9 / math.sqrt(width) < largest <= 1 / math.sqrt(width)


def test_a_fresh_model_hardly_prefers_any_symbol() -> None:
    network = make_network(50, hidden_size=32)
    logits, _ = network(draw_ids(50, 20, 4), network.initial_state(4))
    loss = F.cross_entropy(logits.flatten(0, 1), draw_ids(50, 20, 4, seed=1).flatten())
    assert loss.item() == pytest.approx(math.log(50), abs=0.1)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("embedding_size", [None, 3])
@every_cell
def test_transferred_weights_predict_as_before_and_leave_new_symbols_a_small_share(
    cell: str, embedding_size: int | None, bias: bool
) -> None:
    ids = [None, 2, 0, None, 4, 1]  # 6 symbols, 4 of the 5 old ones in another order
    shape = {"cell": cell, "embedding_size": embedding_size, "bias": bias, "hidden_size": 4}
    shape["output_rank"] = embedding_size
    old, new = build(5, **shape), build(6, seed=1, **shape)
    drawn = new.state_dict()["embedding.weight" if embedding_size else "recurrent.weight_ih_l0"].clone()
    transfer_weights(new, as_arrays(old.state_dict()), ids)
    here = torch.tensor([i for i, there in enumerate(ids) if there is not None])
    there = torch.tensor([there for there in ids if there is not None])
    x = draw_ids(len(here), 7, 2)
    before, _ = old(there[x], old.initial_state(2))
    after, _ = new(here[x], new.initial_state(2))
    torch.testing.assert_close(after[..., here], before[..., there])
    assert torch.logsumexp(before, -1).sub(after[..., 0]).min() >= math.log(5)  # p(new) is at most that of the mean
    columns = new.state_dict()["embedding.weight" if embedding_size else "recurrent.weight_ih_l0"]
    assert torch.equal(columns[0] if embedding_size else columns[:, 0], drawn[0] if embedding_size else drawn[:, 0])


@pytest.mark.parametrize("bias", [True, False])
def test_a_fresh_model_knows_how_frequent_each_symbol_is(bias: bool) -> None:
    counts = np.log(np.array([0.5, 0.25, 0.125, 0.125]))
    network = make_network(4, hidden_size=3, bias=bias)
    initialize_output_bias(network, counts)
    features = torch.zeros(1, 3)
    expected = torch.from_numpy(counts).float() if bias else torch.full((4,), 0.25).log()
    torch.testing.assert_close(torch.log_softmax(network.logits(features)[0], 0), expected)
