"""All configuration keys, each with its type, default, bounds and a line of help.

Validation, `charlm config init`, `charlm config schema` and the messages are all made from the four sections below.
A component is given its own section and reads its values from there: a new key is one `Field` and its use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

from charlm.config.amounts import missing_unit, parse_amount
from charlm.system.encodings import check_encoding


def _refuse_number(value: Any) -> Any:
    """Says what is missing where YAML reads an amount as a number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(missing_unit(f"{value:.15g}" if 0 < value < 1e15 else "0"))
    return value


def _budget(text: str) -> str:
    if parse_amount(text)[0] == "percent":
        raise ValueError("a budget is a time, epochs, steps or characters, not a percentage")
    return text


def _interval(text: str) -> str:
    parse_amount(text)
    return text


MAX_HIDDEN_SIZE = 16384  # the bound of the embedding's width and of the output's rank as well


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


_Path = Annotated[str, Field(min_length=1)]
_Share = Annotated[float, Field(ge=0, lt=1)]


class CorpusConfig(_Section):
    """The text to train on, and how it is encoded."""

    path: _Path | list[_Path] = Field(
        min_length=1,
        description="a text file, folder, glob, .gz, .bz2, .xz, .zst or .zip, `-` for standard input, "
        "`corpus:NAME` for a known corpus, or a list of these",
    )
    encoding: Annotated[str, AfterValidator(check_encoding)] = Field(
        "utf-8",
        description="the encoding of the text, such as gb18030; auto: UTF-8, or else what each file seems to be",
    )
    strict: bool = Field(
        False, description="refuse what is not text in folders and archives, such as images, instead of skipping it"
    )
    field: Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="in JSON lines, CSV, TSV or Kaldi text, the column to read, by its name or its number from 1; "
        "null: read the whole file",
    )
    framing: Literal["auto", "stream", "lines"] = Field(
        "auto", description="stream: one running text; lines: each line is a sentence of its own; auto: found out"
    )
    split: Literal["spread", "tail"] = Field(
        "spread",
        description="where what is held out lies; spread: all over the text, as lines or pieces; tail: at its end",
    )
    level: Literal["character", "byte"] = Field(
        "character", description="whether a symbol is a character or a byte"
    )
    validation: _Share | _Path = Field(
        0.1, description="share of the text held out to choose the best weights, or a file of its own"
    )
    test: _Share | _Path = Field(
        0.0, description="share of the text that training never looks at, or a file of its own"
    )
    normalization: Literal["none", "nfc", "nfkc"] = Field(
        "none", description="Unicode normalisation of the corpus and of every text that is scored"
    )
    lowercase: bool = Field(False, description="convert all text to lower case")
    min_count: int = Field(
        1, ge=1, description="characters that occur less often in the training text become <unk>"
    )
    max_line_length: int | None = Field(
        None, ge=1, description="in lines framing, skip lines of more characters than this; null: skip none"
    )


