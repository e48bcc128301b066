#!/usr/bin/env python3
"""Count each preset's parameters, layers and bytes in mlx-lm's model, and write its suite.

usage: .venv/bin/python scripts/make-presets.py [FOLDER]

FOLDER contains the suites; the default is your_ai/models/suites. Nothing is allocated.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlx.utils import tree_flatten

from worker import architecture, weights
from worker.protocol.configuration import Configuration
from worker.protocol.requests import ModelSource
from your_ai.models.quantization import NAMES, Quantization, named, stored

SUITES = Path(__file__).parents[1] / "your_ai/models/suites"


def main() -> None:
    """Update every suite in the folder."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SUITES
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text())
        presets = document["presets"]
        document["presets"] = {name: with_facts(preset) for name, preset in presets.items()}
        path.write_text(json.dumps(document, indent=2) + "\n")


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
