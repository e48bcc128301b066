"""``your_ai recommend``: which models should fit, at once, without training any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from your_ai.cli.options import (
    CONFIGURATION,
    RESULTS,
    TENSORS,
    check_models,
    no_arguments,
    options,
    training,
)
from your_ai.cli.options import models as model_options
from your_ai.errors import ExitCode, MachineError
from your_ai.files import check_writable, to_json, write_atomically
from your_ai.models import hub, presets, resolve
from your_ai.models.resolve import Model
from your_ai.planning.device import budget_bytes
from your_ai.planning.plan import plan
from your_ai.recommend import device_guess, history, recommend
from your_ai.recommend.document import Recommendation, document
from your_ai.runs.run_dir import runs_dir
from your_ai.system import machine
from your_ai.terminal.output import say, terminal_columns
from your_ai.terminal.recommendation import recommendation


@click.command(name="recommend")
@no_arguments
@options(model_options("default"), CONFIGURATION, TENSORS, RESULTS)
def command(
    *,
    max_memory: float | None,
    output: Path | None,
    names: Sequence[str],
    suite_name: str | None,
    quiet: bool,
    **arguments: Any,
) -> ExitCode:
    """Say at once which models should fit, from estimates and earlier measurements.

    Nothing is trained. Each figure is one that this machine has measured before, or an estimate
    from the model's architecture, corrected by what this machine has measured of others.
    """
    check_models(names, suite_name)
    if output is not None:
        check_writable(output)
    if quiet:
        hub.show_no_progress()
    chosen = _chosen(names, suite_name)
    for model in chosen:
        if model.note is not None:
            say(f"Note: {model.note}", err=True)
    trained = training(arguments, presets.training_of([model.name for model in chosen]))
    host = machine.describe()
    past = history.read(runs_dir(), host, history.installed_versions())
    device, device_source = device_guess.device(past, host)
    trials = plan(chosen, trained, budget_bytes(device, max_memory))
    lines = recommend.lines(trials, past.measurements if past else (), device.backend)
    if output is not None:
        _write(output, document(lines, device, device_source, host))
    if not quiet:
        say(recommendation(lines, device, device_source, terminal_columns()))
    return ExitCode.OK if recommend.recommended(lines) else ExitCode.NONE_PASSED


def _chosen(names: Sequence[str], suite_name: str | None) -> list[Model]:
    """The models asked for; the default suite also without a GPU: they would fit or not."""
    if not names:
        return [
            resolve.from_preset(each) for each in presets.suite(suite_name or "default").presets
        ]
    return [resolve.with_declared_facts(resolve.find(name)) for name in dict.fromkeys(names)]


def _write(output: Path, content: Recommendation) -> None:
    try:
        write_atomically(output, to_json(content))
    except OSError as error:
        raise MachineError(f"Cannot write {output}: {error.strerror}.") from error
