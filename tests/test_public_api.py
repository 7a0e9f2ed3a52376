"""The public names are the ones that `__all__` lists, they are explained, and reaching for the package is cheap."""

import __future__

import importlib
import importlib.util
import inspect
import pkgutil
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import charlm


def test_every_public_name_can_be_had():
    for name in charlm.__all__:
        assert getattr(charlm, name) is not None


def test_the_list_of_public_names_is_sorted_and_names_none_twice():
    assert charlm.__all__ == sorted(set(charlm.__all__))


def test_every_public_attribute_is_listed():
    for name in charlm.__all__:
        getattr(charlm, name)  # names that come when they are asked for are here now
    found = {
        name
        for name, value in vars(charlm).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    helpers = {name for name in found if hasattr(typing, name) or hasattr(__future__, name)}
    assert found - helpers == set(charlm.__all__) - {"__version__"}


def test_dir_shows_the_public_names():
    assert dir(charlm) == charlm.__all__


def test_a_star_import_gives_the_public_names():
    names: dict[str, Any] = {}
    exec("from charlm import *", names)
    assert set(names) - {"__builtins__"} == set(charlm.__all__)


def test_a_public_name_is_the_same_object_as_in_its_module():
    from charlm.language_model import LanguageModel, load
    from charlm.run import train
    from charlm.scoring import evaluation, measures

    assert (charlm.LanguageModel, charlm.load, charlm.train) == (LanguageModel, load, train)
    assert (charlm.Score, charlm.CharacterScore) == (measures.Score, measures.CharacterScore)
    assert charlm.Evaluation is evaluation.Evaluation


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="'charlm' has no attribute 'trian'"):
        _ = charlm.trian


def loaded_after(code: str) -> set[str]:
    """The modules that a fresh Python has loaded after some code."""
    code += "\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_neither_torch_nor_numpy():
    assert loaded_after("import charlm; charlm.CharlmError; charlm.__version__; dir(charlm)").isdisjoint(
        {"torch", "numpy", "pydantic", "yaml"}
    )


@pytest.mark.parametrize("module", ["charlm.config", "charlm.text.corpus", "charlm.text.batches", "charlm.cli"])
def test_what_a_command_needs_before_it_starts_does_not_import_torch(module: str):
    assert "torch" not in loaded_after(f"import {module}")


def test_the_package_says_that_it_is_typed():
    assert (Path(charlm.__file__).parent / "py.typed").is_file()


def test_the_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert charlm.__version__ == version("charlm")


def test_every_error_is_a_charlm_error_with_an_exit_code():
    errors = [e for e in map(vars(charlm).get, charlm.__all__) if isinstance(e, type) and issubclass(e, Exception)]
    assert len(errors) == 7
    for error in errors:
        assert issubclass(error, charlm.CharlmError)
        assert error.exit_code == (2 if issubclass(error, charlm.InputError) else 1)
    assert charlm.Interrupted(15, "stopped").exit_code == 143


# --- explanations ---------------------------------------------------------------------------------


def public_objects() -> Iterator[tuple[str, Any]]:
    """Every public class and function, and the public methods and properties that a class itself defines."""
    for name in charlm.__all__:
        value = getattr(charlm, name)
        if not callable(value):
            continue
        yield name, value
        for member, inner in vars(value).items() if isinstance(value, type) else ():
            inner = inner.__func__ if isinstance(inner, (classmethod, staticmethod)) else inner
            if not member.startswith("_") and (inspect.isfunction(inner) or isinstance(inner, property)):
                yield f"{name}.{member}", inner


def test_every_public_object_and_method_has_a_docstring():
    found = dict(public_objects())
    assert {"LanguageModel.score", "LanguageModel.sample", "train", "Score"} <= set(found)
    bare = [name for name, value in found.items() if not (value.__doc__ or "").strip()]
    assert bare == []


def test_a_docstring_of_a_public_record_explains_each_field():
    for name in ("Score", "CharacterScore", "Evaluation"):
        cls = getattr(charlm, name)
        explained = cls.__doc__.partition("Attributes:")[2]
        assert [field for field in cls.__annotations__ if f"    {field}: " not in explained] == []


@pytest.mark.parametrize("name", ["load", "train", "LanguageModel.score", "LanguageModel.sample"])
def test_every_parameter_of_the_entry_points_has_a_type(name: str):
    function = dict(public_objects())[name]
    signature = inspect.signature(function)
    untyped = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name != "self"]
    assert untyped == []
    assert signature.return_annotation is not signature.empty


@pytest.mark.parametrize("name", ["load", "train"])
def test_the_docstrings_of_load_and_train_explain_each_parameter(name: str):
    function = getattr(charlm, name)
    missing = [
        p for p in inspect.signature(function).parameters if f"\n        {p}: " not in (function.__doc__ or "")
    ]
    assert missing == []


def test_every_module_says_what_it_is():
    names = [
        "charlm",
        *(m.name for m in pkgutil.walk_packages(charlm.__path__, "charlm.") if "__main__" not in m.name),
    ]
    if importlib.util.find_spec("lm_eval") is None:
        names.remove("charlm.lm_eval.model")
    bare = [name for name in names if not (importlib.import_module(name).__doc__ or "").strip()]
    assert len(names) > 20
    assert bare == []
