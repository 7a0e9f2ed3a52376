"""The network as JSON for the page: its weights in fewer bits, its vocabulary, and a filter of its training text.

`assets/model.js` reads it. The two agree on this:

    matrices    int8, each row with a scale of its own: w ≈ scale · q, q from -127 to 127; or float16, where all
                weights together then take less than a megabyte. Neither costs anything on a whole text, but int8
                moves the price of a character by 0.006 nats, up or down, float16 by 0.0001 (benchmarks/page.py):
                with it the page shows what `charlm score` prints, and for that a megabyte is not too much.
    U           of the first layer is transposed when its input is one-hot: its rows are then looked up by symbol
    bytes       little-endian, in base64
    copied      a Bloom filter (Bloom 1970) of runs of 21 - k characters of the training text, from every k-th
                place, k from 1 to 5, as small as the size of the filter allows. Any 20 characters in a row of that
                text hold such a run whole, so what was copied is found, and what is found has 21 - k characters in
                a row from the training text, but for false alarms, whose rate is given.

The page has the network alone: n-grams stay behind.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charlm.config import ModelConfig
from charlm.errors import InputError
from charlm.experts.mixture import Mixture
from charlm.experts.network import NetworkExpert
from charlm.language_model import LanguageModel
from charlm.model.inference import InferenceNetwork
from charlm.text.corpus import Split
from charlm.text.vocabulary import Ids, Vocabulary, code_points

Array = NDArray[Any]
Format = Literal["int8", "float16"]

CELLS = ("rnn", "lstm", "gru", "gru-before")  # those that model.js has
FLOAT16_BYTES = 1_000_000  # weights that take less than this in float16 are stored so
FILTER_BYTES = 512 << 10  # a filter takes no more

_COPIED_CHARACTERS = 20  # in a row, which must be found
_MAX_STEP_CHARACTERS = 5
_WANTED_BITS = 20  # for each run in the filter: one false alarm in 15,000 places
_NEEDED_BITS = 16  # one in 2,000; a text that is too long for so many has no filter
_HASHES = ((0x811C9DC5, 0x01000193), (0x9E3779B9, 0x85EBCA6B))  # where each begins, and what it multiplies by
_UNKNOWN_CODE_POINT = 0x110000  # no character has it


@dataclass(frozen=True)
class NetworkData:
    """A network for the page.

    Attributes:
        json: what `charlm.load` of model.js takes, in ASCII; to stand in a page, its `<` must be escaped.
        bytes: of the weights, before base64.
        format: of the matrices.
    """

    json: str
    bytes: int
    format: Format


@dataclass(frozen=True)
class _Matrix:
    """A matrix in fewer bits, shape (rows, columns).

    Attributes:
        values: int8 or float16.
        scales: of each row, shape (rows,); None for float16.
    """

    values: Array
    scales: Array | None

    @property
    def bytes(self) -> int:
        return self.values.nbytes + (0 if self.scales is None else self.scales.nbytes)

    def dequantized(self) -> NDArray[np.float32]:
        """Returns in float32 what the page computes with."""
        values = self.values.astype(np.float32)
        return values if self.scales is None else values * self.scales[:, None]

    def to_json(self) -> dict[str, Any]:
        rows, columns = self.values.shape
        scales = None if self.scales is None else _base64(self.scales)
        return {"rows": rows, "columns": columns, "scales": scales, "values": _base64(self.values)}


def pack_network(
    lm: LanguageModel,
    training: Split | None,
    *,
    float16_bytes: int = FLOAT16_BYTES,
    filter_bytes: int = FILTER_BYTES,
) -> NetworkData:
    """Packs the network of a model, and what the page needs to read and write with it.

    Args:
        lm: the model.
        training: the text that the page is to find copied; None: it cannot know.
        float16_bytes: weights that take less than this in float16 are stored so; others are int8.
        filter_bytes: what the filter of the training text may take.

    Raises:
        InputError: the page does not have this cell.
    """
    vocabulary, config = lm.vocabulary, _model_config(lm)
    matrices, vectors, number_format = _pack(lm, float16_bytes)
    layers = []
    for layer in range(config.num_layers):
        vector = {name: vectors.get(f"recurrent.{name}_l{layer}") for name in ("bias_ih", "bias_hh")}
        layers.append(
            {
                "U": matrices[f"recurrent.weight_ih_l{layer}"].to_json(),
                "W": matrices[f"recurrent.weight_hh_l{layer}"].to_json(),
                **{name: None if value is None else _base64(value) for name, value in vector.items()},
            }
        )
    embedding, projection = matrices.get("embedding.weight"), matrices.get("projection.weight")
    bias = vectors.get("output.bias")
    data = {
        "cell": config.cell,
        "hiddenSize": config.hidden_size,
        "format": number_format,
        "vocabulary": {
            "symbols": [_name_of_symbol(vocabulary, i) for i in range(len(vocabulary))],
            "boundary": vocabulary.boundary_id,
            "unknown": vocabulary.unknown_id,
            "framing": vocabulary.framing,
            "level": vocabulary.level,
            "normalization": vocabulary.normalization,
            "lowercase": vocabulary.lowercase,
            "endsSentences": vocabulary.ends_sentences,
            "unseenCharacters": vocabulary.unseen_characters,
        },
        "embedding": None if embedding is None else embedding.to_json(),
        "layers": layers,
        "projection": None if projection is None else projection.to_json(),
        "output": matrices["output.weight"].to_json(),
        "outputBias": None if bias is None else _base64(bias),
        "copied": None if training is None else _make_filter(vocabulary, training, filter_bytes),
    }
    size = sum(matrix.bytes for matrix in matrices.values()) + sum(vector.nbytes for vector in vectors.values())
    return NetworkData(json.dumps(data, separators=(",", ":")), size, number_format)


def with_dequantized_weights(lm: LanguageModel, *, float16_bytes: int = FLOAT16_BYTES) -> LanguageModel:
    """Returns the network of a model alone, on the very weights that the page has.

    Args:
        lm: the model.
        float16_bytes: see `pack_network`.

    Raises:
        InputError: the page does not have this cell.
    """
    matrices, vectors, _ = _pack(lm, float16_bytes)
    weights: dict[str, Array] = {**vectors}
    for name, matrix in matrices.items():
        dequantized = matrix.dequantized()
        weights[name] = np.ascontiguousarray(dequantized.T) if _is_transposed(name, matrices) else dequantized
    network = NetworkExpert(InferenceNetwork(_model_config(lm), weights))
    return LanguageModel(replace(lm.trained, mixture=Mixture(network)))


def _model_config(lm: LanguageModel) -> ModelConfig:
    network = lm.mixture.network
    config = network.network.config if isinstance(network, NetworkExpert) else lm.config.model
    if config.cell not in CELLS:
        raise InputError(f"the page has no cell {config.cell!r}; it has {', '.join(CELLS)}")
    return config


def _pack(lm: LanguageModel, float16_bytes: int) -> tuple[dict[str, _Matrix], dict[str, Array], Format]:
    """Returns matrices and biases by the names of `weight_shapes`, and the format of the matrices."""
    _model_config(lm)
    weights = {name: np.asarray(value, np.float32) for name, value in lm.mixture.network.arrays().items()}
    vectors = {name: value.astype("<f4") for name, value in weights.items() if value.ndim == 1}
    given = {name: value for name, value in weights.items() if value.ndim == 2}
    size = 2 * sum(value.size for value in given.values()) + sum(value.nbytes for value in vectors.values())
    fits = max(np.abs(value).max(initial=0) for value in given.values()) <= np.finfo(np.float16).max
    number_format: Format = "float16" if size < float16_bytes and fits else "int8"
    matrices = {}
    for name, value in given.items():
        rows = value.T if _is_transposed(name, given) else value
        matrices[name] = _Matrix(rows.astype("<f2"), None) if number_format == "float16" else _to_int8(rows)
    return matrices, vectors, number_format


def _is_transposed(name: str, weights: dict[str, Any]) -> bool:
    return name == "recurrent.weight_ih_l0" and "embedding.weight" not in weights


def _to_int8(matrix: NDArray[np.float32]) -> _Matrix:
    scales = (np.abs(matrix).max(1) / 127).astype("<f4")  # (rows,)
    divisors = np.where(scales > 0, scales, 1)  # of a row of zeros, or of numbers that are next to nothing
    quotients = np.rint(matrix / divisors[:, None])
    return _Matrix(np.clip(quotients, -127, 127).astype(np.int8), scales)


def _base64(array: Array) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _name_of_symbol(vocabulary: Vocabulary, symbol_id: int) -> str:
    """Returns the character; of a byte that is none by itself, its number as in Python's `bytes`: \\xe4."""
    if vocabulary.level == "byte" and symbol_id >= 0x80:
        return f"\\x{symbol_id:02x}"
    return vocabulary.symbols[symbol_id]


