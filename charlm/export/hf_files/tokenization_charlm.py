"""Text as characters or bytes, exported by charlm: normalised as the training text was, one token each."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizer

UNKNOWN = "<unk>"


class CharlmTokenizer(PreTrainedTokenizer):
    """Maps text to symbols and back, for `AutoTokenizer`.

    A text begins with the boundary, the symbol that stands before and after a line of the training text. It is the
    end as well. In framing `stream` it is also an ordinary character, so decoding does not leave it out there.
    Padding is symbol 0, which is `<unk>`, or the byte 0.

    Args:
        vocab_file: a JSON list of the symbols in id order.
        level: `character`, or `byte`, where a byte that is no ASCII character is called <0xE4>.
        framing: `stream` or `lines`.
        normalization: `none`, `nfc` or `nfkc`.
        lowercase: whether text becomes lower case.
        **kwargs: what every tokenizer has.
    """

    vocab_files_names = {"vocab_file": "vocab.json"}  # noqa: RUF012
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(
        self,
        vocab_file: str,
        level: str = "character",
        framing: str = "stream",
        normalization: str = "none",
        lowercase: bool = False,
        **kwargs: Any,
    ) -> None:
        self.level, self.framing = level, framing
        self.normalization, self.lowercase = normalization, lowercase
        self._tokens: list[str] = json.loads(Path(vocab_file).read_text(encoding="utf-8"))
        self._ids = {token: i for i, token in enumerate(self._tokens)}
        super().__init__(level=level, framing=framing, normalization=normalization, lowercase=lowercase, **kwargs)

    @property
    def vocab_size(self) -> int:
        """How many symbols there are."""
        return len(self._tokens)

    def get_vocab(self) -> dict[str, int]:
        """Returns the id of each symbol."""
        return dict(self._ids)

    def normalize(self, text: str) -> str:
        """Returns text as the training text was made."""
        if self.normalization != "none":
            text = unicodedata.normalize("NFC" if self.normalization == "nfc" else "NFKC", text)
        return text.lower() if self.lowercase else text

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        """Cuts a text into its characters or bytes; a newline in a model of lines is no character, but unknown."""
        text = self.normalize(text)
        if self.level == "byte":
            return [self._tokens[byte] for byte in _to_bytes(text)]
        ends = {self.bos_token} if self.framing == "lines" else set()
        return [char if char in self._ids and char not in ends else UNKNOWN for char in text]

    def _convert_token_to_id(self, token: str) -> int | None:
        return self._ids.get(token, self._ids.get(UNKNOWN))

    def _convert_id_to_token(self, index: int) -> str:
        return self._tokens[index]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Returns the symbol of an id, or those of several; special are padding and the boundary between lines."""
        if isinstance(ids, int):
            return self._tokens[ids]
        special = {self.pad_token_id, self.bos_token_id if self.framing == "lines" else None}
        ids = [int(i) for i in ids]
        return [self._tokens[i] for i in ids if not (skip_special_tokens and i in special)]

    def _decode(self, token_ids: Any, skip_special_tokens: bool = False, **kwargs: Any) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        return self.convert_tokens_to_string(self.convert_ids_to_tokens(ids, skip_special_tokens))

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Joins symbols; bytes that are not UTF-8 become U+FFFD."""
        if self.level == "byte":
            return bytes(self._ids[token] for token in tokens).decode("utf-8", "replace")
        return "".join(tokens)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Puts the boundary before a text."""
        return [self.bos_token_id, *token_ids_0, *(token_ids_1 or [])]

    def get_special_tokens_mask(
        self,
        token_ids_0: list[int],
        token_ids_1: list[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """Returns 1 for the boundary before a text, 0 for each of its symbols."""
        rest = len(token_ids_0) + len(token_ids_1 or [])
        return [1] + [0] * (rest - 1 if already_has_special_tokens else rest)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        """Writes the symbols into a folder."""
        path = Path(save_directory) / f"{filename_prefix + '-' if filename_prefix else ''}vocab.json"
        path.write_text(json.dumps(self._tokens), encoding="utf-8")
        return (str(path),)


def _to_bytes(text: str) -> bytes:
    """Encodes as UTF-8; U+DC80 to U+DCFF stand for bytes that were not, other lone surrogates become U+FFFD."""
    replaced = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\N{REPLACEMENT CHARACTER}", text)
    return replaced.encode("utf-8", "surrogateescape")
