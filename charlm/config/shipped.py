"""The configurations that come with charlm: `config:NAME` stands for the file `NAME.yaml`."""

from __future__ import annotations

import difflib
from pathlib import Path

from charlm.errors import ConfigError
from charlm.system.files import shipped_folder

_PREFIX = "config:"


def shipped_configs() -> dict[str, str]:
    """Returns the description of each shipped configuration, by name; it is the first line of its file."""
    descriptions = {}
    for path in sorted(shipped_folder("configs").glob("*.yaml")):
        with path.open(encoding="utf-8") as file:
            descriptions[path.stem] = file.readline().removeprefix("#").strip()
    return descriptions


def find_config(source: str | Path) -> Path:
    """Returns the file that a source stands for: that of a shipped configuration for `config:NAME`, else itself.

    Raises:
        ConfigError: there is no such configuration; the message suggests the nearest names.
    """
    if not str(source).startswith(_PREFIX):
        return Path(source)
    name, known = str(source).removeprefix(_PREFIX), shipped_configs()
    if name not in known:
        near = " or ".join(repr(match) for match in difflib.get_close_matches(name, known))
        hint = f"did you mean {near}? The" if near else "the"
        raise ConfigError(f"there is no configuration {name!r}; {hint} known ones are {', '.join(known)}")
    return shipped_folder("configs") / f"{name}.yaml"


def suggest_shipped(missing: Path) -> str:
    """Returns the end of a message on a configuration that is not there: where to get one."""
    if missing.suffix in ("", ".yaml", ".yml") and missing.stem in shipped_configs():
        return f"; to use the configuration of this name that comes with charlm, write `{_PREFIX}{missing.stem}`"
    return "; `charlm config init` prints one to begin with"
