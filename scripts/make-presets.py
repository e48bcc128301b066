#!/usr/bin/env python3
"""Count each preset's parameters and layers in mlx-lm's model, and write them into its suite.

usage: .venv/bin/python scripts/make-presets.py [FOLDER]

FOLDER contains the suites; the default is your_ai/models/suites. Nothing is allocated.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mlx.utils import tree_flatten

from worker import architecture

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
    """Return the preset with the number of the model's parameters and layers."""
    model = architecture.build(preset["config"])
    config = preset.pop("config")
    counted = {
        "parameters": sum(array.size for _, array in tree_flatten(model.parameters())),
        "layers": len(model.layers),
    }
    return {**preset, **counted, "config": config}


if __name__ == "__main__":
    main()
