"""The network: one-hot input → recurrent layers → softmax output.

    x_t one-hot (or its row of a narrow embedding);  layer l's output is layer l+1's input
    o_t = softmax(V_o s_t + b_o), read as the distribution of x_{t+1}

Shapes are time-major, (T, B, ·), as PyTorch's own recurrent layers have them. The recurrences themselves are in
`cells`, the loss and its minimisation in `training`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlm.cells import State, find_cell, run_layer
from charlm.experts.ngram import NgramModel

ModelState = list[State]  # one for each layer


class Recurrent(nn.Module):
    """Layers of one cell, with the weight names, shapes and gate order of `torch.nn.RNN/LSTM/GRU`.

    Args:
        input_size: symbols of the one-hot input, or the width of the embedding.
        hidden_size: H.
        num_layers: L.
        cell: `rnn`, `lstm` or `gru`.
        reset: `after` or `before`, for the GRU.
        bias: whether there are biases; b = bias_ih + bias_hh.
        dropout: dropped share of what goes from layer to layer.
        recurrent_dropout: dropped share of each W, drawn anew for each window.
        backend: see `cells.run_layer`; in training only, otherwise `auto`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        cell: str,
        reset: str,
        bias: bool,
        dropout: float,
        recurrent_dropout: float = 0.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.cell = find_cell(cell, reset)
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.backend = backend
        rows = self.cell.gates * hidden_size
        for layer in range(num_layers):
            columns = input_size if layer == 0 else hidden_size
            self.register_parameter(f"weight_ih_l{layer}", nn.Parameter(torch.empty(rows, columns)))
            self.register_parameter(f"weight_hh_l{layer}", nn.Parameter(torch.empty(rows, hidden_size)))
            for name in ("bias_ih", "bias_hh"):
                value = nn.Parameter(torch.zeros(rows)) if bias else None
                self.register_parameter(f"{name}_l{layer}", value)

    @property
    def drops(self) -> bool:
        """Whether training draws what to drop."""
        return bool(self.dropout or self.recurrent_dropout)

    def parameter(self, name: str, layer: int) -> Tensor:
        """Returns `weight_ih`, `weight_hh`, `bias_ih` or `bias_hh` of a layer; a bias may be None."""
        value: Tensor = getattr(self, f"{name}_l{layer}")
        return value

    def forward(
        self, inputs: Tensor, state: ModelState, generator: torch.Generator | None = None
    ) -> tuple[Tensor, ModelState]:
        """Runs all layers over all steps.

        Args:
            inputs: ids (T, B) of the one-hot input, or vectors (T, B, input_size).
            state: of each layer, from the step before.
            generator: what dropout draws from; None: torch's own.

        Returns:
            The top layer's s_1 … s_T, shape (T, B, H), and the states after the last step.
        """
        last: ModelState = []
        s = inputs
        for layer in range(self.num_layers):
            if layer > 0:
                s = self.drop(s, generator)
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            weights = [self.parameter(name, layer) for name in names]
            weights[1] = self._drop(weights[1], self.recurrent_dropout, generator)
            backend = self.backend if self.training else "auto"
            s, state_l = run_layer(self.cell, s, state[layer], *weights, backend=backend)
            last.append(state_l)
        return s, last

    def drop(self, s: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Drops a share of s in training, which goes from layer to layer or to the output."""
        return self._drop(s, self.dropout, generator)

    def _drop(self, values: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
        """Drops a share in training; what stays is scaled, so that the mean does."""
        if not self.training or share == 0:
            return values
        return _kept(values, share, generator).mul_(1 / (1 - share)) * values


def _kept(values: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Draws a one for each of the values that is kept, and a zero for the share that is dropped.

    On the CPU, 64 random bits decide about four values: `bernoulli_` takes seven times as long.
    """
    if values.device.type != "cpu":
        return torch.empty_like(values).bernoulli_(1 - share, generator=generator)
    bits = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    fours = bits.view(torch.int16)[: values.numel()].view(values.shape)
    return fours.to(values.dtype).ge_(2**16 * share - 2**15)


class CharacterModel(nn.Module):
    """A recurrent language model over V symbols.

    Args:
        vocabulary_size: V.
        cell: `rnn`, `lstm` or `gru`.
        hidden_size: H.
        num_layers: L.
        reset: `after` or `before`, for the GRU.
        bias: whether cells and output have biases.
        embedding_size: K factors the input matrix into (·, K)(K, V); None: one-hot.
        output_rank: R factors the output matrix into (V, R)(R, H), see `features`; None: one matrix.
        dropout: dropped share between layers and before the output.
        recurrent_dropout: dropped share of the recurrent weights (Merity et al. 2018, AWD-LSTM).
        forget_bias: where the bias of the LSTM's forget gate starts.
        recurrent_init: `orthogonal` (each gate's matrix, Saxe et al. 2014) or `uniform` (±1/√H, as PyTorch).
        backend: how layers are computed in training, see `cells.run_layer`.
        ngram_order: of the n-gram model that may be mixed in, see `attach`; None: none.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        cell: str = "lstm",
        hidden_size: int = 256,
        num_layers: int = 1,
        reset: str = "after",
        bias: bool = True,
        embedding_size: int | None = None,
        output_rank: int | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        forget_bias: float = 1.0,
        recurrent_init: str = "orthogonal",
        backend: str = "auto",
        ngram_order: int | None = None,
    ) -> None:
        super().__init__()
        self.ngram: NgramModel | None = None
        self.ngram_powers: Tensor | None
        self.register_buffer("ngram_powers", torch.tensor([[1.0, 0.0]] * ngram_order) if ngram_order else None)
        self.embedding = nn.Embedding(vocabulary_size, embedding_size) if embedding_size else None
        self.recurrent = Recurrent(
            embedding_size or vocabulary_size,
            hidden_size,
            num_layers,
            cell=cell,
            reset=reset,
            bias=bias,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            backend=backend,
        )
        self.projection = nn.Linear(hidden_size, output_rank, bias=False) if output_rank else None
        self.output = nn.Linear(output_rank or hidden_size, vocabulary_size, bias=bias)
        self._initialize(cell, embedding_size, forget_bias, recurrent_init)

    def _initialize(self, cell: str, embedding_size: int | None, forget_bias: float, recurrent_init: str) -> None:
        if self.device.type == "meta":  # shapes without memory, to compare a file with: nothing to fill
            return
        H = self.recurrent.hidden_size
        bound = 1 / math.sqrt(H)
        for layer in range(self.recurrent.num_layers):
            weight_ih = self.recurrent.parameter("weight_ih", layer)
            if layer == 0 and embedding_size is None:
                # One column is active, so it must bring the whole signal: PyTorch's 1/√H is a whisper beside the
                # recurrent part, and at this scale all cells learn about twice as fast. The more characters, the
                # rarer each, and the less a large random column is forgiven.
                nn.init.normal_(weight_ih, std=min(2.0, 16 / math.sqrt(weight_ih.shape[1])))
            else:
                scale = 1 / math.sqrt(weight_ih.shape[1])
                nn.init.uniform_(weight_ih, -scale, scale)
            for gate in self.recurrent.parameter("weight_hh", layer).split(H):
                if recurrent_init == "orthogonal":
                    nn.init.orthogonal_(gate)
                else:
                    nn.init.uniform_(gate, -bound, bound)
            bias = self.recurrent.parameter("bias_ih", layer)
            if cell == "lstm" and bias is not None:
                nn.init.constant_(bias[H : 2 * H], forget_bias)
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
    def product_dtype(self) -> torch.dtype:
        """What the large products of training are computed in; the weights and their sums are float32."""
        return torch.bfloat16 if self.recurrent.backend == "bfloat16" else self.output.weight.dtype

    def initial_state(self, batch_size: int) -> ModelState:
        """Returns the state before the first symbol: zero, as the textbooks have it."""
        shape = (batch_size, self.recurrent.hidden_size)
        return [
            tuple(self.output.weight.new_zeros(shape) for _ in range(self.recurrent.cell.states))
            for _ in range(self.recurrent.num_layers)
        ]

    def attach(self, ngram: NgramModel) -> None:
        """Mixes an n-gram model in from now on, except in training.

            p(w) ∝ o[w]^a_k p_ngram(w)^b_k

        k is the length of the longest context that the n-gram model knows, (a_k, b_k) a row of `ngram_powers`; at
        first the network alone. The state then has one part more: which n-grams end at the last symbol, as floats.
        """
        self.ngram = ngram

    def features(
        self, ids: Tensor, state: ModelState, generator: torch.Generator | None = None
    ) -> tuple[Tensor, ModelState]:
        """Runs input and layers: ids (T, B) → what the softmax reads (T, B, R), and the last state.

        That is s_t, and R = H; or where the output matrix is factored P s_t, so that thousands of characters cost R
        multiplications each and not H (Sainath et al. 2013, Low-rank matrix factorization for deep neural network
        training with high-dimensional output targets). With an n-gram model the features end with what that one
        reads, (T, B, R + K). Dropout draws from the generator, or torch's own.
        """
        inputs = ids if self.embedding is None else self.embedding(ids)  # (T, B) or (T, B, K)
        L = self.recurrent.num_layers
        s, last = self.recurrent(inputs, state[:L], generator)
        s = self.recurrent.drop(s, generator)
        s = s if self.projection is None else self.projection(s)
        if self.ngram is None or self.training:
            return s, last
        before = state[L][0].long().cpu().numpy() if len(state) > L else None
        places = torch.from_numpy(self.ngram.advance(ids.cpu().numpy(), before)).to(s)  # (T, B, K)
        return torch.cat([s, places], 2), [*last, (places[-1],)]

    def logits(self, features: Tensor) -> Tensor:
        """Returns V_o s + b_o, shape (…, V), or the like of a mixture; its softmax is that of the next symbol."""
        if features.shape[-1] == self.output.in_features:
            result: Tensor = self.output(features)
            return result
        network, ngram, known = self.experts(features.flatten(0, -2))
        return self._weighed(network, ngram, known).view(*features.shape[:-1], -1)

    def mixed(self, logits: Tensor, places: NDArray[np.int64]) -> Tensor:
        """Mixes the attached n-gram model in: the network's logits (N, V) and places (N, K) → logits (N, V)."""
        return self._weighed(logits, *self._ngram_log_probs(places, logits))

    def experts(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what is mixed: the network's logits (N, V), the n-grams' log-probabilities (N, V), and k (N,)."""
        R = self.output.in_features
        logits = self.output(features[:, :R])
        return logits, *self._ngram_log_probs(features[:, R:].long().cpu().numpy(), logits)

    def _ngram_log_probs(self, places: NDArray[np.int64], like: Tensor) -> tuple[Tensor, Tensor]:
        assert self.ngram is not None
        p, known = self.ngram.distributions(places)
        smallest = torch.finfo(torch.float32).tiny
        return torch.from_numpy(p).to(like).clamp_(min=smallest).log_(), torch.from_numpy(known).to(like.device)

    def _weighed(self, logits: Tensor, log_p: Tensor, known: Tensor) -> Tensor:
        """Returns a_k logits + b_k log p: each of these logs may lack a constant of its row."""
        assert self.ngram_powers is not None
        a, b = self.ngram_powers[known].unsqueeze(2).unbind(1)  # (N, 1)
        return torch.addcmul(b * log_p, a, logits)

    def forward(self, ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Maps ids (T, B) and a state to logits (T, B, V) and the state after the last step."""
        features, last = self.features(ids, state)
        return self.logits(features), last


@contextmanager
def reading(model: CharacterModel) -> Iterator[None]:
    """Runs a model without dropout and without gradients; the model and torch are as before afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


@torch.no_grad()
def begin_with_frequencies(model: CharacterModel, log_probs: NDArray[np.float64]) -> None:
    """Lets a fresh model predict each symbol by its frequency, from the bias alone, where the output has one.

    Among thousands of characters the first steps would be spent on learning just that: after 400,000 characters of
    Tang couplets it is worth 0.075 nats, after 1.5 million of tiny Shakespeare 0.011 (docs/recipes.md).

    Args:
        model: freshly made.
        log_probs: of each symbol in the training text, shape (V,).
    """
    if model.output.bias is not None:
        model.output.bias.copy_(torch.from_numpy(log_probs))


@torch.no_grad()
def take_over(model: CharacterModel, trained: CharacterModel, ids: Sequence[int | None]) -> None:
    """Gives a model the weights of a trained one of the same shape whose vocabulary is another.

    The input of a new character stays as it was drawn. Its output row is the mean of the trained ones, so that at
    the start n new characters beside V old ones take at most the share n/(V + n) of the probability (Hewitt 2021,
    Initializing New Word Embeddings for Pretrained Language Models).

    Args:
        model: freshly made.
        trained: where the weights come from.
        ids: for each symbol of `model` its id in the vocabulary of `trained`; None for a new one.
    """
    here = torch.tensor([i for i, old in enumerate(ids) if old is not None])
    there = torch.tensor([old for old in ids if old is not None])
    own, theirs = dict(model.named_parameters()), dict(trained.named_parameters())
    by_symbol = {"embedding.weight": 0, "output.weight": 0, "output.bias": 0}
    if model.embedding is None:
        by_symbol["recurrent.weight_ih_l0"] = 1  # one column for each symbol
    for name, value in own.items():
        if name not in by_symbol:
            value.copy_(theirs[name])
            continue
        axis = by_symbol[name]
        if name.startswith("output."):
            value.copy_(theirs[name].mean(0))
        value.index_copy_(axis, here, theirs[name].index_select(axis, there))


def parameter_count(model: nn.Module) -> int:
    """Counts the trainable numbers of a model."""
    return sum(p.numel() for p in model.parameters())
