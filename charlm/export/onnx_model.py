"""A network as one ONNX file, which scores and writes: one graph, and what its readers have to know as metadata.

    ids, targets  int64 (B, T)      s, c  float32 (L, B, H), zero before a text; c for the LSTM alone

    x_t = one-hot(ids_t), or row ids_t of the embedding                   (T, B, V) or (T, B, K)
    s_t = the layers, each one RNN, LSTM or GRU of ONNX                   (T, B, H)
    log_probs = log softmax(V_o s_t + b_o), with a factored output V_o P s_t       (B, T, V)
    target_log_probs = log_probs at the targets                           (B, T)
    s_last, c_last = the states after the last step                       (L, B, H)

With T = 1 that is a step. One graph serves scoring and writing, so that the weights are stored and loaded once; who
writes gives any targets, and who scores does not fetch `log_probs`, which are large.

ONNX orders gates as i o f c and z r h where we have i f g o and r z n. Its GRU has both forms of the reset gate:
with `linear_before_reset` 1 it is our `gru`, with 0 our `gru-before`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlm import __version__
from charlm.config import ModelConfig
from charlm.errors import InputError
from charlm.export.network import Figures, describe_text, exported_config, exported_weights
from charlm.language_model import LanguageModel
from charlm.system.files import replace_file

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Array = NDArray[Any]

FORMAT = 1  # of inputs, outputs and metadata; a reader can tell by it whether it understands a file
METADATA = "charlm"  # the name of the metadata, a JSON object

MAX_BYTES = 2_000_000_000  # of the weights in a file, with room for what stands around them: protobuf ends at 2 GiB

_OPSET, _IR_VERSION = 17, 8  # of 2022, which every runtime of today reads
_OPERATORS: dict[str, tuple[str, tuple[int, ...], dict[str, int]]] = {  # the blocks of our rows in ONNX's order
    "rnn": ("RNN", (0,), {}),
    "lstm": ("LSTM", (0, 3, 1, 2), {}),
    "gru": ("GRU", (1, 0, 2), {"linear_before_reset": 1}),
    "gru-before": ("GRU", (1, 0, 2), {"linear_before_reset": 0}),
}


def check_onnx() -> None:
    """Checks that the package onnx is there.

    Raises:
        InputError: it is not installed.
    """
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise InputError("the export to ONNX needs the package onnx; run `pip install 'charlm[onnx]'`") from None


def write_onnx(lm: LanguageModel, figures: Figures, path: Path) -> None:
    """Writes the network of a model as an ONNX file, as a whole or not at all.

    Raises:
        InputError: no other runtime has its cell, it is too large for one file, or onnx is not installed.
        OSError: the file cannot be written.
    """
    content = make_onnx(lm, figures).SerializeToString(deterministic=True)
    with replace_file(path) as file:
        file.write(content)


def make_onnx(lm: LanguageModel, figures: Figures, *, max_bytes: int = MAX_BYTES) -> ModelProto:
    """Returns the network of a model as ONNX, checked by its own checker.

    Args:
        lm: the model.
        figures: for the metadata.
        max_bytes: the weights may take.

    Raises:
        InputError: see `write_onnx`.
    """
    check_onnx()
    import onnx
    from onnx import helper

    config, weights = exported_config(lm), exported_weights(lm)
    size = sum(value.nbytes for value in weights.values())
    if size > max_bytes:
        raise InputError(f"{lm.folder}: the weights take {size:,} bytes, and an ONNX file holds {max_bytes:,}")
    V, H, L = len(lm.vocabulary), config.hidden_size, config.num_layers
    states = ("s", "c") if config.cell == "lstm" else ("s",)
    constants, nodes = _build(config, weights, states, V)
    integers, floats = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "charlm",
        [
            *(helper.make_tensor_value_info(name, integers, ["batch", "length"]) for name in ("ids", "targets")),
            *(helper.make_tensor_value_info(name, floats, [L, "batch", H]) for name in states),
        ],
        [
            helper.make_tensor_value_info("log_probs", floats, ["batch", "length", V]),
            helper.make_tensor_value_info("target_log_probs", floats, ["batch", "length"]),
            *(helper.make_tensor_value_info(f"{name}_last", floats, [L, "batch", H]) for name in states),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph,
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        producer_name="charlm",
        producer_version=__version__,
        doc_string="log_probs[b, t]: log-probabilities (nats) of what follows ids[b, t]; target_log_probs[b, t]: "
        "that of targets[b, t]. States are zero before a text.",
    )
    helper.set_model_props(model, {METADATA: json.dumps(_describe(lm, config, figures))})
    onnx.checker.check_model(model, full_check=True)
    return model


def _describe(lm: LanguageModel, config: ModelConfig, figures: Figures) -> dict[str, Any]:
    """Returns the metadata, see docs/explanation/export.md."""
    return {
        "format": FORMAT,
        "charlm": __version__,
        "cell": config.cell,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
        **describe_text(lm),
        "nats_per_character": figures.network,
        "mixture_nats_per_character": figures.mixture,
        "measured_on": figures.text,
    }


def _build(
    config: ModelConfig, weights: Mapping[str, Array], states: tuple[str, ...], V: int
) -> tuple[dict[str, Array], list[NodeProto]]:
    """Returns the constants of the graph by name, and its nodes in order."""
    from onnx import helper

    operator, order, attributes = _OPERATORS[config.cell]
    constants: dict[str, Array] = {"second_axis": np.array([1]), "last_axis": np.array([-1])}
    nodes: list[NodeProto] = []

    def add(kind: str, inputs: list[str], outputs: list[str], **settings: Any) -> None:
        nodes.append(helper.make_node(kind, inputs, outputs, "_".join([kind, outputs[0]]), **settings))

    add("Transpose", ["ids"], ["ids_by_time"], perm=[1, 0])  # (T, B)
    if "embedding.weight" in weights:
        constants["E"] = weights["embedding.weight"]
        add("Gather", ["E", "ids_by_time"], ["x_0"])  # (T, B, K)
    else:
        constants |= {"V": np.array(V), "off_and_on": np.array([0, 1], np.float32)}
        add("OneHot", ["ids_by_time", "V", "off_and_on"], ["x_0"])  # (T, B, V)
    for layer in range(config.num_layers):
        U, W, b, last = f"U_{layer}", f"W_{layer}", "", [f"{name}_{layer}_last" for name in states]
        constants[U] = _reorder(weights[f"recurrent.weight_ih_l{layer}"], order)[None]  # (1, G·H, ·)
        constants[W] = _reorder(weights[f"recurrent.weight_hh_l{layer}"], order)[None]  # (1, G·H, H)
        if config.bias:
            b = f"b_{layer}"
            both = (weights[f"recurrent.{name}_l{layer}"] for name in ("bias_ih", "bias_hh"))
            constants[b] = np.concatenate([_reorder(bias, order) for bias in both])[None]  # (1, 2·G·H)
        constants[f"layer_{layer}"] = np.array([layer])
        for name in states:
            add("Gather", [name, f"layer_{layer}"], [f"{name}_{layer}"], axis=0)  # (1, B, H)
        inputs = [f"x_{layer}", U, W, b, "", *(f"{name}_{layer}" for name in states)]
        add(operator, inputs, [f"y_{layer}", *last], hidden_size=config.hidden_size, **attributes)
        add("Squeeze", [f"y_{layer}", "second_axis"], [f"x_{layer + 1}"])  # (T, 1, B, H) → (T, B, H)
    for name in states:
        add("Concat", [f"{name}_{layer}_last" for layer in range(config.num_layers)], [f"{name}_last"], axis=0)
    features = "features"
    add("Transpose", [f"x_{config.num_layers}"], [features], perm=[1, 0, 2])  # (B, T, H)
    if "projection.weight" in weights:
        constants["P_transposed"] = weights["projection.weight"].T
        add("MatMul", [features, "P_transposed"], ["projected"])  # (B, T, R)
        features = "projected"
    constants["V_o_transposed"] = weights["output.weight"].T
    logits = "logits"
    add("MatMul", [features, "V_o_transposed"], [logits])  # (B, T, V)
    if config.bias:
        constants["b_o"] = weights["output.bias"]
        add("Add", [logits, "b_o"], ["biased_logits"])
        logits = "biased_logits"
    add("LogSoftmax", [logits], ["log_probs"], axis=-1)
    add("Unsqueeze", ["targets", "last_axis"], ["targets_at"])  # (B, T, 1)
    add("GatherElements", ["log_probs", "targets_at"], ["target_log_probs_at"], axis=2)
    add("Squeeze", ["target_log_probs_at", "last_axis"], ["target_log_probs"])  # (B, T)
    return {name: np.ascontiguousarray(value) for name, value in constants.items()}, nodes


def _reorder(rows: Array, order: tuple[int, ...]) -> Array:
    """Returns blocks of G·H rows in another order."""
    blocks = np.split(rows, len(order))
    return np.concatenate([blocks[block] for block in order])
