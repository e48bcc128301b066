"""Plan the trials of a run, and decide which of them may be skipped: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worker.protocol.configuration import Configuration, Weights
from worker.protocol.requests import ModelSource, TrialRequest
from your_ai.errors import UsageError
from your_ai.models.resolve import Model
from your_ai.units import parameters_of

DEFAULT_LORA_LAYERS = 16
DEFAULT_BITS = 4


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """The user's training options, before they are adapted to a model.

    ``lora_layers=None`` means 16, or all layers of a smaller model. ``quantize`` is the number of
    bits: 0 for no quantization, ``None`` for the default, which is 4 or the model's own.
    """

    batch_size: int = 2
    lora_rank: int = 64
    lora_layers: int | None = None
    seq_length: int = 1024
    steps: int = 5
    quantize: int | None = None
    weights: Weights = Weights.SYNTHETIC
    grad_checkpoint: bool = True


@dataclass(frozen=True, slots=True)
class Trial:
    """One model with one configuration, run once in one fresh worker process.

    ``index`` is the model's position in the run, starting at 1.
    """

    index: int
    model: Model
    request: TrialRequest

    @property
    def configuration(self) -> Configuration:
        """The configuration to train with."""
        return self.request.configuration

    def with_configuration(self, configuration: Configuration) -> Trial:
        """Return this trial with another configuration."""
        return replace(self, request=replace(self.request, configuration=configuration))


def plan(models: Iterable[Model], options: TrainingOptions, budget_bytes: int) -> list[Trial]:
    """Return one trial per model, smallest first; models of equal size keep their order.

    Raises:
        UsageError: if the options do not fit one of the models.
    """
    ordered = sorted(models, key=lambda model: parameters_of(model.params))
    return [
        Trial(index, model, _request(model, options, budget_bytes))
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


def _request(model: Model, options: TrainingOptions, budget_bytes: int) -> TrialRequest:
    _check(model, options)
    config, bits = _quantization(model, options)
    configuration = Configuration(
        weights=options.weights,
        quantization_bits=bits,
        batch_size=options.batch_size,
        lora_rank=options.lora_rank,
        lora_layers=options.lora_layers or min(DEFAULT_LORA_LAYERS, model.layers),
        seq_length=options.seq_length,
        grad_checkpoint=options.grad_checkpoint,
    )
    return TrialRequest(ModelSource(config, model.path), configuration, options.steps, budget_bytes)


def _check(model: Model, options: TrainingOptions) -> None:
    if options.lora_layers is not None and options.lora_layers > model.layers:
        raise UsageError(
            f"Cannot train {options.lora_layers} layers of {model.name}, which has only "
            f"{model.layers}. Use at most {model.layers}."
        )
    longest = model.max_seq_length
    if longest is not None and options.seq_length > longest:
        raise UsageError(
            f"A sequence length of {options.seq_length} tokens is too long for {model.name}. "
            f"Use at most {longest}."
        )


def _quantization(model: Model, options: TrainingOptions) -> tuple[dict[str, Any], int | None]:
    """Return the config to build the model from, and the bits per weight in training.

    Synthetic weights can have any quantization; real weights keep that of their files.
    """
    stored, requested = model.stored_bits, options.quantize
    is_real = options.weights is Weights.REAL
    is_other_format = model.config.get("quantization_config") is not None and stored is None
    if is_other_format and (requested is None or is_real):
        raise UsageError(
            f"The quantization of {model.name} is not in MLX's format. Convert the model with "
            "`mlx_lm.convert`, then pass the resulting folder."
        )
    if stored is None:
        return model.config, (DEFAULT_BITS if requested is None else requested) or None
    if requested in (None, stored):
        return model.config, stored
    if is_real:
        raise UsageError(
            f"--quantize {requested or 'none'} is not possible: {model.name} is already quantized "
            f"to {stored} bits. To train it as it is, leave out --quantize."
        )
    config = {key: value for key, value in model.config.items() if key != "quantization"}
    return config, requested or None
