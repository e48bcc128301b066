"""``your_ai recommend``: estimate which models fit, without training."""

from __future__ import annotations

from typing import Any

import click

from your_ai.cli import config_file, configuration, options
from your_ai.cli.config_file import CONFIG
from your_ai.cli.groups import GroupedCommand
from your_ai.cli.machine_option import MACHINE, given_device
from your_ai.errors import ExitCode
from your_ai.files import to_json, write_or_fail
from your_ai.models import hub, presets
from your_ai.planning.device import budget_bytes
from your_ai.planning.memory_estimate import other_versions
from your_ai.planning.plan import plan
from your_ai.recommend import device_guess, history, known_models, recommend
from your_ai.recommend.document import Context, document
from your_ai.runs.run_dir import runs_dir
from your_ai.system import machine
from your_ai.terminal.output import say, terminal_columns
from your_ai.terminal.recommendation import recommendation

_GROUPS = [
    options.models(fallback="default"),
    MACHINE,
    CONFIG,
    *(configuration.SIZES, configuration.KIND, configuration.TENSORS, options.BUDGET),
    options.OUTPUT,
]


@click.command(name="recommend", cls=GroupedCommand, groups=_GROUPS)
@options.no_arguments
def command(**values: Any) -> ExitCode:
    """Estimate which models fit, from their architecture and earlier runs.

    Nothing is trained. If this machine has measured a model with the same options before, its
    measured memory is shown; otherwise an estimate, corrected by measurements of other models. For
    another machine, such as a Mac that you consider buying, everything is estimated.
    """
    names = options.model_names(values)
    elsewhere = given_device(values)
    config, names = config_file.chosen(values, names, _note)
    output = config_file.checked_output(values)
    if values["quiet"]:
        hub.hide_progress_bars()
    suite = presets.suite(values["suite_name"] or "default")
    asked = names or [preset.name for preset in suite.presets]
    host, past = None, None
    device, device_source = elsewhere, device_guess.ELSEWHERE
    if device is None:
        host = machine.describe()
        past = history.read(runs_dir(), host, history.installed_versions())
        device, device_source = device_guess.device(past, host)
    budget = budget_bytes(device, values["max_memory"])
    training = configuration.training(values, config_file.defaults_of(config, asked))
    measurements = past.measurements if past else ()
    chosen, unknown = known_models.find(
        asked, training, device.backend, budget, measurements, _note
    )
    trials = plan(chosen, training, budget)
    found = recommend.forecasts(trials, measurements, device.backend)
    versions = other_versions(history.installed_versions())
    context = Context(device, device_source, budget, host, versions)
    if output is not None:
        write_or_fail(output, to_json(document(found, unknown, context)))
    if not values["quiet"]:
        say(recommendation(found, unknown, context, terminal_columns()))
    return ExitCode.OK if recommend.recommended(found) else ExitCode.NONE_PASSED


def _note(text: str) -> None:
    say(f"Note: {text}", err=True)
