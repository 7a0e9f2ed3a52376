"""Every configuration key, with its type, default, bounds and one line of help.

Validation, `charlm config init`, `charlm config schema` and the messages are all drawn from the four sections
below. A component is given its own section and reads its values from there: a new key is one `Field` and its use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from charlm.config.amounts import parse_amount


def _budget(text: str) -> str:
    if parse_amount(text)[0] == "percent":
        raise ValueError("a budget is a time, epochs, steps or characters, not a percentage")
    return text


def _interval(text: str) -> str:
    parse_amount(text)
    return text


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


_Path = Annotated[str, Field(min_length=1)]


class CorpusConfig(_Section):
    """The text to learn from, and how it becomes numbers."""

    path: _Path | list[_Path] = Field(
        min_length=1,
        description="text file, folder, glob, .gz, `-` for standard input, `corpus:NAME` for a known corpus; "
        "or a list of these",
    )
    framing: Literal["stream", "lines"] = Field(
        "stream", description="stream: one running text; lines: each line a sentence of its own"
    )
    level: Literal["character", "byte"] = Field("character", description="what one symbol is")
    validation: float = Field(0.1, ge=0, lt=1, description="share held out at the end to choose the best weights")
    test: float = Field(0.0, ge=0, lt=1, description="share after that, never looked at in training")
    normalization: Literal["none", "nfc", "nfkc"] = Field(
        "none", description="Unicode normalisation, in training and in scoring"
    )
    lowercase: bool = Field(False, description="turn all letters into small ones")
    min_count: int = Field(1, ge=1, description="rarer characters of the training text become <unk>")
    max_line_length: int | None = Field(
        None, ge=1, description="in lines framing, leave out lines longer than this many characters"
    )


class ModelConfig(_Section):
    """The network: one-hot input, recurrent layers, softmax output."""

    cell: Literal["rnn", "lstm", "gru"] = Field("lstm", description="the recurrent cell")
    hidden_size: int = Field(256, ge=1, le=16384, description="units in each layer (H)")
    num_layers: int = Field(1, ge=1, le=16, description="recurrent layers on top of each other (L)")
    reset: Literal["after", "before"] = Field(
        "after",
        description="GRU only: the reset gate acts after W_h s (as PyTorch) or before (Cho et al.)",
    )
    bias: bool = Field(True, description="biases in the cells and at the output")
    embedding_size: int | None = Field(
        None, ge=1, le=16384, description="factors the input matrix through this width; null: one-hot"
    )
    output_rank: int | None = Field(
        None, ge=1, le=16384, description="factors the output matrix through this width; null: one matrix"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropped share between layers and before the output")
    recurrent_dropout: float = Field(
        0.0, ge=0, lt=1, description="dropped share of the recurrent weights W, drawn anew for each window"
    )
    ngram: int | None = Field(
        None,
        ge=2,
        le=16,
        description="mixes in an n-gram model of this order, counted in seconds; null: the network alone",
    )
    forget_bias: float = Field(
        1.0, ge=-100, le=100, description="LSTM only: where the bias of the forget gate starts"
    )
    recurrent_init: Literal["orthogonal", "uniform"] = Field(
        "orthogonal", description="how the recurrent matrices W start"
    )


class TrainingConfig(_Section):
    """How long, how fast and how carefully to learn."""

    budget: Annotated[str, AfterValidator(_budget)] = Field(
        "3m", description="when to stop: 3m, 1h30m, 20 epochs, 5000 steps, 10M characters"
    )
    batch_size: int = Field(16, ge=1, le=65536, description="sequences side by side (B)")
    sequence_length: int = Field(
        64, ge=1, le=65536, description="steps of truncated backpropagation through time (T)"
    )
    optimizer: Literal["sgd", "rmsprop", "adam", "adamw"] = Field(
        "adamw", description="how a gradient becomes a step"
    )
    learning_rate: float = Field(4e-3, gt=0, le=1e3, description="the highest learning rate of the schedule")
    momentum: float = Field(0.0, ge=0, lt=1, description="for sgd and rmsprop; 0 is the plain textbook rule")
    beta2: float = Field(0.99, ge=0, lt=1, description="decay of the squared gradients (adam, adamw, rmsprop)")
    weight_decay: float = Field(0.01, ge=0, le=1e3, description="of adamw, on matrices; biases are left alone")
    schedule: Literal["linear", "cosine", "constant", "step"] = Field(
        "linear", description="learning rate over the budget; all but constant come down by its end"
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the budget in which the rate rises from zero")
    clip_norm: float | None = Field(1.0, gt=0, description="longest gradient, as a norm; null: never clipped")
    evaluate_every: Annotated[str, AfterValidator(_interval)] = Field(
        "10%", description="validation, sample and checkpoint: 10% of the budget, 30s, 1 epoch, ..."
    )
    early_stopping: int | None = Field(
        None, ge=1, description="stop after so many evaluations without a better validation loss"
    )
    keep: int = Field(
        1, ge=1, description="checkpoints of so many evaluations stay, to go back to; 1: the newest only"
    )
    backend: Literal["auto", "derived", "compiled", "fused", "bfloat16"] = Field(
        "auto",
        description="derived: by hand, in PyTorch; compiled: the same in C, where there is a C compiler; fused: "
        "PyTorch's (LSTM; with CUDA all but reset before); bfloat16: products in bfloat16; auto: the fastest here",
    )
    seed: int = Field(1, ge=0, lt=2**32, description="the same seed gives the same run")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to compute")


class SamplingConfig(_Section):
    """What the samples written during training look like, and the defaults of `charlm sample`."""

    length: int = Field(200, ge=1, le=1_000_000, description="characters of a sample")
    temperature: float = Field(0.8, ge=0, le=100, description="0: always the likeliest character")
    top_k: int | None = Field(None, ge=1, description="draw from the K likeliest characters only")
    top_p: float | None = Field(
        None, gt=0, le=1, description="draw from the likeliest characters that hold this share"
    )
    min_p: float | None = Field(
        None, ge=0, le=1, description="leave out what is rarer than this times the likeliest"
    )


class Config(_Section):
    """A whole configuration, valid."""

    corpus: CorpusConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    sampling: SamplingConfig = SamplingConfig()


def keys() -> Iterator[tuple[str, FieldInfo]]:
    """Yields every dotted key of a configuration with its field, in order."""
    for section, field in Config.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, BaseModel)
        for name, inner in field.annotation.model_fields.items():
            yield f"{section}.{name}", inner


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema of a configuration file, for editors that complete and check YAML."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "charlm configuration"
    return schema
