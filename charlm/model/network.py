"""The network: one-hot input → recurrent layers → softmax output.

    x_t one-hot (or its row of a narrow embedding);  layer l's output is layer l+1's input
    o_t = softmax(V_o s_t + b_o), read as the distribution of x_{t+1}

Shapes are time-major, (T, B, ·), as PyTorch's own recurrent layers have them. The recurrences themselves are in
`cells`, the loss and its minimisation in `training`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from charlm.cells import CELLS, State, run_layer
from charlm.cells.plan import Plan, make_plan
from charlm.config import ModelConfig
from charlm.system.threads import tell_torch

NetworkState = list[State]  # one for each layer

tell_torch()  # charlm's own use of torch begins here

_FORGET_BIAS = 1.0  # where the bias of the LSTM's forget gate starts (Jozefowicz et al. 2015)


class LaneGenerators(NamedTuple):
    """What dropout draws from where lanes, the rows of a batch, are divided among processes.

    What is dropped in a lane does not depend on the lanes that are computed beside it.

    Attributes:
        common: for weights, the same for all lanes.
        lanes: for the values of each lane.
    """

    common: torch.Generator
    lanes: list[torch.Generator]


Generators = torch.Generator | LaneGenerators


class Recurrent(nn.Module):
    """Layers of one cell, with the weight names, shapes and gate order of `torch.nn.RNN/LSTM/GRU`.

    Args:
        input_size: symbols of the one-hot input, or the width of the embedding.
        config: cell, sizes and dropout.
        plan: how the layers are computed.
    """

    def __init__(self, input_size: int, config: ModelConfig, plan: Plan) -> None:
        super().__init__()
        self.cell = CELLS[config.cell]
        self.config = config
        self.plan = plan
        H = config.hidden_size
        rows = self.cell.gates * H
        for layer in range(config.num_layers):
            columns = input_size if layer == 0 else H
            self.register_parameter(f"weight_ih_l{layer}", nn.Parameter(torch.empty(rows, columns)))
            self.register_parameter(f"weight_hh_l{layer}", nn.Parameter(torch.empty(rows, H)))
            for name in ("bias_ih", "bias_hh"):
                value = nn.Parameter(torch.zeros(rows)) if config.bias else None
                self.register_parameter(f"{name}_l{layer}", value)

    def parameter(self, name: str, layer: int) -> Tensor:
        """Returns `weight_ih`, `weight_hh`, `bias_ih` or `bias_hh` of a layer; a bias may be None."""
        value: Tensor = getattr(self, f"{name}_l{layer}")
        return value

    def forward(
        self, inputs: Tensor, state: NetworkState, training: Generators | None = None
    ) -> tuple[Tensor, NetworkState]:
        """Runs all layers over all steps.

        Args:
            inputs: ids (T, B) of the one-hot input, or vectors (T, B, input_size).
            state: of each layer, from the step before.
            training: in training, what dropout draws from; None: nothing is dropped.

        Returns:
            The top layer's s_1 … s_T, shape (T, B, H), and the states after the last step.
        """
        last: NetworkState = []
        s = inputs
        for layer in range(self.config.num_layers):
            if layer > 0:
                s = drop(s, self.config.dropout, training)
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            weights = [self.parameter(name, layer) for name in names]
            kernel = self.plan.kernel(layer, len(inputs), weights[1].dtype, training=training is not None)
            dtype = self.plan.dtype if training is not None and weights[1].dtype == torch.float32 else None
            weights[1] = drop(weights[1], self.config.recurrent_dropout, training)
            s, state_l = run_layer(self.cell, s, state[layer], *weights, kernel=kernel, dtype=dtype)
            last.append(state_l)
        return s, last


def drop(values: Tensor, share: float, generator: Generators | None) -> Tensor:
    """Drops a share of values, drawn from the generator; what stays is scaled, so that the mean does not change.

    Without a generator nothing is dropped. Values of lanes are of shape (T, B, ·), weights of (·, ·).
    """
    if generator is None or share == 0:
        return values
    draw = keep_by_bits if values.device.type == "cpu" else keep_by_numbers
    if isinstance(generator, LaneGenerators):
        if values.dim() == 3:
            masks = zip(values.unbind(1), generator.lanes, strict=True)
            mask = torch.stack([draw(lane, share, own) for lane, own in masks], 1)
            return mask.mul_(1 / (1 - share)) * values
        generator = generator.common
    return draw(values, share, generator).mul_(1 / (1 - share)) * values


def keep_by_numbers(values: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Draws a one for each of the values that is kept, and a zero for the share that is dropped, on any device."""
    return torch.empty_like(values).bernoulli_(1 - share, generator=generator)


