"""``your_ai recommend``: estimate which models fit, without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from your_ai.cli import options
from your_ai.cli.groups import GroupedCommand
from your_ai.errors import ExitCode
from your_ai.files import check_writable, to_json, write_or_fail
from your_ai.models import hub, presets, resolve
from your_ai.models.resolve import Model
from your_ai.planning.device import budget_bytes
from your_ai.planning.plan import plan
from your_ai.recommend import device_guess, history, recommend
from your_ai.recommend.document import document
from your_ai.runs.run_dir import runs_dir
from your_ai.system import machine
from your_ai.terminal.output import say, terminal_columns
from your_ai.terminal.recommendation import recommendation

_GROUPS = [
    options.models(fallback="default"),
    *(options.CONFIGURATION, options.TENSORS, options.BUDGET),
    options.OUTPUT,
]


@click.command(name="recommend", cls=GroupedCommand, groups=_GROUPS)
@options.no_arguments
def command(**values: Any) -> ExitCode:
    """Estimate which models fit, from their architecture and earlier runs.

    Nothing is trained. If this machine has measured a model with the same options before, its
    measured memory is shown; otherwise an estimate, corrected by measurements of other models.
    """
    output = values["output"]
    names = options.model_names(values)
    if output is not None:
        check_writable(output)
    if values["quiet"]:
        hub.hide_progress_bars()
    chosen = _chosen(names, values["suite_name"])
    for model in chosen:
        if model.note is not None:
            say(f"Note: {model.note}", err=True)
    training = options.training(values, presets.training_of([model.name for model in chosen]))
    host = machine.describe()
    past = history.read(runs_dir(), host, history.installed_versions())
    device, device_source = device_guess.device(past, host)
    trials = plan(chosen, training, budget_bytes(device, values["max_memory"]))
    found = recommend.forecasts(trials, past.measurements if past else (), device.backend)
    if output is not None:
        write_or_fail(output, to_json(document(found, device, device_source, host)))
    if not values["quiet"]:
        say(recommendation(found, device, device_source, terminal_columns()))
    return ExitCode.OK if recommend.recommended(found) else ExitCode.NONE_PASSED


def _chosen(names: Sequence[str], suite_name: str | None) -> list[Model]:
    """The models to estimate; the default suite even on a CPU, since nothing is trained."""
    if names:
        return [resolve.with_declared_facts(resolve.find(name)) for name in names]
    suite = presets.suite(suite_name or "default")
    return [resolve.from_preset(preset) for preset in suite.presets]
