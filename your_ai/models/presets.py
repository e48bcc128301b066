"""The presets: named models with the config from which synthetic weights are made."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import orjson

SUITES = ("default", "current", "smoke")


@dataclass(frozen=True, slots=True)
class Preset:
    """A named model. ``model_name`` is its id on the Hub, ``params`` its size label.

    ``parameters`` and ``layers`` are those of the model that mlx-lm builds from ``config``;
    ``weights_bytes`` is the memory that its weights take, by the name of their quantization (see
    `quantization.NAMES`). scripts/make-presets.py counts all three. ``source`` is where the config
    was published.
    """

    name: str
    model_name: str
    params: str
    parameters: int
    layers: int
    weights_bytes: dict[str, int]
    config: dict[str, Any]
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """Presets that are run together, and the training options that replace their defaults."""

    name: str
    presets: tuple[Preset, ...]
    training: dict[str, Any]


def is_synthetic(model_name: str) -> bool:
    """Return whether a model has only synthetic weights, like those of the smoke suite."""
    return model_name.startswith("your_ai/")


@cache
def suite(name: str) -> Suite:
    """Return a suite, smallest preset first; raise KeyError if ``name`` is not in `SUITES`."""
    if name not in SUITES:
        raise KeyError(name)
    source = resources.files("your_ai.models").joinpath("suites", f"{name}.json")
    document = orjson.loads(source.read_bytes())
    presets = tuple(Preset(key, **facts) for key, facts in document["presets"].items())
    return Suite(name, presets, document["training"])


def training_of(names: Sequence[str]) -> dict[str, Any]:
    """Return the training options of the suite that has all these presets; ``{}`` without one."""
    for candidate in map(suite, SUITES):
        if names and set(names) <= {preset.name for preset in candidate.presets}:
            return candidate.training
    return {}


def matching(text: str) -> list[Preset]:
    """Return the presets with each word of ``text`` in their name or Hub id, ignoring case."""
    words = text.casefold().split()
    return [
        preset
        for preset in all_presets().values()
        if all(word in f"{preset.name} {preset.model_name}".casefold() for word in words)
    ]


def similar(text: str) -> list[str]:
    """Return the names of up to three presets that look like ``text``, the most similar first."""
    return difflib.get_close_matches(text.casefold(), all_presets(), n=3, cutoff=0.5)


def all_presets() -> dict[str, Preset]:
    """Return the presets of all suites by name."""
    return {preset.name: preset for name in SUITES for preset in suite(name).presets}
