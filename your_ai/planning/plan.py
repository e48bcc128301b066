"""Plan the trials of a run, and decide which of them may be skipped: pure."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worker.protocol.configuration import (
    ALL_KEYS,
    ATTENTION_KEYS,
    Configuration,
    FineTuneType,
    Optimizer,
    Weights,
)
from worker.protocol.requests import ModelSource, PlannedModel, TrialRequest
from your_ai.errors import UsageError
from your_ai.models.quantization import NONE, Quantization, named
from your_ai.models.resolve import Model
from your_ai.planning.training_data import TrainingData
from your_ai.units import parameters_of

DEFAULT_LORA_LAYERS = 16
ALL_LAYERS = -1
"""Instead of a number of layers, as in mlx-lm."""
DEFAULT_QUANTIZATION = "4"


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """The user's training options, before they are adapted to a model.

    ``lora_layers=None`` means 16, or all layers of a smaller model. ``quantize`` is the name of a
    quantization; ``None`` means the model's own, else ``default_quantize``, or none in full
    fine-tuning.
    """

    batch_size: int = 2
    lora_rank: int = 64
    lora_layers: int | None = None
    seq_length: int = 1024
    steps: int = 5
    quantize: str | None = None
    group_size: int | None = None
    weights: Weights = Weights.SYNTHETIC
    grad_checkpoint: bool = True
    fine_tune_type: FineTuneType = FineTuneType.LORA
    lora_keys: tuple[str, ...] = ALL_KEYS
    lora_dropout: float = 0.0
    optimizer: Optimizer = Optimizer.ADAM
    optimizer_config: tuple[str, ...] = ()
    grad_accumulation_steps: int = 1
    default_quantize: str = DEFAULT_QUANTIZATION

    @property
    def is_full(self) -> bool:
        """Whether all weights of the layers are trained."""
        return self.fine_tune_type is FineTuneType.FULL


@dataclass(frozen=True, slots=True)
class Trial:
    """One model with one configuration, run once in one fresh worker process.

    ``index`` is the model's position in the run, starting at 1. ``data`` is what the training is
    meant for, if the user gave data. ``others`` are the same with other quantizations, in which
    more bytes are needed for the weights.
    """

    index: int
    model: Model
    request: TrialRequest
    data: TrainingData | None = None
    others: tuple[Trial, ...] = ()

    @property
    def weights_bytes(self) -> int:
        """The memory of the weights, as a probe or the preset counted it; 0 if it is unknown."""
        return self.model.weights_in(self.configuration)

    @property
    def is_too_large(self) -> bool:
        """Whether the weights alone exceed the budget, so that no worker is needed.

        Weights in a local folder may differ from its config, so the worker counts them.
        """
        is_in_folder = self.configuration.weights is Weights.REAL and self.request.model.path
        return not is_in_folder and self.weights_bytes > self.request.budget_bytes

    @property
    def configuration(self) -> Configuration:
        """The configuration to train with."""
        return self.request.configuration

    @property
    def quantizations(self) -> tuple[Quantization, ...]:
        """Its quantization and the others, least memory first."""
        return tuple(Quantization.of(each.configuration) for each in (self, *self.others))

    def with_configuration(self, configuration: Configuration) -> Trial:
        """Return this trial with another configuration, in one of its quantizations."""
        wanted = Quantization.of(configuration)
        same = (t for t in self.others if Quantization.of(t.configuration) == wanted)
        own = next(same, self)
        request = replace(own.request, configuration=configuration)
        return replace(own, index=self.index, request=request, others=())


def plan(
    models: Iterable[Model],
    options: TrainingOptions,
    budget_bytes: int,
    data: Mapping[str, TrainingData] | None = None,
) -> list[Trial]:
    """Return one trial per model, smallest first; models of equal size keep their order.

    ``data`` maps Hub ids or paths of models to the data that they are to be trained on.

    Raises:
        UsageError: if the options do not fit one of the models.
    """
    ordered = sorted(models, key=lambda model: parameters_of(model.params))
    known = data or {}
    return [
        _trial(index, model, options, budget_bytes, known.get(model.model_name))
        for index, model in enumerate(ordered, start=1)
    ]


def reason_to_skip(trial: Trial, out_of_memory: Sequence[Trial]) -> str | None:
    """Return why ``trial`` need not run, or ``None`` if it must.

    It need not run if a smaller model ran out of memory, even if that is only probable, because a
    larger one would endanger the machine. Models over budget do not count: they end by themselves
    within seconds, so it costs little to measure larger ones, too.
    """
    size = parameters_of(trial.model.params)
    for other in out_of_memory:
        if parameters_of(other.model.params) < size:
            return f"larger than {other.model.name}, which ran out of memory"
    return None


def configuration_of(
    model: Model, options: TrainingOptions
) -> tuple[dict[str, Any], Configuration]:
    """Return the config to build the model from, and the configuration to train it with.

    The number of layers is the most that is wanted if that of the model is not yet known.

    Raises:
        UsageError: if the options do not fit the model.
    """
    config, quantization = _quantization(model, options)
    is_full = options.is_full
    return config, Configuration(
        weights=options.weights,
        quantization_bits=quantization.bits,
        quantization_mode=quantization.mode,
        group_size=quantization.group_size,
        batch_size=options.batch_size,
        lora_rank=0 if is_full else options.lora_rank,
        lora_layers=_layers(model, options),
        seq_length=options.seq_length,
        grad_checkpoint=options.grad_checkpoint,
        fine_tune_type=options.fine_tune_type,
        lora_keys=() if is_full else options.lora_keys,
        lora_dropout=0.0 if is_full else options.lora_dropout,
        optimizer=options.optimizer,
        optimizer_config=options.optimizer_config,
        grad_accumulation_steps=options.grad_accumulation_steps,
    )


def planned(model: Model, options: TrainingOptions) -> PlannedModel:
    """Return what a probe is asked about the model; raise UsageError like `configuration_of`."""
    return PlannedModel(*configuration_of(model, options))


def is_trainable_by_all(options: TrainingOptions) -> bool:
    """Return whether every preset can be trained like that, so that it need not be probed."""
    is_default_group = options.group_size is None
    return (
        is_default_group
        and options.fine_tune_type is not FineTuneType.DORA
        and (options.is_full or options.lora_keys in (ALL_KEYS, ATTENTION_KEYS))
    )


def _layers(model: Model, options: TrainingOptions) -> int:
    most = model.layers or sys.maxsize
    if options.lora_layers == ALL_LAYERS:
        return most
    return options.lora_layers or min(DEFAULT_LORA_LAYERS, most)


def _trial(
    index: int, model: Model, options: TrainingOptions, budget: int, data: TrainingData | None
) -> Trial:
    """Return the trial of a model; with batches of ``data`` it has their longest sequences."""
    if data is None or not data.train:
        return Trial(index, model, _request(model, options, budget), data)
    request = _request(model, replace(options, seq_length=data.seq_length), budget)
    train, valid = data.train_of(options.batch_size), data.valid_of(options.batch_size)
    shorter = tuple(n for n in train.typical if n < data.seq_length) if train else ()
    validates = valid is not None and data.schedule.val_batches != 0
    request = replace(
        request,
        lengths=shorter,
        validation_lengths=valid.typical if valid and validates else (),
    )
    return Trial(index, model, request, data)


def _request(model: Model, options: TrainingOptions, budget_bytes: int) -> TrialRequest:
    _check(model, options)
    config, configuration = configuration_of(model, options)
    return TrialRequest(ModelSource(config, model.path), configuration, options.steps, budget_bytes)


def check_layers(model: Model, options: TrainingOptions) -> None:
    """Raise UsageError if the model has fewer layers than are to be trained."""
    if options.lora_layers is not None and options.lora_layers > model.layers:
        raise UsageError(
            f"Cannot train {options.lora_layers} layers of {model.name}, which has only "
            f"{model.layers}. Use at most {model.layers}."
        )


def _check(model: Model, options: TrainingOptions) -> None:
    check_layers(model, options)
    longest = model.max_seq_length
    if longest is not None and options.seq_length > longest:
        raise UsageError(
            f"A sequence length of {options.seq_length} tokens is too long for {model.name}. "
            f"Use at most {longest}."
        )


def _quantization(model: Model, options: TrainingOptions) -> tuple[dict[str, Any], Quantization]:
    """Return the config to build the model from, and the quantization of the weights in training.

    Synthetic weights can have any quantization; real weights keep that of their files.
    """
    stored, wanted = model.stored, _wanted(options, model.stored)
    is_real = options.weights is Weights.REAL
    is_other_format = model.config.get("quantization_config") is not None and stored is None
    if is_other_format and (wanted is None or is_real):
        raise UsageError(
            f"The quantization of {model.name} is not in MLX's format. Convert the model with "
            "`mlx_lm.convert`, then pass the resulting folder."
        )
    if stored is None:
        quantization = wanted or named(NONE if options.is_full else options.default_quantize)
        _check_full(model, options, quantization)
        return model.config, quantization
    if wanted in (None, stored):
        _check_full(model, options, stored)
        return model.config, stored
    if is_real:
        raise UsageError(
            f"--quantize {wanted.name} is not possible: {model.name} is already quantized "
            f"({stored.label}). To train it as it is, leave out --quantize."
        )
    _check_full(model, options, wanted)
    dropped = ("quantization", "quantization_config")
    return {key: value for key, value in model.config.items() if key not in dropped}, wanted


def _wanted(options: TrainingOptions, stored: Quantization | None) -> Quantization | None:
    """Return the quantization that was asked for; without a group size, the stored one is meant."""
    name, group_size = options.quantize, options.group_size
    if stored is not None and name in (None, stored.name) and group_size is None:
        return None
    if name is None and group_size is None:
        return None
    default = NONE if options.is_full else options.default_quantize
    chosen = name or (stored.name if stored else default)
    if group_size is not None and not chosen.isdecimal():
        raise UsageError(f"--group-size has no effect: the weights are {named(chosen).label}.")
    return named(chosen, group_size)


def _check_full(model: Model, options: TrainingOptions, quantization: Quantization) -> None:
    if options.is_full and quantization.bits is not None:
        raise UsageError(
            f"Full fine-tuning cannot train quantized weights, and {model.name} has "
            f"{quantization.label} weights. Use --fine-tune-type lora, or unquantized weights."
        )
