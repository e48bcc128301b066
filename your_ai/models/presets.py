"""The registry of presets: named models with the facts from which their weights are synthesized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import orjson

SUITES = ("default", "smoke")


@dataclass(frozen=True, slots=True)
class Preset:
    """One named model. ``model_name`` is its id on the hub, ``params`` its size label."""

    name: str
    model_name: str
    params: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Suite:
    """The presets that run together, and the training options in which they differ from ours."""

    name: str
    presets: tuple[Preset, ...]
    training: dict[str, Any]


def is_synthetic(model_name: str) -> bool:
    """Whether a model exists only as synthesized weights, as those of the smoke suite do."""
    return model_name.startswith("your_ai/")


@cache
def suite(name: str) -> Suite:
    """The suite of that name, smallest preset first; KeyError for a name not in `SUITES`."""
    if name not in SUITES:
        raise KeyError(name)
    source = resources.files("your_ai.models").joinpath("suites", f"{name}.json")
    document = orjson.loads(source.read_bytes())
    presets = tuple(Preset(key, **facts) for key, facts in document["presets"].items())
    return Suite(name, presets, document["training"])


def training_of(names: Sequence[str]) -> dict[str, Any]:
    """The training options of the suite that all these presets belong to; none if there is none."""
    for each in map(suite, SUITES):
        if names and set(names) <= {preset.name for preset in each.presets}:
            return each.training
    return {}


def all_presets() -> dict[str, Preset]:
    """Every preset of every suite, by name."""
    return {preset.name: preset for name in SUITES for preset in suite(name).presets}
