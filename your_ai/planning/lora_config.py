"""A training in the terms of ``mlx_lm.lora --config``: its YAML file, read and checked."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from worker.protocol.configuration import (
    ALL_KEYS,
    ATTENTION_KEYS,
    Configuration,
    FineTuneType,
    Optimizer,
)
from your_ai.models.quantization import NONE
from your_ai.planning import lora_kinds as kinds
from your_ai.planning.lora_kinds import Kind
from your_ai.planning.lora_yaml import Document, read

_REQUIRED = ("rank", "scale", "dropout")  # mlx_lm.lora has no defaults for a part of them
_ONLY_IN_TRAINING = ("train", "seed", "learning_rate", "lr_schedule", "steps_per_report")
_NESTED = ("fine_tune_type", "optimizer", "optimizer_config", "lr_schedule", "hf_dataset")
_FILES = ("adapter_path", "resume_adapter_file")


@dataclass(frozen=True, slots=True)
class Schedule:
    """A learning rate schedule of mlx.optimizers; ``warmup`` is in optimizer steps."""

    name: str
    arguments: tuple[int | float, ...]
    warmup: int = 0
    warmup_init: int | float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    """What a file sets, with the defaults of mlx_lm.lora for the rest.

    The fields are the keys of the file; ``lora_*`` are those of its ``lora_parameters``.
    ``optimizer_config`` has the arguments of the chosen optimizer, each as NAME=JSON.
    ``hf_dataset`` has the names of data sets on the Hub. ``given`` has the keys in the file.
    """

    model: str = "Qwen/Qwen3-0.6b"
    fine_tune_type: FineTuneType = FineTuneType.LORA
    optimizer: Optimizer = Optimizer.ADAM
    optimizer_config: tuple[str, ...] = ()
    data: str = "mlx-community/WikiSQL"
    seed: int = 0
    num_layers: int = 16
    batch_size: int = 4
    iters: int = 1000
    val_batches: int = 25
    learning_rate: int | float = 1e-5
    steps_per_report: int = 10
    steps_per_eval: int = 200
    resume_adapter_file: str | None = None
    adapter_path: str = "adapters"
    save_every: int = 100
    train: bool = False
    test: bool = False
    test_batches: int = 500
    max_seq_length: int = 2048
    grad_checkpoint: bool = False
    grad_accumulation_steps: int = 1
    lr_schedule: Schedule | None = None
    lora_rank: int = 8
    lora_keys: tuple[str, ...] = ALL_KEYS
    lora_dropout: int | float = 0.0
    lora_scale: int | float = 20.0
    mask_prompt: bool = False
    hf_dataset: tuple[str, ...] = ()
    prompt_feature: str = "prompt"
    completion_feature: str = "completion"
    text_feature: str = "text"
    chat_feature: str = "messages"
    given: tuple[str, ...] = ()

    @property
    def renamed_fields(self) -> dict[str, str]:
        """The keys that give fields of the data another name, each with mlx-lm's own name."""
        names = ("prompt_feature", "completion_feature", "text_feature", "chat_feature")
        own = {name: str(getattr(_DEFAULTS, name)) for name in names}
        return {name: default for name, default in own.items() if getattr(self, name) != default}

    def configuration(self) -> Configuration:
        """Return this training of a model that is not quantized and has any number of layers."""
        is_full = self.fine_tune_type is FineTuneType.FULL
        return Configuration(
            batch_size=self.batch_size,
            lora_rank=0 if is_full else self.lora_rank,
            lora_layers=self.num_layers if self.num_layers > 0 else sys.maxsize,
            seq_length=self.max_seq_length,
            grad_checkpoint=self.grad_checkpoint,
            fine_tune_type=self.fine_tune_type,
            lora_keys=() if is_full else self.lora_keys,
            lora_dropout=0.0 if is_full else float(self.lora_dropout),
            optimizer=self.optimizer,
            optimizer_config=self.optimizer_config,
            grad_accumulation_steps=self.grad_accumulation_steps,
        )

    def schedule(self) -> dict[str, Any] | None:
        """Return ``lr_schedule`` as in the file, if it has one."""
        return None if self.lr_schedule is None else asdict(self.lr_schedule)

    def options(self) -> dict[str, Any]:
        """Return the fields of `TrainingOptions`: mlx_lm.lora takes the weights as they are."""
        return {**self.training(), "default_quantize": NONE}

    def training(self) -> dict[str, Any]:
        """Return the fields of `TrainingOptions` other than those about the weights."""
        return {
            "batch_size": self.batch_size,
            "lora_rank": self.lora_rank,
            "lora_layers": self.num_layers if self.num_layers > 0 else -1,
            "seq_length": self.max_seq_length,
            "grad_checkpoint": self.grad_checkpoint,
            "fine_tune_type": self.fine_tune_type,
            "lora_keys": self.lora_keys,
            "lora_dropout": float(self.lora_dropout),
            "optimizer": self.optimizer,
            "optimizer_config": self.optimizer_config,
            "grad_accumulation_steps": self.grad_accumulation_steps,
        }

    def without_effect(self) -> list[str]:
        """Return the keys in the file that change neither memory nor speed, in its order."""
        names = {*kinds.IGNORED, *_ONLY_IN_TRAINING, *_FILES} - ({"train"} if self.train else set())
        return [key for key in self.given if key in names]


_DEFAULTS = LoraConfig()


