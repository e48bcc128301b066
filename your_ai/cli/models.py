"""``your_ai models``: list the presets."""

from __future__ import annotations

from textwrap import indent

import click

from your_ai.errors import ExitCode
from your_ai.models import hub, presets
from your_ai.models.architecture import parameters
from your_ai.terminal.output import say, terminal_columns
from your_ai.terminal.tables import Column, Row, table
from your_ai.units import parameter_label

_COLUMNS = (
    Column("Preset"),
    Column("Size", is_number=True),
    Column("Layers", "{} layers", is_number=True),
    Column("Parameters", "{} parameters", is_number=True),
    Column("Weights", "weights {}"),
    Column("Model"),
)
_INDENT = "  "


@click.command(name="models")
def command() -> ExitCode:
    """List the presets: short names of models for --model and `optimize`.

    `benchmark` and `optimize` use random weights of the same shapes and download nothing, unless
    you pass --weights real to them.
    """
    width = terminal_columns()
    for name in presets.SUITES:
        rows = [_row(preset) for preset in presets.suite(name).presets]
        say(f"--suite {name}")
        listed = table(_COLUMNS, rows, width and width - len(_INDENT))
        say(indent(listed, _INDENT))
    return ExitCode.OK


def _row(preset: presets.Preset) -> Row:
    is_synthetic = presets.is_synthetic(preset.model_name)
    if is_synthetic:
        weights = "synthetic"
    else:
        weights = "downloaded" if hub.is_cached(preset.model_name) else "not downloaded"
    return (
        preset.name,
        preset.params,
        str(preset.config["num_hidden_layers"]),
        parameter_label(parameters(preset.config)),
        weights,
        None if is_synthetic else preset.model_name,
    )
