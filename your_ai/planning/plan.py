"""The trials of a run, in order, and when a trial may be skipped: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worker.protocol.messages import Configuration, ModelSource, TrialRequest, Weights
from your_ai.errors import UsageError
from your_ai.models.resolve import Model
from your_ai.units import parameters_of

DEFAULT_LORA_LAYERS = 16
DEFAULT_BITS = 4


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """The training that the user asked for, before it is fitted to a model.

    ``lora_layers`` of ``None`` means 16, or all layers of a smaller model. ``quantize`` is the
    number of bits, 0 for none, ``None`` for the default: 4, or as the model is stored.
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
    """One model with one configuration, run once in one fresh worker. ``index`` counts from 1."""

    index: int
    model: Model
    request: TrialRequest

    @property
    def configuration(self) -> Configuration:
        """What is trained."""
        return self.request.configuration

    def with_configuration(self, configuration: Configuration) -> Trial:
        """The same trial with another configuration."""
        return replace(self, request=replace(self.request, configuration=configuration))


def plan(models: Iterable[Model], options: TrainingOptions, budget_bytes: int) -> list[Trial]:
    """One trial per model, smallest first; models of equal size keep their order.

    Raises:
        UsageError: if the options do not fit one of the models.
    """
    ordered = sorted(models, key=lambda model: parameters_of(model.params))
    return [
        Trial(index, model, _request(model, options, budget_bytes))
        for index, model in enumerate(ordered, start=1)
    ]


def reason_to_skip(trial: Trial, out_of_memory: Sequence[Trial]) -> str | None:
    """Why ``trial`` need not run: a smaller model ran out of memory. ``None`` if it must run.

    Only a proven OOM counts. An over-budget model ended by itself within seconds, so larger ones
    are tried: that costs little, and their own figures are worth having.
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
            f"{options.lora_layers} layers with adapters are more than the {model.layers} that "
            f"{model.name} has; ask for at most {model.layers}."
        )
    longest = model.max_seq_length
    if longest is not None and options.seq_length > longest:
        raise UsageError(
            f"Sequences of {options.seq_length} tokens are more than the {longest} that "
            f"{model.name} takes; ask for at most {longest}."
        )


def _quantization(model: Model, options: TrainingOptions) -> tuple[dict[str, Any], int | None]:
    """The config to build from, and the bits per weight in training.

    Synthesized weights can have any quantization; real ones keep that of their files.
    """
    stored, asked = model.stored_bits, options.quantize
    is_real = options.weights is Weights.REAL
    foreign = "quantization_config" in model.config and stored is None
    if foreign and (asked is None or is_real):
        raise UsageError(
            f"{model.name} is quantized in a form that is not MLX's own; convert it with "
            "`mlx_lm.convert` and name that folder."
        )
    if stored is None:
        return model.config, (DEFAULT_BITS if asked is None else asked) or None
    if asked in (None, stored):
        return model.config, stored
    if is_real:
        raise UsageError(
            f"--quantize {asked or 'none'}: {model.name} is quantized to {stored} bits already; "
            "leave the option out to train it as it is."
        )
    config = {key: value for key, value in model.config.items() if key != "quantization"}
    return config, asked or None
