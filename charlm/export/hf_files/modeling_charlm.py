"""A recurrent network over characters, exported by charlm, in plain PyTorch.

    x_t = one-hot(symbol t), or its row of the embedding
    s_t = the recurrent layers, each from the layer below and from its own s_{t-1}
    logits_t = V_o s_t + b_o, with a factored output V_o P s_t; their softmax is the distribution of symbol t+1

RNN, LSTM and GRU are PyTorch's own. Where the attention mask is 0 a state stays as it is, so that a batch may be
padded on either side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationMixin, PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_charlm import CharlmConfig

State = tuple[Tensor, ...]  # (s,), or of the LSTM (s, c), each of shape (L, B, H)


class GruBefore(nn.Module):
    """Layers of the GRU whose reset gate acts before the recurrent product (Cho et al. 2014), called as `nn.GRU`.

        r, z = σ(U x_t + W s_{t-1} + b)
        n = tanh(U_n x_t + W_n (r ∘ s_{t-1}) + b_n)
        s_t = (1 - z) ∘ n + z ∘ s_{t-1}

    Args:
        input_size: width of the input.
        hidden_size: H.
        num_layers: L.
        bias: whether there are biases.
        batch_first: must be True; inputs are (B, T, ·).
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, num_layers: int, bias: bool, batch_first: bool
    ) -> None:
        super().__init__()
        assert batch_first
        self.hidden_size, self.num_layers = hidden_size, num_layers
        bound = 1 / math.sqrt(hidden_size)
        for layer in range(num_layers):
            columns = hidden_size if layer else input_size
            for name, width in (("weight_ih", columns), ("weight_hh", hidden_size)):
                weight = nn.Parameter(torch.empty(3 * hidden_size, width).uniform_(-bound, bound))
                self.register_parameter(f"{name}_l{layer}", weight)
            for name in ("bias_ih", "bias_hh"):
                value = nn.Parameter(torch.zeros(3 * hidden_size)) if bias else None
                self.register_parameter(f"{name}_l{layer}", value)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps x (B, T, ·) and a state (L, B, H) to the top layer's states, (B, T, H), and the last, (L, B, H)."""
        H = self.hidden_size
        if state is None:
            state = x.new_zeros(self.num_layers, len(x), H)
        last = []
        for layer, s in enumerate(state):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            U, W, b_ih, b_hh = (getattr(self, f"{name}_l{layer}") for name in names)
            a = F.linear(x, U, None if b_ih is None else b_ih + b_hh)  # (B, T, 3H)
            states = []
            for a_t in a.unbind(1):
                r, z = torch.sigmoid(a_t[:, : 2 * H] + F.linear(s, W[: 2 * H])).split(H, 1)  # (B, H) each
                n = torch.tanh(a_t[:, 2 * H :] + F.linear(r * s, W[2 * H :]))
                s = (1 - z) * n + z * s
                states.append(s)
            x = torch.stack(states, 1)  # (B, T, H)
            last.append(s)
        return x, torch.stack(last)


CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU, "gru-before": GruBefore}


@dataclass
class CharlmOutput(ModelOutput):
    """What the network says of a text.

    Attributes:
        loss: mean cross-entropy in nats, if there were labels.
        logits: shape (B, T, V).
        state: after the last symbol, to go on from.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    state: State | None = None


class CharlmForCausalLM(PreTrainedModel, GenerationMixin):
    """The network, for `AutoModelForCausalLM`.

    Args:
        config: its shapes.
    """

    config_class = CharlmConfig
    _is_stateful = True  # a state cannot be taken back, so there is no assisted generation

    def __init__(self, config: CharlmConfig) -> None:
        super().__init__(config)
        V, H, K, R = config.vocab_size, config.hidden_size, config.embedding_size, config.output_rank
        self.embedding = nn.Embedding(V, K) if K else None
        self.recurrent = CELLS[config.cell](
            K or V, H, num_layers=config.num_hidden_layers, bias=config.bias, batch_first=True
        )
        self.projection = nn.Linear(H, R, bias=False) if R else None
        self.output = nn.Linear(R or H, V, bias=config.bias)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        state: State | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> CharlmOutput | tuple[Any, ...]:
        """Reads symbols.

        Args:
            input_ids: shape (B, T).
            attention_mask: 0 where a symbol is padding, which is passed over; shape (B, T), or longer, and then its
                end counts.
            state: after the symbols before; None: zero.
            labels: shape (B, T), usually `input_ids`; they are shifted here. What is -100 counts nothing, nor does
                padding.
            use_cache: whether the state is returned; None: it is.
            return_dict: False for a tuple.
            **kwargs: for the loss.
        """
        if self.embedding is None:
            x = F.one_hot(input_ids, self.config.vocab_size).to(self.output.weight.dtype)  # (B, T, V)
        else:
            x = self.embedding(input_ids)  # (B, T, K)
        mask = None if attention_mask is None else attention_mask[:, -input_ids.shape[1] :].bool()
        if mask is None or mask.all():
            s, last = self._read(x, state)
        else:
            s, last = self._read_masked(x, mask, state)
        logits = self.output(s if self.projection is None else self.projection(s))  # (B, T, V)
        loss = None
        if labels is not None:
            if mask is not None:  # padding is not predicted, and predicts nothing
                real = mask & F.pad(mask[:, :-1], (1, 0), value=True)
                labels = labels.masked_fill(~real, -100)
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        output = CharlmOutput(loss, logits, last if use_cache is not False else None)
        return output.to_tuple() if return_dict is False else output

    def _read(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Runs the layers over x (B, T, ·): the top layer's states, (B, T, H), and the last ones of all."""
        given = None if state is None else state if len(state) == 2 else state[0]
        s, last = self.recurrent(x, given)
        return s, last if isinstance(last, tuple) else (last,)

    def _read_masked(self, x: Tensor, mask: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Does the same step by step; where the mask (B, T) is False, states stay."""
        if state is None:
            zero = x.new_zeros(self.config.num_hidden_layers, len(x), self.config.hidden_size)
            state = (zero, zero) if self.config.cell == "lstm" else (zero,)
        outputs = []
        for t in range(x.shape[1]):
            s, moved = self._read(x[:, t : t + 1], state)
            keep = mask[None, :, t, None]  # (1, B, 1)
            state = tuple(torch.where(keep, new, old) for new, old in zip(moved, state, strict=True))
            outputs.append(s)
        return torch.cat(outputs, 1), state

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As everywhere; but states do not follow beams, so beams read their texts anew at each step."""
        config = kwargs.get("generation_config") or self.generation_config
        if (kwargs.get("num_beams") or config.num_beams or 1) > 1:
            kwargs["use_cache"] = False
        return super().generate(*args, **kwargs)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the state is the cache

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        state: State | None = None,
        attention_mask: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Returns what `forward` is to read: the last symbol if a state has read those before."""
        return {
            "input_ids": input_ids if state is None else input_ids[:, -1:],
            "attention_mask": attention_mask,
            "state": state,
            "use_cache": use_cache,
        }

    def _update_model_kwargs_for_generation(
        self, outputs: CharlmOutput, model_kwargs: dict[str, Any], **kwargs: Any
    ) -> dict[str, Any]:
        if outputs.state is not None:
            model_kwargs["state"] = outputs.state
        result: dict[str, Any] = super()._update_model_kwargs_for_generation(outputs, model_kwargs, **kwargs)
        return result
