"""Estimate a trial's memory from what MLX does in a training step: pure, without MLX.

Weights and adapters are counted exactly. What a step takes is interpolated in tables that the
worker makes: it traces the step of the model's own class and follows MLX's evaluation of the graph
(worker/step_graph). Nothing in them is fitted to measurements.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from worker.protocol.configuration import Configuration, FineTuneType, Optimizer
from worker.protocol.memory import MemoryFacts, StepMemory, Table
from your_ai.models import memory_tables
from your_ai.models.resolve import Model

CHECKED_VERSIONS = {"mlx": "0.32.4", "mlx-lm": "0.32.2"}
"""The versions with which estimates were compared with measurements (docs/measurements.md)."""

_STATE_COPIES = {
    Optimizer.ADAM: 2,
    Optimizer.ADAMW: 2,
    Optimizer.MUON: 1,
    Optimizer.SGD: 1,
    Optimizer.ADAFACTOR: 0,
}
"""Arrays as large as the trained weights that an optimizer keeps (mlx.optimizers)."""
_TRACED_COPIES = _STATE_COPIES[Optimizer.ADAM]
"""Those in the tables, which are made with Adam."""

_ERROR = 0.15
"""Relative error on CUDA and the CPU. docs/measurements.md names the few that were off by more."""

_METAL_ERROR = 0.3
"""Relative error on Metal, which was only compared with public reports."""

_UNCHECKED_ERROR = 0.3
"""Relative error of kinds of training that were not compared with measurements."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimated memory of a trial, in bytes.

    ``resident_bytes`` is the size of the loaded weights and adapters, ``needed_bytes`` the needed
    memory, ``run_ahead_bytes`` the peak that MLX reaches without a memory limit.
    """

    resident_bytes: int
    needed_bytes: int
    run_ahead_bytes: int


def estimate(model: Model, configuration: Configuration, backend: str) -> Estimate | None:
    """Estimate the memory of a trial on ``backend`` (``metal``, ``cuda`` or ``cpu``).

    ``None`` if the model's step could not be traced, or its weights are unknown, and on Metal
    without gradient checkpointing: there, estimates contradict public reports by 50 to 60%.
    """
    if backend == "metal" and not configuration.grad_checkpoint:
        return None
    weights = model.weights_in(configuration)
    facts = model.memory or memory_tables.shipped(model, configuration, backend)
    if not weights or facts is None:
        return None
    trained = trained_bytes(facts, configuration)
    frozen = weights - (trained if configuration.fine_tune_type is FineTuneType.FULL else 0)
    more_state = (_STATE_COPIES[configuration.optimizer] - _TRACED_COPIES) * trained
    accumulated = trained if configuration.grad_accumulation_steps > 1 else 0
    step = facts.checkpointed if configuration.grad_checkpoint else facts.stored
    ranks = configuration.lora_rank - step.rank if configuration.lora_rank else 0
    per_rank = ranks * _at(step, step.needed_per_rank, configuration, _line)
    fixed = frozen + more_state + accumulated + per_rank
    needed, unlimited = (
        round(fixed + _at(step, table, configuration, _power))
        for table in (step.needed, step.unlimited)
    )
    resident = frozen + trained
    return Estimate(resident, max(needed, resident), max(unlimited, needed, resident))


def error_share(configuration: Configuration, backend: str) -> float:
    """Return the relative error of an estimate: needed memory may be lower or higher by it."""
    if backend == "metal":
        return _METAL_ERROR
    is_checked = configuration.fine_tune_type is FineTuneType.LORA
    return _ERROR if is_checked else _UNCHECKED_ERROR


def other_versions(installed: Mapping[str, str]) -> dict[str, str]:
    """Return the installed versions that are not those of `CHECKED_VERSIONS`."""
    return {
        name: installed[name]
        for name, checked in CHECKED_VERSIONS.items()
        if installed.get(name, checked) != checked
    }


def trained_bytes(facts: MemoryFacts, configuration: Configuration) -> int:
    """Return the bytes of the weights or adapters that are trained."""
    left, total = configuration.lora_layers, 0
    for run in facts.trained:
        count = min(left, run.layers)
        total += count * (run.bytes + run.bytes_per_rank * configuration.lora_rank)
        left -= count
    return total


_Point = tuple[float, float]
"""A size and the number that a table has for it."""

_Curve = Callable[[_Point, _Point, int], float]
"""Returns the number for a size on a curve through two points."""


def _line(first: _Point, second: _Point, size: int) -> float:
    slope = (second[1] - first[1]) / (second[0] - first[0])
    return first[1] + slope * (size - first[0])


def _power(first: _Point, second: _Point, size: int) -> float:
    """Return the number on a power of the size: memory grows with the length and its square."""
    if first[1] <= 0 or second[1] <= 0:
        return _line(first, second, size)
    exponent = math.log(second[1] / first[1]) / math.log(second[0] / first[0])
    return first[1] * math.pow(size / first[0], exponent)


def _at(step: StepMemory, table: Table, c: Configuration, by_length: _Curve) -> float:
    """Return the number in a table for a configuration's layers, sequence length and batch size."""
    by_layers = []
    for rows in table:
        of_batch = [_between(step.batch_sizes, row, c.batch_size, _line) for row in rows]
        by_layers.append(_between(step.seq_lengths, of_batch, c.seq_length, by_length))
    return _between(step.layers, by_layers, c.lora_layers, _line)


def _between(sizes: Sequence[int], values: Sequence[float], size: int, curve: _Curve) -> float:
    """Return the value at a size; beyond both ends, the first or last two sizes are used."""
    if len(sizes) == 1:
        return values[0]
    index = min(max(bisect_right(sizes, size) - 1, 0), len(sizes) - 2)
    points = list(zip(sizes, values, strict=True))
    return curve(points[index], points[index + 1], size)