# --------------------------------------------------------------------------------- what stands in the training text


def _make_filter(vocabulary: Vocabulary, training: Split, max_bytes: int) -> dict[str, Any] | None:
    """Returns a Bloom filter of the runs of a text; None if the text is too long for it.

    The k places of a run in the filter come from two hashes (Kirsch and Mitzenmacher 2006):

        place_i = (h_1 + i h_2 mod 2^32) mod m,  i = 0 … k - 1,  m bits
    """
    # 20 characters have `step` runs of 21 - step, and one of them stands at a multiple of it.
    for step in range(1, _MAX_STEP_CHARACTERS + 1):
        if _NEEDED_BITS * training.characters / step <= 8 * max_bytes:
            break
    else:
        return None
    length = _COPIED_CHARACTERS + 1 - step
    texts = [_code_points(vocabulary, part) for part in training.sequences()]
    runs = np.unique(np.concatenate([_hash_runs(text, step, length) for text in texts]))
    bits = max(8, min(8 * max_bytes, _WANTED_BITS * len(runs) + -_WANTED_BITS * len(runs) % 8))
    hashes = round(math.log(2) * bits / len(runs)) if len(runs) else 1
    first, second = (runs >> np.uint64(32)).astype(np.uint32), runs.astype(np.uint32)
    is_set = np.zeros(bits, np.bool_)
    for i in range(hashes):
        is_set[(first + np.uint32(i) * second) % np.uint32(bits)] = True
    return {
        "run": length,
        "bits": bits,
        "hashes": hashes,
        "falseAlarms": float(is_set.mean() ** hashes),  # for each place of a text that was never seen
        "data": _base64(np.packbits(is_set, bitorder="little")),
    }


def _code_points(vocabulary: Vocabulary, ids: Ids) -> NDArray[np.uint32]:
    if vocabulary.level == "byte":
        text = ids.astype(np.uint8).tobytes().decode("utf-8", "surrogateescape")
        return code_points(text).astype(np.uint32)
    table = [_UNKNOWN_CODE_POINT, *map(ord, vocabulary.characters)]
    return np.array(table, np.uint32)[ids]


def _hash_runs(text: NDArray[np.uint32], step: int, length: int) -> NDArray[np.uint64]:
    """Returns two hashes of the run that begins at every so many places, h_1 · 2^32 + h_2.

    Each is FNV-1a over code points (Fowler, Noll and Vo), and then the finaliser of MurmurHash3 (Appleby).
    """
    starts = np.arange(0, len(text) - length + 1, step)
    both = []
    for basis, prime in _HASHES:
        h = np.full(len(starts), basis, np.uint32)
        for k in range(length):
            h = (h ^ text[starts + k]) * np.uint32(prime)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
        both.append(h ^ (h >> np.uint32(16)))
    return (both[0].astype(np.uint64) << np.uint64(32)) | both[1]
