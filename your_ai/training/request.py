"""Build the request for a training from measured results and the user's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from worker.protocol.configuration import Configuration, FineTuneType, Weights
from worker.protocol.requests import PlannedModel, TrainingRequest, TrialRequest
from your_ai.errors import UsageError, YourAIError
from your_ai.models import hub, memory_tables, presets, resolve, weight_files
from your_ai.models.quantization import Quantization
from your_ai.models.resolve import Model
from your_ai.planning.device import Device
from your_ai.planning.lora_config import LoraConfig
from your_ai.planning.memory_estimate import error_share, estimate
from your_ai.planning.plan import TrainingOptions, plan, planned
from your_ai.runs.results import Results
from your_ai.runs.training_results import Expected
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.facts import find_facts
from your_ai.training.export import SAME_NAMES
from your_ai.units import parameters_of, show_size

T = TypeVar("T")


def choose(results: Results, name: str | None) -> TrialResult:
    """Return the best trial of a model, by default the recommended one.

    Raises:
        UsageError: if there is no such model, or it did not pass.
    """
    wanted = name if name is not None else results.recommended
    if wanted is None:
        raise UsageError(
            "No model passed in these results, so there is nothing to train. Measure a smaller "
            "model first."
        )
    found = [entry for entry in results.results if wanted in (entry.preset, entry.model_name)]
    if not found:
        available = ", ".join(f"{entry.preset} ({entry.model_name})" for entry in results.results)
        raise UsageError(f"The results do not contain {wanted}. Available: {available or 'none'}.")
    # Two folders may have the same name: take the larger of those that passed.
    entry = max(found, key=lambda each: (each.success, parameters_of(each.params)))
    best = (entry.optimal_config and entry.optimal_config.best) or entry
    if not best.success:
        raise UsageError(
            f"{best.preset} did not pass in these results ({best.error}). Choose another model "
            "with --model."
        )
    return best


def known(value: T | None) -> T:
    """Return a measurement that every passing trial has; raise UsageError if it is missing."""
    if value is None:
        raise UsageError(
            "The results are incomplete: a trial that passed lacks a measurement. "
            "Run `your_ai benchmark` again."
        )
    return value


def check_device(measured: TrialResult, measured_on: Device, current: Device) -> None:
    """Raise UsageError if a result of the device ``measured_on`` is not valid for ``current``."""
    budget = measured.config.budget_bytes
    name = f"{current.name} ({current.backend})"
    if (measured_on.name, measured_on.backend) != (current.name, current.backend):
        how = f"on {measured_on.name} ({measured_on.backend}), but this machine has {name}"
    elif budget > current.memory_bytes:
        memory = show_size(current.memory_bytes)
        how = f"with a budget of {show_size(budget)}, but this {name} has only {memory}"
    else:
        return
    raise UsageError(
        f"The results were measured {how}, so their memory limits do not apply. Run `your_ai "
        "benchmark` on this machine first (--export still works)."
    )


def check_steps(iters: int, batches: int) -> None:
    """Raise UsageError if ``iters`` batches give no optimizer step, each of so many ``batches``."""
    if iters < batches:
        raise UsageError(
            f"--iters {iters} is less than --grad-accumulation-steps {batches}, so nothing would "
            "be trained. Raise --iters, or lower --grad-accumulation-steps."
        )


def describe_model(measured: TrialResult) -> Model:
    """Return the model with its size and layers, without reading or downloading weights.

    Raises:
        UsageError: if the model does not exist, or mlx-lm or LoRA cannot train it.
        MachineError: if the Hub cannot be reached.
    """
    if presets.is_synthetic(measured.model_name):
        raise UsageError(
            f"{measured.preset} has only synthetic weights, so there is nothing to train. "
            "Benchmark a real model first: `your_ai benchmark --model ORG/NAME` (or a folder)."
        )
    preset = presets.all_presets().get(measured.preset)
    is_preset = preset is not None and preset.model_name == measured.model_name
    model = resolve.find(measured.preset if is_preset else measured.model_name)
    if model.layers:
        return model
    asked = planned(model, TrainingOptions(**measured_options(measured)))
    (facts,) = find_facts([{model.model_name: asked}])
    return resolve.with_facts(model, facts)


def with_weights(model: Model, revision: str | None) -> Model:
    """Return the model with a folder that has its weights and tokenizer; download if necessary.

    Raises:
        UsageError: if weights or tokenizer are missing or damaged.
        MachineError: if the Hub cannot be reached, or the disk is too small.
    """
    if model.path is None:
        sha = revision or model.revision or hub.revision(model.model_name).sha
        folder = hub.download(model.model_name, sha, is_complete=weight_files.has_tokenizer)
        found = resolve.find(str(folder))
        model = replace(model, config=found.config, path=found.path, revision=sha)
    folder = Path(str(model.path))
    weight_files.check_folder(folder)
    if not weight_files.has_tokenizer(folder):
        raise UsageError(
            f"{folder} has no tokenizer ({', '.join(weight_files.TOKENIZER_FILES)}). Copy it there "
            "from the original model."
        )
    return model


def lora_keys(model: Model, fitted: TrialRequest) -> tuple[str, ...]:
    """Return the names of the modules with adapters, found by a probe.

    Raises the same errors as `describe_model`.
    """
    asked = PlannedModel(fitted.model.config, fitted.configuration)
    (facts,) = find_facts([{model.model_name: asked}])
    resolve.with_facts(model, facts)
    found = facts[model.model_name]
    return () if isinstance(found, str) else found.lora_keys


def check_full(measured: TrialResult, chosen: TrainingOptions, model: Model) -> None:
    """Raise UsageError for full fine-tuning of a model that was measured with quantized weights."""
    quantization = Quantization.of(measured.config)
    if chosen.is_full and quantization.bits is not None and model.stored is None:
        raise UsageError(
            f"The results were measured with {quantization.label} weights, which full fine-tuning "
            "cannot train. Run `your_ai benchmark --fine-tune-type full` first."
        )


def check_trainable(measured: TrialResult, fitted: TrialRequest, model: Model) -> None:
    """Check that mlx-lm can train what is to be trained, if that is not what was measured.

    Raises the same errors as `describe_model`.
    """
    before, after = measured.config, fitted.configuration
    if (before.fine_tune_type, before.lora_keys) != (after.fine_tune_type, after.lora_keys):
        lora_keys(model, fitted)


def measured_options(measured: TrialResult) -> dict[str, Any]:
    """Return the training options that were measured, with real weights."""
    configuration = _measured_configuration(measured)
    names = TrainingOptions.__dataclass_fields__.keys() & Configuration.__dataclass_fields__.keys()
    chosen = {name: getattr(configuration, name) for name in names}
    if configuration.fine_tune_type is FineTuneType.FULL:
        del (
            chosen["lora_rank"],
            chosen["lora_keys"],
        )  # the defaults, if adapters are trained instead
    quantization = Quantization.of(configuration)
    group_size = None if quantization.is_default_group else quantization.group_size
    return {**chosen, "quantize": quantization.name, "group_size": group_size}


def fit(measured: TrialResult, model: Model, chosen: TrainingOptions) -> TrialRequest:
    """Return the measured trial with real weights and other training options.

    Raises:
        UsageError: if the options are not possible for the model.
    """
    return plan([model], chosen, measured.config.budget_bytes)[0].request


def training_request(
    measured: TrialResult, fitted: TrialRequest, options: Mapping[str, Any]
) -> TrainingRequest:
    """Return the request for the first attempt: unsplit batches, and the measured memory limit.

    ``options`` may have what --config sets as ``content``.
    """
    config: LoraConfig | None = options.get("content")
    only_in_file: dict[str, Any] = {}
    if config is not None:
        only_in_file = {"lora_scale": config.lora_scale, "lr_schedule": config.schedule()}
    return TrainingRequest(
        model=fitted.model,
        configuration=fitted.configuration,
        data=str(options["data"].absolute()),
        adapter_path=str(options["adapter_path"].absolute()),
        micro_batches=1,
        limit_bytes=known(measured.memory_limit_bytes),
        budget_bytes=fitted.budget_bytes,
        adapter_config={},
        resume=False,
        **{name: options[name] for name in SAME_NAMES},
        **only_in_file,
    )


def expect(
    measured: TrialResult, fitted: TrialRequest, model: Model, backend: str, iters: int
) -> Expected:
    """Return what the training should take at most.

    If the configuration was measured, the peak is the measured one. Otherwise it is the measured
    needed memory, scaled like the estimate, or the measured peak (at most the budget) if that is
    larger. For another kind of training, both are those of the estimate; without one, the peak can
    be the budget. The time is proportional to the tokens.
    """
    configuration = fitted.configuration
    before = _measured_configuration(measured)
    peak = known(measured.peak_memory_bytes)
    if configuration != before:
        needed = known(measured.needed_memory_bytes)
        traced = _with_memory(model, fitted, backend)
        changed = estimate(traced, configuration, backend)
        same_kind = configuration.kind == before.kind
        original = estimate(traced, before, backend) if same_kind else None
        if changed is None:
            peak = fitted.budget_bytes  # the limit that it is trained under
        elif original is not None:
            needed = needed * changed.needed_bytes // original.needed_bytes
        else:  # what was measured cannot be compared, such as another kind of training
            share = 1 + error_share(configuration, backend)
            needed, peak = round(changed.needed_bytes * share), changed.run_ahead_bytes
        peak = max(needed, min(peak, fitted.budget_bytes))
    tokens = configuration.batch_size * configuration.seq_length
    seconds = tokens / known(measured.tokens_per_second)
    return Expected(peak, seconds, seconds * iters, is_measured=configuration == before)


def _with_memory(model: Model, fitted: TrialRequest, backend: str) -> Model:
    """Return the model with the memory of its step, unless tables or a probe do not know it."""
    if memory_tables.is_shipped(model, fitted.configuration):
        return model
    table = memory_tables.table_of(backend)
    asked = PlannedModel(fitted.model.config, fitted.configuration, memory_on=table)
    try:
        (facts,) = find_facts([{model.model_name: asked}])
        return resolve.with_facts(model, facts)
    except YourAIError:  # the expected memory is only shown
        return model


def _measured_configuration(measured: TrialResult) -> Configuration:
    return replace(measured.config.configuration, weights=Weights.REAL)
