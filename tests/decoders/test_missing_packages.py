"""Without the tool that it is for, an adapter says how to get it."""

import importlib
import sys

import pytest

from charlm.errors import InputError


@pytest.mark.parametrize(("module", "package"), [("pyctcdecode", "pyctcdecode"), ("flashlight", "flashlight-text")])
def test_a_message_names_the_extra(monkeypatch: pytest.MonkeyPatch, module: str, package: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"charlm.decoders.{module}", raising=False)
    with pytest.raises(
        InputError, match=rf"^this decoder needs {package}; run `pip install 'charlm\[decoders\]'`$"
    ):
        importlib.import_module(f"charlm.decoders.{module}")
