"""A key of an earlier version is refused by a message that names what takes its place, and that works."""

from typing import Any

import pytest

from charlm.config import keys, load_config
from charlm.config.schema import RETIRED
from charlm.errors import ConfigError

CORPUS = {"corpus": {"path": "text.txt"}}
# Of each key: what it was set to, what the message names, and what to write instead.
INSTEAD: dict[str, tuple[Any, list[str], dict[str, Any]]] = {
    "model.reset": ("before", ["model.cell: gru-before", "model.cell: gru "], {"model.cell": "gru-before"}),
    "model.forget_bias": (1.0, ["remove it", "starts at 1"], {}),
    "model.recurrent_init": ("orthogonal", ["remove it", "orthogonal"], {}),
    "training.backend": (
        "derived",
        ["training.kernel (auto, python for derived, compiled or fused)", "training.precision"],
        {"training.kernel": "python", "training.precision": "float32"},
    ),
}


def test_every_retired_key_is_looked_at_and_none_of_them_is_a_key() -> None:
    assert set(INSTEAD) == set(RETIRED)
    assert not set(RETIRED) & {name for name, _ in keys()}


@pytest.mark.parametrize("key", INSTEAD)
@pytest.mark.parametrize("as_override", [True, False], ids=["override", "file"])
def test_a_retired_key_is_refused_by_a_message_that_names_the_way_out(key: str, as_override: bool) -> None:
    value, named, instead = INSTEAD[key]
    section, name = key.split(".")
    sections, overrides = (CORPUS, {key: value}) if as_override else ({**CORPUS, section: {name: value}}, {})
    with pytest.raises(ConfigError) as refused:
        load_config(sections, overrides)
    message = str(refused.value)
    assert f"{key}: this key no longer exists; " in message
    assert all(words in message for words in named)
    assert "did you mean" not in message
    load_config(CORPUS, instead)
