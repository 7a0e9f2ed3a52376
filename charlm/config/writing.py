"""From a configuration to YAML, plain or as a manual of every key."""

from __future__ import annotations

import textwrap
from typing import Any

import yaml

from charlm.config.messages import describe_allowed
from charlm.config.schema import Config

LEFT_OUT = "(left out)"
_COMMENT_CHARACTERS = 100  # of a line, at most


def to_yaml(config: Config, *, comments: bool = False) -> str:
    """Writes a configuration as YAML, with `comments` as a manual of every key."""
    sections: list[str] = []
    for section, field in Config.model_fields.items():
        model = getattr(config, section)
        out = [f"{section}:"]
        if comments:
            assert isinstance(field.annotation, type)
            out.insert(0, f"# {(field.annotation.__doc__ or '').strip()}")
        for name, info in type(model).model_fields.items():
            if comments:
                out += _comment(f"{info.description} Allowed: {describe_allowed(info)}.")
            out.append(f"  {name}: {_scalar(getattr(model, name))}")
        sections.append("\n".join(out) + "\n")
    return "\n".join(sections)


def _comment(text: str) -> list[str]:
    """Returns the lines of a comment on a key."""
    return textwrap.wrap(
        text,
        _COMMENT_CHARACTERS,
        initial_indent="  # ",
        subsequent_indent="  # ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def without_paths(config: Config) -> Config:
    """Returns a configuration that does not tell the names of a person's files and folders, for others to see."""
    changes = {
        key: LEFT_OUT
        for key in ("path", "validation", "test")
        if not isinstance(value := getattr(config.corpus, key), float) and not _is_known_corpus(value)
    }
    return config.model_copy(update={"corpus": config.corpus.model_copy(update=changes)})


def _is_known_corpus(paths: str | list[str]) -> bool:
    return all(path.startswith("corpus:") for path in ([paths] if isinstance(paths, str) else paths))


def _scalar(value: Any) -> str:
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    readable = all(text.isprintable() for text in texts)  # else written with escapes
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=readable, width=float("inf")).strip()
    return text.removesuffix("...").strip()
