"""The result of a trial, and of the searches that trials belong to.

Sizes named ``…_gb`` are in GB of 2^30 bytes, sizes named ``…_bytes`` are exact; times are seconds.
`docs/results.schema.json` is generated from these types and the docstrings of their fields.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import msgspec

from worker.protocol.configuration import Configuration
from worker.protocol.messages import Loaded, PhaseBegan, Step, Timed
from worker.protocol.requests import TrainingRequest, TrialRequest
from your_ai.models.quantization import Quantization
from your_ai.planning.distribution import Distribution
from your_ai.runs.expected_training import ExpectedTraining
from your_ai.runs.search_result import Column, ParetoPoint, Point, ProofOfOptimum
from your_ai.search.forecast import Tried
from your_ai.search.grid import Axes
from your_ai.search.search import Objective
from your_ai.supervision.outcome import Certainty, OutcomeKind
from your_ai.system.conditions import Conditions

Utc = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""A time in UTC, to the second."""

_BACKEND = {"type": "string", "description": "MLX backend: metal, cuda or cpu."}
DeviceInfo = Annotated[
    dict[str, Any],
    msgspec.Meta(extra_json_schema={"properties": {"backend": _BACKEND}, "required": ["backend"]}),
]
"""A device as MLX describes it, whose keys differ between backends."""


