"""Find the models whose memory is known or can be estimated, with one probe if necessary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from worker.protocol.configuration import Configuration
from worker.protocol.requests import PlannedModel
from your_ai.errors import MachineError, UsageError, YourAIError
from your_ai.models import memory_tables, resolve
from your_ai.models.resolve import Model, UnknownModelError
from your_ai.planning.memory_estimate import estimate
from your_ai.planning.plan import TrainingOptions, configuration_of, plan, planned
from your_ai.recommend.history import Measurement
from your_ai.recommend.recommend import Unknown, Verdict
from your_ai.supervision.facts import find_facts
from your_ai.units import show_size


@dataclass(frozen=True, slots=True)
class _Refused:
    """A model that cannot be estimated, and why."""

    model: Model
    error: YourAIError


def find(
    names: Sequence[str],
    training: TrainingOptions,
    backend: str,
    budget_bytes: int,
    measurements: Sequence[Measurement],
    note: Callable[[str], None],
) -> tuple[list[Model], list[Unknown]]:
    """Return the models that can be estimated, and those that cannot.

    Raises:
        UsageError: if a name is unknown, or if mlx-lm can train none of the models like that.
        MachineError: if nothing is known about any model because the Hub cannot be reached.
    """
    found = _probed([_found(name, training, note) for name in names], training, backend)
    refused = [each for each in found if isinstance(each, _Refused)]
    if len(names) == 1 and refused:
        raise refused[0].error
    if len(refused) == len(found):
        errors = [each.error for each in refused]
        kind = MachineError if all(isinstance(e, MachineError) for e in errors) else UsageError
        raise kind(
            f"None of the models can be estimated. {' '.join(dict.fromkeys(map(str, errors)))}"
        )
    models, unknown = [], []
    for each in found:
        if isinstance(each, _Refused):
            unknown.append(_unknown(each.model, str(each.error)))
            continue
        _, configuration = configuration_of(each, training)
        is_measured = any(_is_of(one, each, configuration) for one in measurements)
        if is_measured or estimate(each, configuration, backend) is not None:
            models.append(each)
        else:
            weights = each.weights_in(configuration)
            unknown.append(_unknown(each, _reason(each, weights), weights, budget_bytes))
    return models, unknown


def _is_of(measurement: Measurement, model: Model, configuration: Configuration) -> bool:
    """Return whether needed memory was measured for this model and configuration."""
    is_same = measurement.key == (model.model_name, configuration)
    is_needed = measurement.needed_bytes is not None
    return is_same and is_needed and measurement.parameters == model.parameters


def _reason(model: Model, weights: int) -> str:
    """Return what is known about a model whose training step cannot be estimated."""
    size = f"weights {show_size(weights)}, " if weights else ""
    command = f"your_ai benchmark --model {model.path or model.name}"
    return f"{model.name}: {size}activations not estimated; run `{command}`."


def _unknown(model: Model, reason: str, weights: int = 0, budget_bytes: int = 0) -> Unknown:
    verdict = None
    if weights > budget_bytes:
        verdict = Verdict.DOES_NOT_FIT
        reason = f"{model.name} does not fit: the weights alone take {show_size(weights)}."
    counted = model.parameters or None, weights or None
    return Unknown(model.name, model.model_name, model.params, reason, *counted, verdict)


def _found(name: str, training: TrainingOptions, note: Callable[[str], None]) -> Model | _Refused:
    """Return the model called like that; raise UnknownModelError if there is none."""
    found = Model(name, name, "", {})
    try:
        found = resolve.find(name)
        if found.note is not None:
            note(found.note)
        if found.layers:
            plan([found], training, budget_bytes=1)  # raises if the options do not fit the model
    except UnknownModelError:
        raise
    except YourAIError as error:
        return _Refused(found, error)
    return found


def _probed(
    found: Sequence[Model | _Refused], training: TrainingOptions, backend: str
) -> list[Model | _Refused]:
    """Return the models with what a probe says about those of which something is unknown."""
    models = [m for m in found if isinstance(m, Model) and not _is_known(m, training)]
    if not models:
        return [*found]
    asked = {model.model_name: _question(model, training, backend) for model in models}
    try:
        (facts,) = find_facts([asked])
    except YourAIError as error:
        if len(models) == 1:
            return [_Refused(each, error) if each is models[0] else each for each in found]
        # One model may have crashed the worker, and the facts about others may be known already.
        return [probed for each in found for probed in _probed([each], training, backend)]

    def with_facts(model: Model) -> Model | _Refused:
        try:
            known = resolve.with_facts(model, facts)
            plan([known], training, budget_bytes=1)
        except YourAIError as error:
            return _Refused(model, error)
        return known

    return [
        with_facts(each) if isinstance(each, Model) and each in models else each for each in found
    ]


def _question(model: Model, training: TrainingOptions, backend: str) -> PlannedModel:
    return replace(planned(model, training), memory_on=memory_tables.table_of(backend))


def _is_known(model: Model, training: TrainingOptions) -> bool:
    """Return whether a preset has tables for this training, so that it need not be probed."""
    return memory_tables.is_shipped(model, configuration_of(model, training)[1])
