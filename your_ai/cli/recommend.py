"""``your_ai recommend``: estimate which models fit, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from your_ai.cli import config_file, configuration, options
from your_ai.cli.config_file import CONFIG
from your_ai.cli.groups import GroupedCommand
from your_ai.cli.machine_option import MACHINE, given_device
from your_ai.errors import ExitCode, MachineError, UsageError, YourAIError
from your_ai.files import to_json, write_or_fail
from your_ai.models import hub, presets, resolve
from your_ai.models.resolve import Model, UnknownModelError
from your_ai.planning.device import budget_bytes
from your_ai.planning.plan import TrainingOptions, is_trainable_by_all, plan, planned
from your_ai.recommend import device_guess, history, recommend
from your_ai.recommend.document import document
from your_ai.recommend.recommend import Unknown
from your_ai.runs.run_dir import runs_dir
from your_ai.supervision.facts import find_facts
from your_ai.supervision.probe_cache import Facts
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
    chosen, unknown = _estimable(asked, training)
    trials = plan(chosen, training, budget)
    found = recommend.forecasts(trials, past.measurements if past else (), device.backend)
    if output is not None:
        write_or_fail(output, to_json(document(found, unknown, device, device_source, host)))
    if not values["quiet"]:
        columns = terminal_columns()
        here = host is not None
        say(recommendation(found, unknown, device, device_source, columns, is_this_machine=here))
    return ExitCode.OK if recommend.recommended(found) else ExitCode.NONE_PASSED


def _note(text: str) -> None:
    say(f"Note: {text}", err=True)


def _estimable(
    names: Sequence[str], training: TrainingOptions
) -> tuple[list[Model], list[Unknown]]:
    """Return the models that can be estimated, and those that cannot.

    Raises:
        UsageError: if a name is unknown, or if no model can be estimated.
        MachineError: if no model can be estimated because the Hub cannot be reached.
    """
    found = _probed([_declared(name, training) for name in names], training)
    models = [each for each in found if isinstance(each, Model)]
    refused = [each for each in found if isinstance(each, _Refused)]
    if len(names) == 1 and refused:
        raise refused[0].error
    if not models:
        errors = [each.error for each in refused]
        kind = MachineError if all(isinstance(e, MachineError) for e in errors) else UsageError
        raise kind(
            f"None of the models can be estimated. {' '.join(dict.fromkeys(map(str, errors)))}"
        )
    return models, [
        Unknown(each.model.name, each.model.model_name, each.model.params, str(each.error))
        for each in refused
    ]


@dataclass(frozen=True, slots=True)
class _Refused:
    """A model that cannot be estimated, and why."""

    model: Model
    error: YourAIError


def _declared(name: str, training: TrainingOptions) -> Model | _Refused:
    """Return the model with the size and layers from its config.

    Raises UnknownModelError if there is no such model.
    """
    found = Model(name, name, "", {})
    try:
        found = resolve.find(name)
        if found.note is not None:
            _note(found.note)
        model = resolve.with_declared_facts(found)
        plan([model], training, budget_bytes=1)  # raises if the options do not fit the model
    except UnknownModelError:
        raise
    except YourAIError as error:
        return _Refused(found, error)
    return model


def _probed(found: Sequence[Model | _Refused], training: TrainingOptions) -> list[Model | _Refused]:
    """Return the models except those that mlx-lm cannot train like that."""
    models = [each for each in found if isinstance(each, Model)]
    if is_trainable_by_all(training) or not models:
        return [*found]
    try:
        (facts,) = find_facts([{each.model_name: planned(each, training) for each in models}])
    except YourAIError as error:
        if len(models) == 1:
            return [_Refused(each, error) if isinstance(each, Model) else each for each in found]
        # One model may have crashed the worker, and the facts about others may be known already.
        return [probed for each in found for probed in _probed([each], training)]
    return [_trainable(each, facts) if isinstance(each, Model) else each for each in found]


def _trainable(model: Model, facts: Facts) -> Model | _Refused:
    try:
        resolve.with_facts(model, facts)
    except YourAIError as error:
        return _Refused(model, error)
    return model
