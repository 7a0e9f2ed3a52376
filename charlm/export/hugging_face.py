"""A network as a folder for Hugging Face transformers, which loads it with `trust_remote_code=True`.

    config.json, generation_config.json, tokenizer_config.json, vocab.json    data
    model.safetensors      the weights under charlm's own names
    *_charlm.py            the code of `hf_files`, which computes with PyTorch
    README.md              the model card

Nothing here needs transformers.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from charlm.export.model_card import render_card
from charlm.export.network import Figures, exported_config, exported_weights
from charlm.language_model import LanguageModel
from charlm.store.tensors import pack_tensors
from charlm.system.files import make_folder, replace_file
from charlm.text.vocabulary import UNKNOWN, Vocabulary

_PADDING_ID = 0  # `<unk>`, or the byte 0, which no text has
CODE = ("configuration_charlm", "modeling_charlm", "tokenization_charlm")


def write_folder(lm: LanguageModel, figures: Figures, path: Path) -> None:
    """Writes the network of a model as a folder, as a whole or not at all.

    Raises:
        InputError: no other runtime has its cell.
        OSError: the folder cannot be written, or is there already.
    """
    code = resources.files("charlm.export.hf_files")
    files = {
        "config.json": _to_json(_config(lm)),
        "generation_config.json": _to_json(_generation_config(lm.vocabulary)),
        "tokenizer_config.json": _to_json(_tokenizer_config(lm.vocabulary)),
        "vocab.json": _to_json(_tokens(lm.vocabulary)),
        "model.safetensors": pack_tensors(exported_weights(lm), {"format": "pt"}),
        "README.md": render_card(lm, figures).encode(),
        **{f"{name}.py": (code / f"{name}.py").read_bytes() for name in CODE},
    }
    with make_folder(path) as folder:
        for name, content in files.items():
            with replace_file(folder / name) as file:
                file.write(content)


def _config(lm: LanguageModel) -> dict[str, Any]:
    config, vocabulary = exported_config(lm), lm.vocabulary
    return {
        "model_type": "charlm",
        "architectures": ["CharlmForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_charlm.CharlmConfig",
            "AutoModelForCausalLM": "modeling_charlm.CharlmForCausalLM",
        },
        "cell": config.cell,
        "vocab_size": len(vocabulary),
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "bias": config.bias,
        "embedding_size": config.embedding_size,
        "output_rank": config.output_rank,
        **_special_ids(vocabulary),
    }


def _special_ids(vocabulary: Vocabulary) -> dict[str, int | None]:
    """Returns what the boundary stands for; in a stream it ends no text, since text goes on behind it."""
    boundary = vocabulary.boundary_id
    end = boundary if vocabulary.framing == "lines" else None
    return {"bos_token_id": boundary, "eos_token_id": end, "pad_token_id": _PADDING_ID}


def _generation_config(vocabulary: Vocabulary) -> dict[str, Any]:
    never = {} if vocabulary.unknown_id is None else {"suppress_tokens": [vocabulary.unknown_id]}
    return {**_special_ids(vocabulary), **never}


def _tokenizer_config(vocabulary: Vocabulary) -> dict[str, Any]:
    unknown = {} if vocabulary.unknown_id is None else {"unk_token": UNKNOWN}
    end = {"eos_token": vocabulary.boundary} if vocabulary.ends_sentences else {}
    return {
        "tokenizer_class": "CharlmTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_charlm.CharlmTokenizer", None]},
        "level": vocabulary.level,
        "framing": vocabulary.framing,
        "normalization": vocabulary.normalization,
        "lowercase": vocabulary.lowercase,
        "bos_token": vocabulary.boundary,
        **end,
        "pad_token": vocabulary.symbols[_PADDING_ID],
        **unknown,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
    }


def _tokens(vocabulary: Vocabulary) -> list[str]:
    """Returns the symbols as tokens; a byte that is no ASCII character is <0xE4>."""
    if vocabulary.level == "character":
        return list(vocabulary.symbols)
    return [chr(byte) if byte < 0x80 else f"<0x{byte:02X}>" for byte in range(256)]


def _to_json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"
