"""The optimisers do what their formulas say, and the learning rate follows its schedule over the budget."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from charlm.config import TrainingConfig
from charlm.training.optimization import make_optimizer, optimizer_slots, schedule_factor
from charlm.training.step import TrainingStep
from models import make_network

SCHEDULES = ["linear", "cosine", "constant", "step"]
OPTIMIZERS = ["sgd", "rmsprop", "adam", "adamw"]

schedules = st.sampled_from(SCHEDULES)
shares = st.floats(0, 1)
warmups = st.floats(0.001, 0.9)


# --- the schedule ---------------------------------------------------------------------------------


@given(schedules, warmups)
def test_with_a_warm_up_the_rate_starts_at_zero_and_reaches_its_peak_at_the_end_of_it(schedule: str, warmup: float):
    assert schedule_factor(schedule, 0.0, warmup) == 0
    assert schedule_factor(schedule, warmup / 2, warmup) == pytest.approx(0.5)
    assert schedule_factor(schedule, warmup, warmup) == 1


@given(schedules)
def test_without_a_warm_up_the_rate_starts_at_its_peak(schedule: str):
    assert schedule_factor(schedule, 0.0, 0.0) == 1


@given(schedules, st.floats(0, 1), st.floats(0, 0.9))
def test_the_factor_stays_between_zero_and_one(schedule: str, fraction: float, warmup: float):
    assert 0 <= schedule_factor(schedule, fraction, warmup) <= 1


@given(schedules, warmups)
def test_the_rate_does_not_jump_where_the_warm_up_ends(schedule: str, warmup: float):
    before = schedule_factor(schedule, warmup * (1 - 1e-9), warmup)
    after = schedule_factor(schedule, warmup * (1 + 1e-9), warmup)
    assert before == pytest.approx(1, abs=1e-6)
    assert after == pytest.approx(1, abs=1e-6)


@given(schedules, warmups, shares, shares)
def test_during_the_warm_up_the_rate_only_rises(schedule: str, warmup: float, a: float, b: float):
    low, high = sorted((a, b))
    assert schedule_factor(schedule, low * warmup, warmup) <= schedule_factor(schedule, high * warmup, warmup)


@given(schedules, st.floats(0, 0.9), shares, shares)
def test_after_the_warm_up_the_rate_never_rises(schedule: str, warmup: float, a: float, b: float):
    low, high = sorted(warmup + share * (1 - warmup) for share in (a, b))
    assert schedule_factor(schedule, low, warmup) >= schedule_factor(schedule, high, warmup)


@given(st.sampled_from(["linear", "cosine"]), st.floats(0, 0.9))
def test_linear_and_cosine_reach_zero_at_the_end_of_the_budget(schedule: str, warmup: float):
    assert schedule_factor(schedule, 1.0, warmup) == pytest.approx(0, abs=1e-12)


@given(st.floats(0, 0.9), shares)
def test_linear_and_cosine_follow_their_formulas(warmup: float, u: float):
    fraction = warmup + u * (1 - warmup)
    assume(fraction >= warmup)
    assert schedule_factor("linear", fraction, warmup) == pytest.approx(1 - u, abs=1e-9)
    assert schedule_factor("cosine", fraction, warmup) == pytest.approx((1 + math.cos(math.pi * u)) / 2, abs=1e-9)


@pytest.mark.parametrize("warmup", [0.0, 0.2])
@pytest.mark.parametrize(("u", "factor"), [(0, 1), (0.49, 1), (0.51, 0.1), (0.74, 0.1), (0.76, 0.01), (1, 0.01)])
def test_steps_go_down_by_ten_at_half_and_at_three_quarters(u: float, factor: float, warmup: float):
    assert schedule_factor("step", warmup + u * (1 - warmup), warmup) == factor


@given(st.floats(0, 0.9), shares)
def test_constant_stays_at_the_peak(warmup: float, u: float):
    assert schedule_factor("constant", warmup + u * (1 - warmup), warmup) == 1


# --- the optimisers -------------------------------------------------------------------------------


def layer() -> nn.Linear:
    """A model of one matrix and one bias."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(3, 2, dtype=torch.float64)


