"""``your_ai recommend``: which models should fit, at once, without training any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from your_ai.cli import options
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


@click.command(name="recommend")
@options.add(options.models("default"), options.CONFIGURATION, options.TENSORS, options.RESULTS)
def command(**asked: Any) -> ExitCode:
    """Say at once which models should fit, from estimates and earlier measurements.

    Nothing is trained. Each figure is one that this machine has measured before, or an estimate
    from the model's architecture, corrected by what this machine has measured of others.
    """
    output = asked["output"]
    names = options.model_names(asked)
    if output is not None:
        check_writable(output)
    if asked["quiet"]:
        hub.show_no_progress()
    chosen = _chosen(names, asked["suite_name"])
    for model in chosen:
        if model.note is not None:
            say(f"Note: {model.note}", err=True)
    training = options.training(asked, presets.training_of([model.name for model in chosen]))
    host = machine.describe()
    past = history.read(runs_dir(), host, history.installed_versions())
    device, device_source = device_guess.device(past, host)
    trials = plan(chosen, training, budget_bytes(device, asked["max_memory"]))
    lines = recommend.lines(trials, past.measurements if past else (), device.backend)
    if output is not None:
        write_or_fail(output, to_json(document(lines, device, device_source, host)))
    if not asked["quiet"]:
        say(recommendation(lines, device, device_source, terminal_columns()))
    return ExitCode.OK if recommend.recommended(lines) else ExitCode.NONE_PASSED


def _chosen(names: Sequence[str], suite_name: str | None) -> list[Model]:
    """The models asked for; the default suite also without a GPU: they would fit or not."""
    if names:
        return [resolve.with_declared_facts(resolve.find(name)) for name in names]
    suite = presets.suite(suite_name or "default")
    return [resolve.from_preset(preset) for preset in suite.presets]
