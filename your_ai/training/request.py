"""From a choice and what was asked for to what a worker is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from worker.protocol.messages import ModelSource, TrainingRequest, Weights
from your_ai.errors import UsageError
from your_ai.models import hub, presets, resolve, weight_files
from your_ai.models.resolve import Model
from your_ai.planning.device import Device
from your_ai.planning.plan import TrainingOptions, Trial, plan
from your_ai.supervision.probe import probe_models
from your_ai.training.source import Choice
from your_ai.units import show_size


def check_device(choice: Choice, device: Device) -> None:
    """Raise UsageError unless this is the device on which the choice was measured."""
    there, here = f"{choice.device} ({choice.backend})", f"{device.name} ({device.backend})"
    if there != here:
        problem = f"The results were measured on {there}, and this is {here}"
    elif choice.budget_bytes > device.memory_bytes:
        problem = (
            f"The results were measured with a budget of {show_size(choice.budget_bytes)}, and "
            f"{here} has {show_size(device.memory_bytes)} here"
        )
    else:
        return
    raise UsageError(
        f"{problem}: their limits do not hold. Measure here first, by `your_ai benchmark`; "
        "--export writes the configuration all the same."
    )


def describe_model(choice: Choice) -> Model:
    """The model by its config; of its weights nothing is read or downloaded.

    Raises:
        UsageError: when there is none, or none that can be trained for real.
        MachineError: when the hub cannot be reached.
    """
    if choice.model_name.startswith("your_ai/"):
        raise UsageError(
            f"{choice.name} exists only as synthesized weights, of no use trained; measure a real "
            "model first, by `your_ai benchmark --model ORG/NAME` or a folder."
        )
    preset = presets.all_presets().get(choice.name)
    is_preset = preset is not None and preset.model_name == choice.model_name
    return resolve.find(choice.name if is_preset else choice.model_name)


def with_weights(model: Model, choice: Choice) -> Model:
    """The model with a folder that has its weights and tokenizer, downloaded if need be.

    Raises:
        UsageError: when they cannot be had, or are not whole.
        MachineError: when the hub cannot be reached, or the disk is too small.
    """
    if model.path is None:
        sha = choice.revision or model.revision or hub.revision(model.model_name).sha
        folder = hub.download(model.model_name, sha, is_whole=weight_files.has_tokenizer)
        found = resolve.find(str(folder))
        model = replace(model, config=found.config, path=found.path, revision=sha)
    folder = Path(str(model.path))
    weight_files.check_folder(folder)
    if not weight_files.has_tokenizer(folder):
        raise UsageError(
            f"{folder} has no tokenizer ({', '.join(weight_files.TOKENIZER_FILES)}), which a "
            "training on texts needs; copy it there from where the model comes from."
        )
    return model


def with_layers(model: Model) -> Model:
    """The model with its size and layers, as its config declares them or, failing that, a probe.

    A probe imports mlx-lm once more, which takes seconds.

    Raises:
        UsageError: when mlx-lm cannot build it, or LoRA finds nothing to train in it.
    """
    try:
        return resolve.with_declared_facts(model)
    except UsageError:
        return resolve.with_facts(model, probe_models({model.model_name: model.config}))


def lora_keys(model: Model) -> tuple[str, ...]:
    """The projections of a layer that LoRA trains, by a probe; raises as `with_layers` does."""
    facts = probe_models({model.model_name: model.config})
    resolve.with_facts(model, facts)
    found = facts[model.model_name]
    return () if isinstance(found, str) else found.lora_keys


def trial_of(choice: Choice, model: Model, asked: Mapping[str, Any]) -> Trial:
    """The trial that trains the same: what fits a model, and what it takes, is asked of it.

    ``asked`` has the options by name; those that are ``None`` are as in the choice.

    Raises:
        UsageError: when an option does not fit the model.
    """

    def of(option: str, measured: Any) -> Any:
        return measured if asked[option] is None else asked[option]

    options = TrainingOptions(
        batch_size=of("batch_size", choice.batch_size),
        lora_rank=of("lora_rank", choice.lora_rank),
        lora_layers=of("num_layers", choice.lora_layers),
        seq_length=of("max_seq_length", choice.seq_length),
        quantize=choice.bits or 0,
        weights=Weights.REAL,
        grad_checkpoint=of("grad_checkpoint", choice.grad_checkpoint),
    )
    return plan([model], options, choice.budget_bytes)[0]


def spec_of(choice: Choice, trial: Trial, data: Path, asked: Mapping[str, Any]) -> TrainingRequest:
    """The whole training, in one part under the limit that was measured."""
    planned = trial.spec
    return TrainingRequest(
        model=ModelSource(planned.model.config, planned.model.path),
        quantization=planned.quantization,
        data=str(data.absolute()),
        adapter_path=str(asked["adapter_path"].absolute()),
        iters=asked["iters"],
        batch_size=planned.batch_size,
        parts=1,
        grad_accumulation_steps=asked["grad_accumulation_steps"],
        learning_rate=asked["learning_rate"],
        lora_rank=planned.lora_rank,
        lora_layers=planned.lora_layers,
        max_seq_length=planned.seq_length,
        grad_checkpoint=planned.grad_checkpoint,
        mask_prompt=asked["mask_prompt"],
        seed=asked["seed"],
        val_batches=asked["val_batches"],
        steps_per_eval=asked["steps_per_eval"],
        save_every=asked["save_every"],
        limit_bytes=choice.limit_bytes,
        budget_bytes=choice.budget_bytes,
        adapter_config={},
        restart=False,
    )