@dataclass(frozen=True, slots=True)
class TrialConfig(Configuration):
    """A trial's configuration, and how it was measured."""

    steps: int = 5
    """Number of measured training steps."""
    budget_bytes: int = 0
    """The budget in bytes."""
    seed: int = 0
    """Seed of the random weights and batches."""

    @classmethod
    def of(cls, request: TrialRequest | TrainingRequest, steps: int) -> TrialConfig:
        """Return the configuration of ``request``, with that number of ``steps``."""
        fields = asdict(request.configuration)
        return cls(**fields, steps=steps, budget_bytes=request.budget_bytes, seed=request.seed)

    @property
    def configuration(self) -> Configuration:
        """The configuration without the other fields."""
        return Configuration(**{n: getattr(self, n) for n in Configuration.__dataclass_fields__})


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimalConfig:
    """The best configuration that a search found; its figures are null if nothing passed."""

    model: str
    """The model's Hub id or path."""
    optimal_batch_size: int | None = None
    """The best configuration's batch size."""
    optimal_lora_rank: int | None = None
    """The best configuration's LoRA rank."""
    optimal_lora_layers: int | None = None
    """The best configuration's number of layers with adapters."""
    peak_memory_gb: float | None = None
    """The best configuration's peak memory in GB."""
    throughput_score: int | None = None
    """The best configuration's capacity score: batch × rank × layers, without the rank in full
    fine-tuning."""
    created_at: Utc
    """When the last trial of the search ended, in UTC."""
    needed_memory_gb: float | None = None
    """The best configuration's needed memory in GB."""
    needed_memory_bytes: int | None = None
    """The best configuration's needed memory in bytes."""
    tokens_per_second: float | None = None
    """The best configuration's training speed."""
    optimal_seq_length: int | None = None
    """The best configuration's sequence length in tokens."""
    optimal_quantization: str | None = None
    """The best configuration's quantization: none, the number of bits, or the mode."""
    optimal_grad_checkpoint: bool | None = None
    """Whether the best configuration recomputes activations to save memory."""
    objective: Objective
    """What was maximized: the capacity score, measured tokens per second, or the length."""
    exhaustive: bool
    """Whether the whole grid was tried."""
    grid: Axes
    """What was searched."""
    complete: bool
    """Whether the search is finished."""
    proven: bool
    """Whether failures caused by memory prove that no better configuration fits."""
    certificate: ProofOfOptimum
    """The proof that no better configuration fits."""
    pareto: tuple[ParetoPoint, ...]
    """Passing trials that no other trial beats.

    A trial beats another if it is at least as good in memory, capacity, length and speed, and
    better in one of them.
    """
    all_results: tuple[TrialResult, ...]
    """Every trial of the search, in order."""

    @property
    def best(self) -> TrialResult | None:
        """The trial of the best configuration."""
        names = Point.__dataclass_fields__
        optimum = {name: getattr(self, f"optimal_{name}") for name in names}
        # Version 0.1 varied only batch size, rank and layers.
        known = {name: value for name, value in optimum.items() if value is not None}
        for result in self.all_results:
            point = Point.of(result.config)
            if result.success and all(getattr(point, n) == value for n, value in known.items()):
                return result
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The longest sequences that fit, for several batch sizes."""

    model: str
    """The model's Hub id or path."""
    created_at: Utc
    """When the last trial ended, in UTC."""
    exhaustive: bool
    """Whether the whole grid was tried."""
    grid: Axes
    """What was searched."""
    complete: bool
    """Whether every length either fits or does not, by a trial or because a trial implies it."""
    proven: bool
    """Whether the failures that imply this were caused by memory."""
    columns: tuple[Column, ...]
    """The longest sequence for each batch size, with gradient checkpointing first."""
    all_results: tuple[TrialResult, ...]
    """Every trial, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """One trial: what was trained, how it ended, and what was measured."""

    preset: str
    """The preset's name, or the model as the user named it."""
    model_name: str
    """The model's Hub id or path."""
    params: str
    """The model's size, such as 8B."""
    success: bool
    """Whether every step ran within the budget."""
    peak_memory_gb: float | None = None
    """Peak memory in GB; null unless the trial passed."""
    error: str | None = None
    """Why the trial did not pass, in one line; null if it passed."""
    optimal_config: OptimalConfig | None = None
    """The search for this model's best configuration; null without a search."""
    ceiling: Ceiling | None = None
    """The longest sequences of this model that fit; null unless `ceiling` searched them."""
    outcome: OutcomeKind
    """How the trial ended."""
    certainty: Certainty = Certainty.CERTAIN
    """How certain the stated cause is."""
    evidence: str = ""
    """The facts on which the outcome is based."""
    started_at: Utc = ""
    """When the trial started, in UTC."""
    ended_at: Utc = ""
    """When the trial ended, in UTC."""
    index: int = 0
    """Position of the model in the run, starting at 1."""
    config: TrialConfig
    """What was trained, and how it was measured."""
    peak_memory_bytes: int | None = None
    """Peak memory in bytes: the largest MLX active memory over the measured steps."""
    needed_memory_gb: float | None = None
    """Needed memory in GB; null if the tight phase did not finish."""
    needed_memory_bytes: int | None = None
    """Needed memory in bytes."""
    weights_bytes: int | None = None
    """Memory of the weights in bytes, counted before the trial; null if it was unknown."""
    needed_memory_limit_bytes: int | None = None
    """MLX memory limit with which training takes no more than the needed memory, in bytes."""
    memory_limit_bytes: int | None = None
    """MLX memory limit with which the peak stayed within the budget, in bytes."""
    tokens_per_second: float | None = None
    """Training speed over the measured steps."""
    log: str | None = None
    """Path of the worker's log; null if no worker started."""
    log_excerpt: tuple[str, ...] = ()
    """The last informative lines of the log, if the trial did not pass."""
    advice: str | None = None
    """What to try next."""
    revision: str | None = None
    """The model's commit on the Hub."""
    wall_seconds: float | None = None
    """Duration of the worker process in seconds; null if no worker started."""
    exit_status: int | None = None
    """The worker's exit status; negative for a signal."""
    tokens_per_second_at_needed_memory: float | None = None
    """Training speed in the tight phase."""
    footprint_peak_bytes: int | None = None
    """Largest footprint of the worker, in bytes."""
    footprint_source: str | None = None
    """How the footprint was measured: phys_footprint or rss."""
    memory_pressure: str | None = None
    """The highest memory pressure that macOS reported."""
    log_discarded_bytes: int | None = None
    """Bytes removed from the log because it grew too large."""
    conditions_before: Conditions | None = None
    """Power and heat just before the worker started; null if no worker started."""
    conditions_after: Conditions | None = None
    """Power and heat as soon as the worker had ended; null if no worker started."""
    load: Loaded | None = None
    """The loaded model: sizes, parameters, duration."""
    steps: tuple[Step, ...] = ()
    """Every finished step of both phases."""
    phases: tuple[PhaseBegan, ...] = ()
    """Every phase that began."""
    memory_timeline: tuple[tuple[float, int, int], ...] = ()
    """Samples of [seconds, MLX active bytes, MLX cache bytes], thinned out; peaks are kept."""
    footprint_timeline: tuple[tuple[float, int], ...] = ()
    """Samples of [seconds, footprint bytes], thinned out; peaks are kept."""
    timed: tuple[Timed, ...] = ()
    """Steps and validations of further sequence lengths, if data was given."""
    data_lengths: Distribution | None = None
    """How long the samples of the data are; null if none was given, or without a tokenizer."""
    expected_training: ExpectedTraining | None = None
    """What a training on the data is expected to take; null unless the trial passed."""
    device: DeviceInfo | None = None
    """The device as described by MLX."""
    versions: dict[str, str] | None = None
    """Versions of Python, mlx and mlx-lm in the worker."""

    @property
    def searched(self) -> tuple[TrialResult, ...]:
        """Every trial of this model's search; none without a search."""
        found = self.optimal_config or self.ceiling
        return found.all_results if found else ()

    @property
    def key(self) -> str:
        """The key of the trial, unique within its run."""
        return trial_key(self.index, self.config)

    @property
    def is_final(self) -> bool:
        """Whether the outcome is final, so that a resumed run does not repeat the trial.

        It is not for trials that were interrupted or skipped, or whose weights were missing.
        """
        if self.outcome in (OutcomeKind.INTERRUPTED, OutcomeKind.SKIPPED):
            return False
        return self.exit_status is not None or self.outcome is not OutcomeKind.ERROR

    @property
    def is_out_of_memory(self) -> bool:
        """Whether the trial ran out of memory in the tight phase, not because MLX ran ahead."""
        return self.outcome is OutcomeKind.OOM and self.needed_memory_bytes is None

    @property
    def proves_too_large(self) -> bool:
        """Whether the trial is known, not just supposed, to have run out of memory."""
        return self.is_out_of_memory and self.certainty in (Certainty.CERTAIN, Certainty.HIGH)

    @property
    def tried(self) -> Tried:
        """The result in the form that a search takes."""
        return Tried(
            self.config.configuration,
            fits=self.success,
            needed_bytes=self.needed_memory_bytes,
            tokens_per_second=self.tokens_per_second,
            too_large=self.proves_too_large or self.outcome is OutcomeKind.OVER_BUDGET,
        )


def trial_key(index: int, c: Configuration) -> str:
    """Return the key of a trial of the run's model ``index``; it is also part of file names."""
    sizes = f"{c.batch_size}x{c.lora_rank}x{c.lora_layers}x{c.seq_length}"
    stored = "" if c.grad_checkpoint else "-stored"
    return f"{index:02d}-{sizes}-{Quantization.of(c).name}{stored}"


def trial_result(fields: Any) -> TrialResult:
    """Return the trial result in a journal record."""
    return msgspec.convert(fields, TrialResult)
