"""The models people know, one file each: sizes, recipe, wiring, names. Listing them imports none of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from polyhead.errors import ConfigError, did_you_mean
from polyhead.weights.config_keys import Keys
from polyhead.weights.names import Names

#  config.json's `architectures` entry -> the module of this package that builds it
ARCHITECTURES = {
    "MarianMTModel": "marian",
}
TRANSLATOR = "MarianMTModel"  # what a translation recipe trains unless it says otherwise


@dataclass(frozen=True)
class Family:
    """What loading and saving need to know of one kind of model."""

    architecture: str
    model_type: str
    config: Callable[[], Any]
    keys: Keys
    names: Callable[[Any], Names]
    build: Callable[[Any], nn.Module]


def family(architecture: str) -> Family:
    """The family that builds a model named so in config.json's `architectures`."""
    if architecture not in ARCHITECTURES:
        raise ConfigError(
            f"The architecture '{architecture}' is not built here; known: {', '.join(ARCHITECTURES)}."
            + did_you_mean(architecture, ARCHITECTURES)
            + " A new one is one file in polyhead/families (see CONTRIBUTING.md)"
        )
    module = importlib.import_module(f"polyhead.families.{ARCHITECTURES[architecture]}")
    return next(kind for kind in module.FAMILIES if kind.architecture == architecture)


def family_of(raw: Mapping[str, Any]) -> Family:
    """The family of a config.json's dict."""
    architectures = raw.get("architectures") or []
    if not (isinstance(architectures, list) and len(architectures) == 1 and isinstance(architectures[0], str)):
        raise ConfigError(f"config.json must name one architecture, but `architectures` is {architectures!r}")
    return family(architectures[0])
