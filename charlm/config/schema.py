"""All configuration keys, each with its type, default, bounds and a line of help.

Validation, `charlm config init`, `charlm config schema` and the messages are all made from the four sections below.
A component is given its own section and reads its values from there: a new key is one `Field` and its use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

from charlm.config.amounts import divide_amount, missing_unit, parse_amount
from charlm.system.counts import count_of
from charlm.system.encodings import check_encoding


def _refuse_number(value: Any) -> Any:
    """Says what is missing where YAML reads an amount as a number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(missing_unit(f"{value:.15g}" if 0 < value < 1e15 else "0"))
    return value


def _budget(text: str) -> str:
    if parse_amount(text)[0] == "percent":
        raise ValueError("a budget must be a time or a number of epochs, steps or characters, not a percentage")
    return text


def _interval(text: str) -> str:
    parse_amount(text)
    return text


MAX_HIDDEN_SIZE = 16384  # the bound of the embedding's width and of the output's rank as well
MAX_NETWORKS = 64
MAX_NGRAM_ORDER = 250


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


_Path = Annotated[str, Field(min_length=1)]
_Share = Annotated[float, Field(ge=0, lt=1)]


class CorpusConfig(_Section):
    """The text to train on, and how it is encoded."""

    path: _Path | list[_Path] = Field(
        min_length=1,
        description="The text to train on: a text file, a folder, a glob, a .gz, .bz2, .xz, .zst or .zip file, "
        "`-` for standard input, `corpus:NAME` for a known corpus, or a list of these.",
    )
    encoding: Annotated[str, AfterValidator(check_encoding)] = Field(
        "utf-8",
        description="The encoding of the text, such as gb18030. `auto` reads each file as UTF-8 if it is valid "
        "UTF-8, and otherwise guesses its encoding.",
    )
    strict: bool = Field(
        False,
        description="Whether to refuse files in folders and archives that are not text, such as images. Otherwise "
        "they are skipped.",
    )
    field: Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="The column to read from JSON lines, CSV, TSV or Kaldi text, given by its name or its "
        "number, counted from 1. `null` reads the whole file.",
    )
    framing: Literal["auto", "stream", "lines"] = Field(
        "auto",
        description="How the text is divided: `stream` reads it as one continuous text, `lines` reads each line "
        "as a separate sentence, and `auto` chooses by looking at the text.",
    )
    split: Literal["spread", "tail"] = Field(
        "spread",
        description="Where the validation and test text is taken from: `spread` takes lines or pieces from all "
        "over the text, `tail` takes the end of it.",
    )
    level: Literal["character", "byte"] = Field(
        "character", description="Whether the model predicts characters or bytes."
    )
    validation: _Share | _Path = Field(
        0.1,
        description="The share of the text that is held out to choose the best weights, or a separate file to "
        "use for this.",
    )
    test: _Share | _Path = Field(
        0.0, description="The share of the text that training never uses, or a separate file to use for this."
    )
    normalization: Literal["none", "nfc", "nfkc"] = Field(
        "none",
        description="The Unicode normalisation that is applied to the corpus and to every text that is scored.",
    )
    lowercase: bool = Field(False, description="Whether to convert all text to lower case.")
    min_count: int = Field(
        1,
        ge=1,
        description="Characters that occur fewer times than this in the training text are replaced by <unk>.",
    )
    max_line_length: int | None = Field(
        None,
        ge=1,
        description="In lines framing, skip lines that have more characters than this. `null` skips none.",
    )


class ModelConfig(_Section):
    """The network: one-hot input, recurrent layers, softmax output."""

    cell: Literal["rnn", "lstm", "gru", "gru-before"] = Field(
        "lstm",
        description="The recurrent cell. `gru` applies its reset gate after the recurrent product, as PyTorch "
        "does. `gru-before` applies it to the state before the product, as Cho et al. do.",
    )
    hidden_size: int = Field(256, ge=1, le=MAX_HIDDEN_SIZE, description="The number of units in each layer (H).")
    num_layers: int = Field(
        1, ge=1, le=16, description="The number of recurrent layers, each above the one before (L)."
    )
    bias: bool = Field(True, description="Whether the cells and the output layer have biases.")
    embedding_size: int | None = Field(
        None,
        ge=1,
        le=MAX_HIDDEN_SIZE,
        description="The size of the embedding through which the input passes. `null` feeds one-hot vectors to "
        "the first layer.",
    )
    output_rank: int | None = Field(
        None,
        ge=1,
        le=MAX_HIDDEN_SIZE,
        description="The rank of the output matrix, which is then the product of two smaller matrices. `null` "
        "uses one full matrix.",
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="The dropout probability between layers and before the output layer."
    )
    recurrent_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="The dropout probability of the recurrent weights W; a new mask is drawn for each window.",
    )
    ngram: int | None = Field(
        None,
        ge=2,
        le=MAX_NGRAM_ORDER,
        description="The order of an n-gram model that is mixed with the network; counting it takes seconds. "
        "`null` mixes in no n-gram model.",
    )
    words: bool = Field(
        False,
        description="Whether to mix in a model that predicts how a word continues from its beginning and the "
        "words before it. It suits languages that put spaces between words.",
    )
    networks: int = Field(
        1,
        ge=1,
        le=MAX_NETWORKS,
        description="The number of networks that are trained one after the other, each from another seed and with "
        "an equal share of the budget. Their predictions are multiplied (an ensemble).",
    )

    @property
    def layers(self) -> str:
        """The recurrent layers, in words: `LSTM with 2 layers of 128 units`."""
        number = "" if self.num_layers == 1 else f"{self.num_layers} layers of "
        return f"{self.cell.upper()} with {number}{self.hidden_size} units"

    @property
    def mixed_in(self) -> str:
        """What is mixed with the network, in words; empty: nothing."""
        return describe_mixture(self.ngram, self.words, self.networks)


