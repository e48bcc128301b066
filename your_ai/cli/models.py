"""``your_ai models``: list the presets, or search them."""

from __future__ import annotations

from textwrap import indent

import click

from your_ai.cli.groups import option
from your_ai.errors import ExitCode, UsageError
from your_ai.models import hub, presets
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


@click.command(
    name="models",
    params=[
        option(
            "--search text",
            click.STRING,
            "List only presets whose name or Hub id contains all these words.",
        )
    ],
)
def command(text: str | None) -> ExitCode:
    """List the presets: short names of models for --model, `optimize` and `ceiling`.

    `benchmark`, `optimize` and `ceiling` use random weights of the same shapes and download
    nothing, unless you pass --weights real to them.
    """
    found = presets.matching(text or "")
    if not found:
        raise UsageError(_no_match(str(text)))
    width = terminal_columns()
    for name in presets.SUITES:
        rows = [_row(preset) for preset in presets.suite(name).presets if preset in found]
        if rows:
            say(f"--suite {name}")
            listed = table(_COLUMNS, rows, width and width - len(_INDENT))
            say(indent(listed, _INDENT))
    return ExitCode.OK


def _no_match(text: str) -> str:
    near = presets.similar(text)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`your_ai models` lists them all."
    return f"No preset matches {text!r}. {hint} You can also use a folder or a Hub id (ORG/NAME)."


def _row(preset: presets.Preset) -> Row:
    is_synthetic = presets.is_synthetic(preset.model_name)
    if is_synthetic:
        weights = "synthetic"
    else:
        weights = "downloaded" if hub.is_cached(preset.model_name) else "not downloaded"
    return (
        preset.name,
        preset.params,
        str(preset.layers),
        parameter_label(preset.parameters),
        weights,
        None if is_synthetic else preset.model_name,
    )