class ModelConfig(_Section):
    """The network: one-hot input, recurrent layers, softmax output."""

    cell: Literal["rnn", "lstm", "gru", "gru-before"] = Field(
        "lstm",
        description="the recurrent cell; gru applies its reset gate after the recurrent product, as PyTorch does, "
        "gru-before applies it to the state before, as Cho et al. do",
    )
    hidden_size: int = Field(256, ge=1, le=MAX_HIDDEN_SIZE, description="units in each layer (H)")
    num_layers: int = Field(1, ge=1, le=16, description="recurrent layers on top of each other (L)")
    bias: bool = Field(True, description="biases in the cells and at the output")
    embedding_size: int | None = Field(
        None, ge=1, le=MAX_HIDDEN_SIZE, description="factors the input matrix through this width; null: one-hot"
    )
    output_rank: int | None = Field(
        None, ge=1, le=MAX_HIDDEN_SIZE, description="factors the output matrix through this width; null: one matrix"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropped share between layers and before the output")
    recurrent_dropout: float = Field(
        0.0, ge=0, lt=1, description="dropped share of the recurrent weights W, drawn anew for each window"
    )
    ngram: int | None = Field(
        None,
        ge=2,
        le=16,
        description="mixes in an n-gram model of this order, counted in seconds; null: no n-grams",
    )
    words: bool = Field(
        False,
        description="mixes in counts of what follows the beginning of a word, after the words before it; for texts "
        "whose words are parted by spaces",
    )

    @property
    def layers(self) -> str:
        """The recurrent layers, in words: `LSTM with 2 layers of 128 units`."""
        number = "" if self.num_layers == 1 else f"{self.num_layers} layers of "
        return f"{self.cell.upper()} with {number}{self.hidden_size} units"

    @property
    def mixed_in(self) -> str:
        """What is mixed with the network, in words; empty: nothing."""
        return describe_mixture(self.ngram, self.words)


def describe_mixture(ngram: int | None, words: bool) -> str:
    """Says what `model.ngram` and `model.words` mix with a network; empty: nothing."""
    parts = [f"{ngram}-grams"] if ngram else []
    return " and ".join([*parts, "word contexts"] if words else parts)


class TrainingConfig(_Section):
    """How long to train, with which optimiser, and how often to evaluate."""

    budget: Annotated[str, BeforeValidator(_refuse_number), AfterValidator(_budget)] = Field(
        "3m", description="how long to train: 3m, 1h30m, 20 epochs, 5000 steps, 10M characters"
    )
    batch_size: int = Field(16, ge=1, le=65536, description="sequences per step (B)")
    sequence_length: int = Field(
        64, ge=1, le=65536, description="characters of a sequence per step, after which gradients are truncated (T)"
    )
    optimizer: Literal["sgd", "rmsprop", "adam", "adamw"] = Field("adamw", description="the optimiser")
    learning_rate: float = Field(4e-3, gt=0, le=1e3, description="the peak learning rate of the schedule")
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum of sgd and rmsprop; 0: none")
    beta2: float = Field(
        0.99, ge=0, lt=1, description="decay of the mean squared gradient of adam, adamw and rmsprop"
    )
    weight_decay: float = Field(
        0.01,
        ge=0,
        le=1e3,
        description="weight decay of adamw on matrices; biases have none, nor has what symbols are looked up in",
    )
    schedule: Literal["linear", "cosine", "constant", "step"] = Field(
        "linear", description="how the learning rate falls over the budget; constant: not at all"
    )
    warmup: float = Field(
        0.05, ge=0, lt=1, description="share of the budget in which the learning rate rises from zero"
    )
    clip_norm: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null: no clipping")
    evaluate_every: Annotated[str, BeforeValidator(_refuse_number), AfterValidator(_interval)] = Field(
        "10%", description="when to validate, write a sample and save: 10% of the budget, 30s, 1 epoch, ..."
    )
    early_stopping: int | None = Field(
        None, ge=1, description="stop after this many evaluations without a better validation loss; null: never"
    )
    keep: int = Field(
        1, ge=1, le=1_000_000, description="how many evaluations keep their checkpoints; 1: the newest only"
    )
    log: Literal["tensorboard", "trackio"] | None = Field(
        None, description="also write losses and samples for this program, into RUN/log; null: for none"
    )
    kernel: Literal["auto", "python", "compiled", "fused"] = Field(
        "auto",
        description="what computes the recurrent layers; python: the equations in PyTorch; compiled: the same in "
        "C, which needs a C compiler; fused: PyTorch's own kernels (LSTM; with CUDA every cell but gru-before); "
        "auto: the fastest on this machine",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="precision of the matrix products in training; weights and sums are always float32; auto: "
        "bfloat16 where the processor multiplies it faster and the layers are large enough to gain",
    )
    seed: int = Field(1, ge=0, lt=2**32, description="the same seed gives the same run")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="the device to compute on; auto: CUDA if it is available, else the CPU"
    )


class SamplingConfig(_Section):
    """The samples that training writes, and the defaults of `charlm sample`."""

    length: int = Field(200, ge=1, le=1_000_000, description="characters of a sample")
    temperature: float = Field(
        0.8, ge=0, le=100, description="divides the logits; 0: always the likeliest character"
    )
    top_k: int | None = Field(None, ge=1, description="draw from the K likeliest characters only")
    top_p: float | None = Field(
        None, gt=0, le=1, description="draw from the fewest characters whose probabilities add up to this"
    )
    min_p: float | None = Field(
        None, ge=0, le=1, description="draw from characters at least this fraction as likely as the likeliest"
    )


class Config(_Section):
    """A valid configuration."""

    corpus: CorpusConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    sampling: SamplingConfig = SamplingConfig()


# Keys of earlier versions, each with what takes its place.
RETIRED = {
    "model.reset": "write model.cell: gru-before for the GRU whose reset gate acts before the recurrent product, "
    "and model.cell: gru for the other",
    "model.forget_bias": "remove it: the bias of the forget gate always starts at 1",
    "model.recurrent_init": "remove it: recurrent matrices always start orthogonal",
    "training.backend": "write training.kernel (auto, python for derived, compiled or fused) and "
    "training.precision (auto, float32 or bfloat16)",
}


def keys() -> Iterator[tuple[str, FieldInfo]]:
    """Yields every dotted key of a configuration and its field, in order."""
    for section, field in Config.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, BaseModel)
        for name, inner in field.annotation.model_fields.items():
            yield f"{section}.{name}", inner


def flatten(config: Config) -> dict[str, Any]:
    """Returns every value of a configuration by its dotted key."""
    dump = config.model_dump()
    return {f"{section}.{key}": value for section, values in dump.items() for key, value in values.items()}


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema of a configuration file, for editors that complete and check YAML."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "charlm configuration"
    return schema
