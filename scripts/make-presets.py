#!/usr/bin/env python3
"""Count each preset's parameters, layers and bytes in mlx-lm's model, and write its suite.

usage: .venv/bin/python scripts/make-presets.py [--memory [PRESET ...]] [FOLDER]

FOLDER contains the suites; the default is your_ai/models/suites. --memory also traces training
steps and writes the tables of their memory, of all presets or some, to your_ai/models/memory. That
takes about a minute per preset. Nothing is allocated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from mlx.utils import tree_flatten

from worker import architecture, memory_facts, weights
from worker.protocol.configuration import Configuration
from worker.protocol.requests import ModelSource
from worker.step_graph.backends import BACKENDS
from worker.step_graph.step_memory import Grid
from your_ai.models.memory_tables import KINDS, Tables
from your_ai.models.presets import all_presets, training_of
from your_ai.models.quantization import NAMES, Quantization, named, stored
from your_ai.planning.plan import DEFAULT_QUANTIZATION

MODELS = Path(__file__).parents[1] / "your_ai/models"
TABLES = MODELS / "memory"


def main() -> None:
    """Update every suite in the folder, and the tables if asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=MODELS / "suites")
    parser.add_argument("--memory", nargs="*", metavar="PRESET")
    arguments = parser.parse_args()
    for path in sorted(arguments.folder.glob("*.json")):
        document = json.loads(path.read_text())
        presets = document["presets"]
        document["presets"] = {name: with_facts(preset) for name, preset in presets.items()}
        path.write_text(json.dumps(document, indent=2) + "\n")
    if arguments.memory is not None:
        TABLES.mkdir(exist_ok=True)
        with ProcessPoolExecutor() as pool:
            list(pool.map(write_tables, arguments.memory or all_presets()))


def write_tables(name: str) -> None:
    """Write the memory of a preset's training steps, if they can be traced."""
    try:
        quantization = training_of([name]).get("quantize", DEFAULT_QUANTIZATION)
        found = tables(all_presets()[name].config, named(quantization))
    except architecture.UnsupportedTrainingError as error:
        print(f"{name}: {error}")
        return
    (TABLES / f"{name}.json").write_bytes(msgspec.json.encode(found) + b"\n")
    print(name)


def tables(config: dict[str, Any], quantization: Quantization) -> Tables:
    """Return the memory of a model's steps, which hardly depends on the quantization."""
    configuration = configuration_with(stored(config) or quantization)
    return {
        kind: memory_facts.find(
            ModelSource(config), replace(configuration, lora_keys=keys), tuple(BACKENDS), Grid()
        )
        for kind, keys in KINDS.items()
    }


def with_facts(preset: dict[str, Any]) -> dict[str, Any]:
    """Return the preset with the model's parameters, layers, and the memory of its weights."""
    model = architecture.build(preset["config"])
    config = preset.pop("config")
    counted = {
        "parameters": sum(array.size for _, array in tree_flatten(model.parameters())),
        "layers": len(model.layers),
        "weights_bytes": dict(weights_bytes(config)),
    }
    return {**preset, **counted, "config": config}


def weights_bytes(config: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield each quantization that the weights can have, and the memory that they take then.

    A model that is stored quantized has only its own.
    """
    own = stored(config)
    for quantization in [own] if own else map(named, NAMES):
        with contextlib.suppress(architecture.UnsupportedTrainingError):
            model = weights.plan(ModelSource(config), configuration_with(quantization))
            yield quantization.name, weights.total_bytes(model)


def configuration_with(quantization: Quantization) -> Configuration:
    """Return a configuration with quantized weights."""
    return Configuration(
        quantization_bits=quantization.bits,
        quantization_mode=quantization.mode,
        group_size=quantization.group_size,
    )


if __name__ == "__main__":
    main()
