"""The configuration of a recurrent network over characters, exported by charlm."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class CharlmConfig(PretrainedConfig):
    """Shapes of the network, as config.json has them.

    Args:
        cell: `rnn`, `lstm`, `gru` (reset gate after the recurrent product, as PyTorch has it) or `gru-before`.
        vocab_size: symbols (V).
        hidden_size: units in each layer (H).
        num_hidden_layers: layers (L).
        bias: whether cells and output have biases.
        embedding_size: width of the embedding (K); None: one-hot input.
        output_rank: width through which the output matrix is factored (R); None: one matrix.
        **kwargs: what every configuration has.
    """

    model_type = "charlm"

    def __init__(
        self,
        cell: str = "lstm",
        vocab_size: int = 2,
        hidden_size: int = 1,
        num_hidden_layers: int = 1,
        bias: bool = True,
        embedding_size: int | None = None,
        output_rank: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.cell = cell
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.bias = bias
        self.embedding_size = embedding_size
        self.output_rank = output_rank
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)