def read_config(path: Path) -> LoraConfig:
    """Return the training that a file for ``mlx_lm.lora --config`` describes.

    As in mlx_lm.lora, a key that is null has its default.

    Raises:
        UsageError: if the file cannot be read, is not valid YAML, or has a key or value that
            mlx_lm.lora does not know.
    """
    document = read(path)
    values = {key: value for key, value in document.values.items() if value is not None}
    _check(document, values, kinds.TOP, instead=kinds.RENAMED)
    optimizer = Optimizer(values.get("optimizer", LoraConfig().optimizer).lower())
    fine_tune_type = FineTuneType(values.get("fine_tune_type", FineTuneType.LORA))
    names = {field.name for field in fields(LoraConfig)}
    return LoraConfig(
        **{name: values[name] for name in names & values.keys() if name not in _NESTED},
        fine_tune_type=fine_tune_type,
        optimizer=optimizer,
        optimizer_config=_optimizer_config(document, values, optimizer),
        lr_schedule=_schedule(document, values),
        hf_dataset=_hub_data(document, values),
        **_lora_parameters(document, values, fine_tune_type),
        given=tuple(values),
    )


def differences(before: LoraConfig, now: LoraConfig) -> list[str]:
    """Return what differs between two configurations, key by key, as shown."""
    changed = [
        (field.name, getattr(now, field.name), getattr(before, field.name))
        for field in fields(LoraConfig)
        if field.name != "given"
    ]
    return [
        f"{name.replace('lora_', 'lora_parameters.')} {_text(new)} (was {_text(old)})"
        for name, new, old in changed
        if new != old
    ]


def _check(
    document: Document,
    values: Mapping[Any, Any],
    known: Mapping[str, Kind],
    within: str = "",
    instead: Mapping[str, str] | None = None,
) -> None:
    """Raise UsageError for the first key of a mapping that is unknown or has a wrong value."""
    for key, value in values.items():
        name = f"{within}{key}"
        if key not in known:
            raise document.unknown(name, known, (instead or {}).get(key))
        if not known[key].accepts(value):
            raise document.must_be(name, known[key].name, value)


def _optimizer_config(
    document: Document, values: Mapping[str, Any], optimizer: Optimizer
) -> tuple[str, ...]:
    """Return the arguments of the chosen optimizer; those of others are not used."""
    configs = values.get("optimizer_config", {})
    mapping = Kind("a mapping", lambda value: isinstance(value, dict))
    anything = Kind("anything", lambda value: True)
    known = {each.value: mapping if each is optimizer else anything for each in Optimizer}
    _check(document, configs, known, "optimizer_config.")
    arguments = configs.get(optimizer.value, {})
    name = f"optimizer_config.{optimizer}"
    _check(document, arguments, kinds.OPTIMIZERS[optimizer], f"{name}.")
    has_momentum = arguments.get("momentum", 0) > 0 and arguments.get("dampening", 0) == 0
    if optimizer is Optimizer.SGD and arguments.get("nesterov") and not has_momentum:
        problem = "nesterov requires a momentum above 0 and no dampening."
        raise document.error(f"{name}.nesterov", problem)
    return tuple(f"{key}={json.dumps(arguments[key])}" for key in sorted(arguments))


def _schedule(document: Document, values: Mapping[str, Any]) -> Schedule | None:
    schedule = values.get("lr_schedule")
    if not schedule:
        return None
    _check(document, schedule, kinds.SCHEDULE, "lr_schedule.")
    for key in ("name", "arguments"):
        if key not in schedule:
            raise document.error("lr_schedule", f"lr_schedule must have {key}.")
    name, arguments = schedule["name"], schedule["arguments"]
    least, most = kinds.SCHEDULES[name]
    if not least <= len(arguments) <= most:
        count = str(least) if least == most else f"{least} or {most}"
        raise document.error(
            "lr_schedule.arguments", f"{name} has {count} arguments, not {len(arguments)}."
        )
    return Schedule(**{**schedule, "arguments": tuple(arguments)})


def _lora_parameters(
    document: Document, values: Mapping[str, Any], fine_tune_type: FineTuneType
) -> dict[str, Any]:
    """Return the fields for ``lora_parameters``; full fine-tuning ignores them."""
    parameters = values.get("lora_parameters")
    if parameters is None:
        return {}
    if "alpha" in parameters:
        raise document.error(
            "lora_parameters.alpha",
            "mlx_lm.lora has no alpha in lora_parameters. Use scale, which is alpha / rank.",
        )
    _check(document, parameters, kinds.LORA, "lora_parameters.")
    missing = [key for key in _REQUIRED if key not in parameters]
    if missing and fine_tune_type is not FineTuneType.FULL:
        raise document.error(
            "lora_parameters",
            f"lora_parameters must have rank, scale and dropout, but lacks {', '.join(missing)}.",
        )
    keys = tuple(sorted({*(parameters.get("keys") or ALL_KEYS)}))  # their order does not matter
    if parameters.get("keys") and keys in (ALL_KEYS, ATTENTION_KEYS):
        raise document.error(
            "lora_parameters.keys",
            f"{keys[0]} is not the name of a module. Use the names of projections, such as "
            "self_attn.q_proj, or leave out keys for all of them.",
        )
    found = {f"lora_{key}": parameters[key] for key in _REQUIRED if key in parameters}
    return {**found, "lora_keys": keys}


def _hub_data(document: Document, values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the data sets in ``hf_dataset``, which is a mapping or a list of them."""
    data = values.get("hf_dataset") or []
    sets: Sequence[Any] = [data] if isinstance(data, dict) else data
    for each in sets:
        if not isinstance(each, dict):
            raise document.must_be("hf_dataset", "a mapping, or a list of mappings", each)
        _check(document, each, kinds.HUB_DATA, "hf_dataset.")
        if "path" not in each:
            raise document.error("hf_dataset", "hf_dataset must have path.")
    return tuple(each["path"] for each in sets)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return json.dumps(value) if isinstance(value, bool | None) else str(value)
