"""Configurations: what they may say, how they are read, checked and written, and how one is chosen. No torch."""

from charlm.config.amounts import parse_amount
from charlm.config.messages import list_changes
from charlm.config.reading import change_section, load_config, parse_assignment
from charlm.config.schema import (
    MAX_HIDDEN_SIZE,
    Config,
    CorpusConfig,
    ModelConfig,
    SamplingConfig,
    TrainingConfig,
    flatten,
    json_schema,
    keys,
)
from charlm.config.shipped import shipped_configs
from charlm.config.writing import to_yaml

__all__ = [
    "MAX_HIDDEN_SIZE",
    "Config",
    "CorpusConfig",
    "ModelConfig",
    "SamplingConfig",
    "TrainingConfig",
    "change_section",
    "flatten",
    "json_schema",
    "keys",
    "list_changes",
    "load_config",
    "parse_amount",
    "parse_assignment",
    "shipped_configs",
    "to_yaml",
]
