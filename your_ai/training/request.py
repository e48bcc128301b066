"""From measured results and the user's options to the request for a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from worker.protocol.messages import Configuration, TrainingRequest, TrialRequest, Weights
from your_ai.errors import UsageError
from your_ai.models import hub, presets, resolve, weight_files
from your_ai.models.resolve import Model
from your_ai.planning.device import Device
from your_ai.planning.memory_estimate import estimate
from your_ai.planning.plan import TrainingOptions, plan
from your_ai.runs.results import Results
from your_ai.runs.training_results import Expected
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.probe import probe_models
from your_ai.training.export import SAME_NAMES
from your_ai.units import parameters_of, show_size

T = TypeVar("T")


def choose(results: Results, name: str | None) -> TrialResult:
    """The best trial of a model, by default the recommended one; raises UsageError without any."""
    wanted = name if name is not None else results.recommended
    if wanted is None:
        raise UsageError("No model passed in these results, so there is nothing to train.")
    found = [entry for entry in results.results if wanted in (entry.preset, entry.model_name)]
    if not found:
        available = ", ".join(f"{entry.preset} ({entry.model_name})" for entry in results.results)
        raise UsageError(f"The results do not contain {wanted}. Available: {available or 'none'}.")
    # Two folders may have the same name; the recommended one is the larger of those that passed.
    entry = max(found, key=lambda each: (each.success, parameters_of(each.params)))
    best = (entry.optimal_config and entry.optimal_config.best) or entry
    if not best.success:
        raise UsageError(f"{best.preset} did not pass in these results: {best.error}.")
    return best


def known(figure: T | None) -> T:
    """A figure that every trial that passed has; raises UsageError if it is missing."""
    if figure is None:
        raise UsageError("The results lack a figure of a trial that passed; run it again.")
    return figure


def check_device(measured: TrialResult, there: Device, here: Device) -> None:
    """Raise UsageError unless what was measured ``there`` holds ``here``."""
    budget = measured.config.budget_bytes
    this = f"{here.name} ({here.backend})"
    if (there.name, there.backend) != (here.name, here.backend):
        how = f"on {there.name} ({there.backend}), and this is {this}"
    elif budget > here.memory_bytes:
        has = show_size(here.memory_bytes)
        how = f"with a budget of {show_size(budget)}, and {this} has {has} here"
    else:
        return
    raise UsageError(
        f"The results were measured {how}, so their memory limits do not apply. Run `your_ai "
        "benchmark` on this machine first (--export still works)."
    )


def describe_model(measured: TrialResult) -> Model:
    """The model with its size and layers, from its config; no weights are read or downloaded.

    Raises:
        UsageError: if there is no such model, or mlx-lm or LoRA cannot train it.
        MachineError: if the Hub cannot be reached.
    """
    if presets.is_synthetic(measured.model_name):
        raise UsageError(
            f"{measured.preset} has synthetic weights only, so there is nothing to train; "
            "benchmark a real model first (`your_ai benchmark --model ORG/NAME`, or a folder)."
        )
    preset = presets.all_presets().get(measured.preset)
    is_preset = preset is not None and preset.model_name == measured.model_name
    model = resolve.find(measured.preset if is_preset else measured.model_name)
    try:
        return resolve.with_declared_facts(model)
    except UsageError:  # then a probe counts them, which takes seconds
        return resolve.with_facts(model, probe_models({model.model_name: model.config}))


def with_weights(model: Model, revision: str | None) -> Model:
    """The model with a folder that has its weights and tokenizer, downloaded if necessary.

    Raises:
        UsageError: if they are missing or damaged.
        MachineError: if the Hub cannot be reached, or the disk is too small.
    """
    if model.path is None:
        sha = revision or model.revision or hub.revision(model.model_name).sha
        folder = hub.download(model.model_name, sha, is_whole=weight_files.has_tokenizer)
        found = resolve.find(str(folder))
        model = replace(model, config=found.config, path=found.path, revision=sha)
    folder = Path(str(model.path))
    weight_files.check_folder(folder)
    if not weight_files.has_tokenizer(folder):
        raise UsageError(
            f"{folder} has no tokenizer ({', '.join(weight_files.TOKENIZER_FILES)}), which a "
            "training needs; copy it there from where the model comes from."
        )
    return model


def lora_keys(model: Model) -> tuple[str, ...]:
    """The projections of a layer that LoRA trains, by a probe; raises as `describe_model` does."""
    facts = probe_models({model.model_name: model.config})
    resolve.with_facts(model, facts)
    found = facts[model.model_name]
    return () if isinstance(found, str) else found.lora_keys


def fit(measured: TrialResult, model: Model, asked: Mapping[str, Any]) -> TrialRequest:
    """The measured trial with real weights and the options given; UsageError if they do not fit."""
    fields = asdict(_measured_configuration(measured))
    fields |= {name: asked[name] for name in fields if asked.get(name) is not None}
    options = TrainingOptions(quantize=fields.pop("quantization_bits") or 0, **fields)
    return plan([model], options, measured.config.budget_bytes)[0].request


def training_request(
    measured: TrialResult, fitted: TrialRequest, asked: Mapping[str, Any]
) -> TrainingRequest:
    """The whole training, in whole batches under the measured memory limit."""
    return TrainingRequest(
        model=fitted.model,
        configuration=fitted.configuration,
        data=str(asked["data"].absolute()),
        adapter_path=str(asked["adapter_path"].absolute()),
        micro_batches=1,
        limit_bytes=known(measured.memory_limit_bytes),
        budget_bytes=fitted.budget_bytes,
        adapter_config={},
        resume=False,
        **{name: asked[name] for name in SAME_NAMES},
    )


def expect(measured: TrialResult, fitted: TrialRequest, backend: str, iters: int) -> Expected:
    """What the training will take at most.

    The measured peak if the configuration is the same, else scaled as the estimate scales, but no
    less than a run-ahead within the budget. Time scales with the tokens.
    """
    configuration = fitted.configuration
    before = _measured_configuration(measured)
    peak = known(measured.peak_memory_bytes)
    if configuration != before:
        needed = known(measured.needed_memory_bytes)
        try:
            now = estimate(fitted, backend).needed_bytes
            then = estimate(replace(fitted, configuration=before), backend).needed_bytes
            needed = needed * now // then
        except UsageError:
            pass
        peak = max(needed, min(peak, fitted.budget_bytes))
    tokens = configuration.batch_size * configuration.seq_length
    seconds = tokens / known(measured.tokens_per_second)
    return Expected(peak, seconds, seconds * iters, is_measured=configuration == before)


def _measured_configuration(measured: TrialResult) -> Configuration:
    return replace(measured.config.configuration, weights=Weights.REAL)
