"""Which trials a run consists of, in which order, and when it stops: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from worker.protocol import ModelSource, Quantization, TrialSpec, Weights
from your_ai.errors import UsageError
from your_ai.models.resolve import Model
from your_ai.search.grid import Configuration
from your_ai.units import parameters_of

DEFAULT_LORA_LAYERS = 16


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What to train with. ``lora_layers`` of ``None`` is 16, or all that a smaller model has.

    ``quantize`` of ``None`` is the default: 4 bits, or as a model is quantized already; 0 is not
    at all, else it is the number of bits.
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
    """One model with one configuration, to be run once in one fresh worker; the first is 1."""

    index: int
    model: Model
    spec: TrialSpec

    @property
    def bits(self) -> int | None:
        """Bits a weight; ``None`` when the weights are not quantized."""
        if self.spec.quantization is not None:
            return self.spec.quantization.bits
        return self.model.stored_bits if "quantization" in self.spec.model.config else None

    @property
    def configuration(self) -> Configuration:
        """The part of it that a search varies."""
        return Configuration(self.spec.batch_size, self.spec.lora_rank, self.spec.lora_layers)

    def with_configuration(self, configuration: Configuration) -> Trial:
        """The same trial with another configuration."""
        spec = replace(
            self.spec,
            batch_size=configuration.batch_size,
            lora_rank=configuration.lora_rank,
            lora_layers=configuration.lora_layers,
        )
        return replace(self, spec=spec)


def plan(models: Iterable[Model], options: TrainingOptions, budget_bytes: int) -> list[Trial]:
    """One trial a model, smallest first; models of equal size stay in the order given.

    Raises:
        UsageError: when the options do not fit one of the models.
    """
    ordered = sorted(models, key=lambda model: parameters_of(model.params))
    return [
        Trial(index, model, _spec(model, options, budget_bytes))
        for index, model in enumerate(ordered, start=1)
    ]


def reason_to_skip(trial: Trial, out_of_memory: Sequence[Trial]) -> str | None:
    """Why ``trial`` need not run: a smaller model ran out of memory. ``None`` when it must run.

    Only a proven OOM counts. An over-budget model ended by itself within seconds, so the larger
    ones are tried: that costs little, and their own figures are worth having.
    """
    size = parameters_of(trial.model.params)
    for other in out_of_memory:
        if parameters_of(other.model.params) < size:
            return f"larger than {other.model.name}, which ran out of memory"
    return None


def _spec(model: Model, options: TrainingOptions, budget_bytes: int) -> TrialSpec:
    _check(model, options)
    config, quantization = _quantization(model, options)
    layers = options.lora_layers or min(DEFAULT_LORA_LAYERS, model.layers)
    return TrialSpec(
        model=ModelSource(config, model.path),
        weights=options.weights,
        quantization=quantization,
        batch_size=options.batch_size,
        lora_rank=options.lora_rank,
        lora_layers=layers,
        seq_length=options.seq_length,
        steps=options.steps,
        grad_checkpoint=options.grad_checkpoint,
        budget_bytes=budget_bytes,
    )


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


def _quantization(
    model: Model, options: TrainingOptions
) -> tuple[dict[str, object], Quantization | None]:
    """The config to build from and what to quantize to on top of it.

    Synthesized weights can have any quantization; real ones keep the one that their files have.
    """
    stored = model.stored_bits
    asked = options.quantize
    foreign = "quantization_config" in model.config and stored is None
    if foreign and (asked is None or options.weights is Weights.REAL):
        raise UsageError(
            f"{model.name} is quantized in a form that is not MLX's own; convert it with "
            "`mlx_lm.convert` and name that folder."
        )
    if stored is None or asked == stored or asked is None:
        bits = None if stored is not None else (4 if asked is None else asked)
        return model.config, Quantization(bits) if bits else None
    if options.weights is Weights.REAL:
        raise UsageError(
            f"--quantize {asked or 'none'}: {model.name} is quantized to {stored} bits already; "
            "leave the option out to train it as it is."
        )
    config = {key: value for key, value in model.config.items() if key != "quantization"}
    return config, Quantization(asked) if asked else None