def keep_by_bits(values: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Draws as `keep_by_numbers` does, on the CPU seven times as fast: 64 random bits decide about four values."""
    bits = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    fours = bits.view(torch.int16)[: values.numel()].view(values.shape)
    return fours.to(values.dtype).ge_(2**16 * share - 2**15)


class CharacterModel(nn.Module):
    """A recurrent language model over V symbols, with fresh weights from torch's global generator.

    Args:
        vocabulary_size: V.
        config: the `model` section of the configuration.
        plan: how the layers are computed, see `plan_layers`; None: in float32 on the CPU.
    """

    def __init__(self, vocabulary_size: int, config: ModelConfig, plan: Plan | None = None) -> None:
        super().__init__()
        plan = plan or plan_layers(vocabulary_size, config, torch.device("cpu"))
        H, K, R = config.hidden_size, config.embedding_size, config.output_rank
        self.config = config
        self.embedding = nn.Embedding(vocabulary_size, K) if K else None
        self.recurrent = Recurrent(K or vocabulary_size, config, plan)
        self.projection = nn.Linear(H, R, bias=False) if R else None
        self.output = nn.Linear(R or H, vocabulary_size, bias=config.bias)
        if self.device.type != "meta":  # shapes without memory, to compare a file with: nothing to fill
            self._initialize()

    def _initialize(self) -> None:
        H = self.config.hidden_size
        bound = 1 / math.sqrt(H)
        for layer in range(self.config.num_layers):
            weight_ih = self.recurrent.parameter("weight_ih", layer)
            if layer == 0 and self.embedding is None:
                # One column is active, so it must bring the whole signal: PyTorch's 1/√H is a whisper beside the
                # recurrent part, and at this scale all cells learn about twice as fast. The more characters, the
                # rarer each, and the less a large random column is forgiven.
                nn.init.normal_(weight_ih, std=min(2.0, 16 / math.sqrt(weight_ih.shape[1])))
            else:
                scale = 1 / math.sqrt(weight_ih.shape[1])
                nn.init.uniform_(weight_ih, -scale, scale)
            for gate in self.recurrent.parameter("weight_hh", layer).split(H):
                nn.init.orthogonal_(gate)  # Saxe et al. 2014
            bias = self.recurrent.parameter("bias_ih", layer)
            if self.config.cell == "lstm" and bias is not None:
                nn.init.constant_(bias[H : 2 * H], _FORGET_BIAS)
        for linear in (self.projection, self.output):
            if linear is not None:
                nn.init.uniform_(linear.weight, -bound, bound)
        if self.output.bias is not None:
            nn.init.zeros_(self.output.bias)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.output.weight.device

    @property
    def table(self) -> Tensor:
        """What symbols are looked up in: the embedding, or without one the input matrix of the first layer."""
        return self.recurrent.parameter("weight_ih", 0) if self.embedding is None else self.embedding.weight

    @property
    def plan(self) -> Plan:
        """How the layers are computed."""
        return self.recurrent.plan

    @property
    def drops(self) -> bool:
        """Whether training draws what to drop."""
        return bool(self.config.dropout or self.config.recurrent_dropout)

    def initial_state(self, batch_size: int) -> NetworkState:
        """Returns the state before the first symbol: zero, as the textbooks have it."""
        shape = (batch_size, self.config.hidden_size)
        return [
            tuple(self.output.weight.new_zeros(shape) for _ in range(self.recurrent.cell.states))
            for _ in range(self.config.num_layers)
        ]

    def features(
        self, ids: Tensor, state: NetworkState, training: Generators | None = None
    ) -> tuple[Tensor, NetworkState]:
        """Runs input and layers: ids (T, B) → what the softmax reads (T, B, R), and the last state.

        That is s_t, and R = H; or where the output matrix is factored P s_t, so that thousands of characters cost R
        multiplications each and not H (Sainath et al. 2013, Low-rank matrix factorization for deep neural network
        training with high-dimensional output targets). In training dropout draws from the generator.
        """
        inputs = ids if self.embedding is None else self.embedding(ids)  # (T, B) or (T, B, K)
        s, last = self.recurrent(inputs, state, training)
        s = drop(s, self.config.dropout, training)
        return s if self.projection is None else self.projection(s), last

    def logits(self, features: Tensor) -> Tensor:
        """Returns V_o s + b_o, shape (…, V); its softmax is the distribution of the next symbol."""
        result: Tensor = self.output(features)
        return result

    def forward(self, ids: Tensor, state: NetworkState) -> tuple[Tensor, NetworkState]:
        """Maps ids (T, B) and a state to logits (T, B, V) and the state after the last step."""
        features, last = self.features(ids, state)
        return self.logits(features), last


def plan_layers(
    vocabulary_size: int,
    config: ModelConfig,
    device: torch.device,
    *,
    kernel: str = "auto",
    precision: str = "float32",
    batch_size: int = 1,
) -> Plan:
    """Decides how the layers of a network are computed; see `cells.plan.make_plan`."""
    H = config.hidden_size
    widths = [config.embedding_size or vocabulary_size, *[H] * (config.num_layers - 1)]
    return make_plan(
        CELLS[config.cell], widths, H, device, kernel=kernel, precision=precision, batch_size=batch_size
    )


def parameter_count(model: nn.Module) -> int:
    """Counts the trainable numbers of a model."""
    return sum(p.numel() for p in model.parameters())
