"""Plan the trials of a run: one per model and kind of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from worker.protocol.configuration import Weights
from worker.protocol.messages import Device
from worker.protocol.requests import PlannedModel
from your_ai.errors import UsageError
from your_ai.models import memory_tables, presets, resolve, weight_files
from your_ai.models.resolve import Model
from your_ai.planning.plan import (
    TrainingOptions,
    Trial,
    check_layers,
    is_trainable_by_all,
    plan,
    planned,
)
from your_ai.planning.training_data import TrainingData
from your_ai.supervision.facts import find_device, find_device_and_facts, find_facts


def find_device_and_models(
    chosen: Sequence[Model],
    trainings: Sequence[TrainingOptions],
    device: Device | None,
    *,
    with_memory: bool,
) -> tuple[Device, tuple[list[Model], ...]]:
    """Return the device, and the models with their sizes and layers for each of the ``trainings``.

    If the ``device`` is not yet known, it is found together with the models. ``with_memory`` adds
    what estimates of their memory require; to trace a large model takes some seconds.

    Raises:
        UsageError: if a model's weights are unusable, or mlx-lm cannot train it like that.
        MachineError: if MLX does not work on this machine.
    """
    if trainings[0].weights is Weights.REAL:
        _check_weights(chosen)
        chosen = [resolve.pinned(model) for model in chosen]
    if with_memory:
        device = device or find_device()
        table = memory_tables.table_of(device.backend)
        kinds = [_untraced(chosen, options, table) for options in trainings]
    else:
        kinds = [_unknown(chosen, options) for options in trainings]
    if device is None:
        device, found = find_device_and_facts(kinds)
    else:
        found = find_facts(kinds)
    models = tuple([resolve.with_facts(model, facts) for model in chosen] for facts in found)
    for known, options in zip(models, trainings, strict=True):
        for model in known:
            check_layers(model, options)
    return device, models


def _unknown(chosen: Sequence[Model], options: TrainingOptions) -> dict[str, PlannedModel]:
    unknown = [m for m in chosen if not (m.is_preset and is_trainable_by_all(options))]
    return {model.model_name: planned(model, options) for model in unknown}


def _untraced(
    chosen: Sequence[Model], options: TrainingOptions, table: str
) -> dict[str, PlannedModel]:
    asked = {model.model_name: planned(model, options) for model in chosen}
    return {
        model.model_name: replace(asked[model.model_name], memory_on=table)
        for model in chosen
        if not memory_tables.is_shipped(model, asked[model.model_name].configuration)
    }


def plan_trials(
    models: Sequence[Sequence[Model]],
    trainings: Sequence[TrainingOptions],
    budget: int,
    data: Mapping[str, TrainingData],
) -> tuple[Trial, ...]:
    """Plan one trial per model, smallest first, with all of the ``trainings``.

    Raises the same errors as `plan`.
    """
    pairs = zip(models, trainings, strict=True)
    kinds = [plan(known, options, budget, data) for known, options in pairs]
    return tuple(map(_together, zip(*kinds, strict=True)))


def _together(trials: Iterable[Trial]) -> Trial:
    """Return the trials of a model as one: that with the least weights, with the others."""
    least, *others = sorted(trials, key=lambda trial: trial.weights_bytes)
    return replace(least, others=tuple(others))


def _check_weights(chosen: Sequence[Model]) -> None:
    """Raise UsageError for weights that are known, before the first trial, to be unusable."""
    for model in chosen:
        if model.path is not None:
            weight_files.check_folder(Path(model.path))
        elif presets.is_synthetic(model.model_name):
            raise UsageError(f"{model.name} has synthetic weights only; remove --weights real.")