def describe_mixture(ngram: int | None, words: bool, networks: int) -> str:
    """Says what `model.ngram`, `model.words` and `model.networks` mix with a network; empty: nothing."""
    parts = [f"{ngram}-grams"] if ngram else []
    parts += ["word contexts"] if words else []
    parts += [count_of(networks - 1, "further network")] if networks > 1 else []
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


class TrainingConfig(_Section):
    """How long to train, with which optimiser, and how often to evaluate."""

    budget: Annotated[str, BeforeValidator(_refuse_number), AfterValidator(_budget)] = Field(
        "3m", description="How long to train, for example 3m, 1h30m, 20 epochs, 5000 steps or 10M characters."
    )
    batch_size: int = Field(16, ge=1, le=65536, description="The number of sequences in each step (B).")
    sequence_length: int = Field(
        64,
        ge=1,
        le=65536,
        description="The number of characters of each sequence that a step reads, after which the gradient is "
        "truncated (T).",
    )
    optimizer: Literal["sgd", "rmsprop", "adam", "adamw"] = Field("adamw", description="The optimiser.")
    learning_rate: float = Field(4e-3, gt=0, le=1e3, description="The highest learning rate of the schedule.")
    momentum: float = Field(0.0, ge=0, lt=1, description="The momentum of sgd and rmsprop. 0 means none.")
    beta2: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="The decay rate of the running mean of squared gradients in adam, adamw and rmsprop.",
    )
    weight_decay: float = Field(
        0.01,
        ge=0,
        le=1e3,
        description="The weight decay that adamw applies to matrices. Biases and the input table (the embedding "
        "or one-hot weights) are not decayed.",
    )
    schedule: Literal["linear", "cosine", "constant", "step"] = Field(
        "linear", description="How the learning rate falls over the budget. `constant` keeps it unchanged."
    )
    warmup: float = Field(
        0.05, ge=0, lt=1, description="The share of the budget during which the learning rate rises from zero."
    )
    clip_norm: float | None = Field(
        1.0,
        gt=0,
        description="The largest allowed norm of the gradient; a larger gradient is scaled down. `null` does not "
        "clip.",
    )
    evaluate_every: Annotated[str, BeforeValidator(_refuse_number), AfterValidator(_interval)] = Field(
        "10%",
        description="How often to measure the validation loss, write a sample and save, for example 10% of the "
        "budget, 30s or 1 epoch.",
    )
    early_stopping: int | None = Field(
        None,
        ge=1,
        description="Stop after this many evaluations in a row without a better validation loss. `null` never "
        "stops early.",
    )
    keep: int = Field(
        1,
        ge=1,
        le=1_000_000,
        description="The number of evaluations whose checkpoints are kept. 1 keeps only the newest.",
    )
    log: Literal["tensorboard", "trackio"] | None = Field(
        None,
        description="Also write the losses and samples to RUN/log in the format of this program. `null` does not.",
    )
    kernel: Literal["auto", "python", "compiled", "fused"] = Field(
        "auto",
        description="What computes the recurrent layers: `python` uses the equations in PyTorch, `compiled` uses "
        "the same equations in C and needs a C compiler, `fused` uses PyTorch's own kernels (for the LSTM, and "
        "with CUDA for every cell except gru-before), and `auto` chooses the fastest on this machine.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="The precision of matrix products in training; weights and sums are always float32. `auto` "
        "uses bfloat16 where the processor multiplies it faster and the layers are large enough to benefit.",
    )
    seed: int = Field(
        1, ge=0, lt=2**32, description="The seed of the random numbers. The same seed gives the same run."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="The device to compute on. `auto` uses CUDA if it is available and otherwise the CPU."
    )


class SamplingConfig(_Section):
    """The samples that training writes, and the defaults of `charlm sample`."""

    length: int = Field(200, ge=1, le=1_000_000, description="The number of characters of a sample.")
    temperature: float = Field(
        0.8,
        ge=0,
        le=100,
        description="The number by which the logits are divided. 0 always chooses the most probable character.",
    )
    top_k: int | None = Field(None, ge=1, description="Draw only from the K most probable characters.")
    top_p: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Draw only from the smallest set of most probable characters whose probabilities sum to at "
        "least this.",
    )
    min_p: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Draw only from characters whose probability is at least this fraction of that of the most "
        "probable character.",
    )


class Config(_Section):
    """A valid configuration."""

    corpus: CorpusConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    sampling: SamplingConfig = SamplingConfig()

    @property
    def training_of_each(self) -> TrainingConfig:
        """The `training` section with the share of the budget that each of the networks has."""
        budget = divide_amount(self.training.budget, self.model.networks)
        return self.training.model_copy(update={"budget": budget})


# Keys of earlier versions, each with what takes its place.
RETIRED = {
    "model.reset": "set model.cell: gru-before for the GRU whose reset gate acts before the recurrent product, "
    "or model.cell: gru for the one whose reset gate acts after it",
    "model.forget_bias": "remove it: the bias of the forget gate always starts at 1",
    "model.recurrent_init": "remove it: recurrent matrices always start orthogonal",
    "training.backend": "set training.kernel (auto, python for derived, compiled or fused) and "
    "training.precision (auto, float32 or bfloat16) instead",
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
