"""``your_ai models``: the presets, and which of their weights are here already."""

from __future__ import annotations

import click

from your_ai.errors import ExitCode
from your_ai.models import hub, presets
from your_ai.models.architecture import parameters
from your_ai.terminal.output import say
from your_ai.terminal.tables import aligned
from your_ai.units import parameter_label

_HEADS = ("Preset", "Size", "Layers", "Parameters", "Weights", "Model")


@click.command(name="models")
def command() -> ExitCode:
    """List the presets: what --model and `optimize` know by a short name.

    Without --weights real none of them is downloaded: random weights of the same shapes do.
    """
    for name in presets.SUITES:
        rows = [_HEADS, *(_row(preset) for preset in presets.suite(name).presets)]
        say(f"--suite {name}")
        for line in aligned(rows, frozenset()):
            say(f"  {line}")
    return ExitCode.OK


def _row(preset: presets.Preset) -> tuple[str, ...]:
    is_made = preset.model_name.startswith("your_ai/")
    return (
        preset.name,
        preset.params,
        str(preset.config["num_hidden_layers"]),
        parameter_label(parameters(preset.config)),
        "made here" if is_made else "cached" if hub.is_cached(preset.model_name) else "not cached",
        "–" if is_made else preset.model_name,
    )