def steps(
    model: nn.Linear, optimizer: torch.optim.Optimizer, count: int = 4
) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Makes steps with drawn gradients; yields (gradient, parameter after) for matrix and bias, after each."""
    rng = torch.Generator().manual_seed(1)
    for _ in range(4):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=rng, dtype=torch.float64)
        optimizer.step()
        yield [(p.grad, p.detach()) for p in model.parameters() if p.grad is not None]


def make(model: nn.Module, name: str, **settings: Any) -> torch.optim.Optimizer:
    """Makes an optimiser of a name and settings of the `training` section."""
    return make_optimizer(model, TrainingConfig(optimizer=name, **settings))  # type: ignore[arg-type]


def assert_follows(name: str, expected: list["Rule"], **settings: float) -> None:
    model = layer()
    theta = [p.detach().clone() for p in model.parameters()]
    for pairs in steps(model, make(model, name, **settings)):
        for i, (gradient, after) in enumerate(pairs):
            theta[i] = expected[i](theta[i], gradient)
            torch.testing.assert_close(after, theta[i], rtol=0, atol=1e-14)


class Rule:
    """A textbook rule for one parameter, kept with its memory."""

    def __init__(self, name: str, rate: float, momentum: float = 0, beta2: float = 0.99, decay: float = 0) -> None:
        self.name, self.rate, self.momentum, self.beta2, self.decay = name, rate, momentum, beta2, decay
        self.t, self.m, self.v = 0, torch.tensor(0.0), torch.tensor(0.0)

    def __call__(self, theta: Tensor, g: Tensor) -> Tensor:
        self.t += 1
        if self.name == "sgd":
            self.m = self.momentum * self.m + g
            return theta - self.rate * self.m
        self.v = self.beta2 * self.v + (1 - self.beta2) * g**2
        if self.name == "rmsprop":
            self.m = self.momentum * self.m + g / (self.v.sqrt() + 1e-8)
            return theta - self.rate * self.m
        self.m = 0.9 * self.m + 0.1 * g
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - self.beta2**self.t)
        return theta * (1 - self.rate * self.decay) - self.rate * m / (v.sqrt() + 1e-8)


@given(st.lists(st.integers(-64, 64), min_size=16, max_size=16), st.sampled_from([0.125, 0.25, 0.5, 1.0]))
def test_plain_sgd_is_exactly_theta_minus_eta_g(values: list[int], eta: float):
    numbers = torch.tensor(values, dtype=torch.float64) / 8  # so that nothing is rounded
    model = layer()
    theta, g = numbers[:6].reshape(2, 3), numbers[6:12].reshape(2, 3)
    bias, bias_g = numbers[12:14], numbers[14:]
    with torch.no_grad():
        model.weight.copy_(theta)
        model.bias.copy_(bias)
    model.weight.grad, model.bias.grad = g, bias_g
    make(model, "sgd", learning_rate=eta).step()
    assert torch.equal(model.weight, theta - eta * g)
    assert torch.equal(model.bias, bias - eta * bias_g)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_sgd_and_rmsprop_follow_their_formulas_with_and_without_momentum(name: str, momentum: float):
    rules = [Rule(name, 0.1, momentum) for _ in range(2)]
    assert_follows(name, rules, learning_rate=0.1, momentum=momentum)


@pytest.mark.parametrize("beta2", [0.9, 0.99, 0.999])
@pytest.mark.parametrize("name", ["rmsprop", "adam"])
def test_rmsprop_and_adam_forget_squared_gradients_by_beta2(name: str, beta2: float):
    rules = [Rule(name, 0.01, beta2=beta2) for _ in range(2)]
    assert_follows(name, rules, learning_rate=0.01, beta2=beta2)


def test_adamw_shrinks_matrices_beside_the_gradient_and_leaves_biases_alone():
    matrix, bias = Rule("adamw", 0.01, decay=0.3), Rule("adamw", 0.01, decay=0)
    assert_follows("adamw", [matrix, bias], learning_rate=0.01, weight_decay=0.3)


@pytest.mark.parametrize(
    ("sizes", "table"),
    [({}, "recurrent.weight_ih_l0"), ({"embedding_size": 3, "output_rank": 2}, "embedding.weight")],
)
def test_what_symbols_are_looked_up_in_does_not_decay(sizes: dict[str, int], table: str):
    network = make_network(5, cell="lstm", hidden_size=4, num_layers=2, **sizes)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = TrainingStep(network, TrainingConfig(learning_rate=0.5, weight_decay=0.1)).optimizer
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in network.named_parameters():
        factor = 1 if name == table or p.dim() == 1 else 1 - 0.5 * 0.1
        torch.testing.assert_close(p, before[name] * factor)


@pytest.mark.parametrize("sizes", [{}, {"embedding_size": 3}])
def test_the_optimiser_numbers_matrices_and_then_biases_as_they_stand_in_the_network(sizes: dict[str, int]):
    network = make_network(5, cell="lstm", hidden_size=4, num_layers=2, **sizes)
    groups = TrainingStep(network, TrainingConfig()).optimizer.param_groups
    found = [id(p) for group in groups for p in group["params"]]
    assert found == [id(p) for p in sorted(network.parameters(), key=lambda p: p.dim() < 2)]


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam"])
def test_only_adamw_decays_weights(name: str):
    rules = [Rule(name, 0.01) for _ in range(2)]
    assert_follows(name, rules, learning_rate=0.01, weight_decay=0.3)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_is_optimised_once_at_the_given_rate(name: str):
    model = nn.Sequential(layer(), layer())
    optimizer = make(model, name, learning_rate=0.25)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_slots_are_what_an_optimiser_stores_after_a_step(name: str, momentum: float):
    model = layer()
    optimizer = make(model, name, momentum=momentum)
    expected = optimizer_slots(optimizer)
    next(steps(model, optimizer))
    stored = {
        f"{index}.{slot}": value
        for index, slots in optimizer.state_dict()["state"].items()
        for slot, value in slots.items()
        if torch.is_tensor(value)
    }
    described, wanted = (
        {name: (value.shape, value.dtype) for name, value in slots.items()} for slots in (stored, expected)
    )
    assert described == wanted
    assert all(value.is_meta for value in expected.values())
