"""``your_ai models``: the presets, and which of their weights are here already."""

from __future__ import annotations

from textwrap import indent

import click

from your_ai.errors import ExitCode
from your_ai.models import hub, presets
from your_ai.models.architecture import parameters
from your_ai.terminal.output import say, terminal_columns
from your_ai.terminal.tables import Row, table
from your_ai.units import parameter_label

_HEADS = ("Preset", "Size", "Layers", "Parameters", "Weights", "Model")
_INDENT = "  "


@click.command(name="models")
def command() -> ExitCode:
    """List the presets: what --model and `optimize` know by a short name.

    Nothing is downloaded unless you pass --weights real; by default random weights of the same
    shapes are used.
    """
    columns = terminal_columns()
    for name in presets.SUITES:
        rows = [_row(preset) for preset in presets.suite(name).presets]
        say(f"--suite {name}")
        listed = table(_HEADS, rows, frozenset(), columns and columns - len(_INDENT))
        say(indent(listed, _INDENT))
    return ExitCode.OK


def _row(preset: presets.Preset) -> Row:
    is_made = presets.is_synthetic(preset.model_name)
    return (
        preset.name,
        preset.params,
        str(preset.config["num_hidden_layers"]),
        parameter_label(parameters(preset.config)),
        "made here" if is_made else "cached" if hub.is_cached(preset.model_name) else "not cached",
        None if is_made else preset.model_name,
    )
