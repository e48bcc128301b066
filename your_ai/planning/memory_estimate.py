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
from typing import TypeVar

from worker.protocol.configuration import Configuration, FineTuneType, Optimizer
from worker.protocol.memory import MemoryFacts, StepMemory, Table
from your_ai.models import memory_tables
from your_ai.models.resolve import Model

T = TypeVar("T")

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

    ``None`` if the model's step could not be traced, or its weights are unknown.
    """
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
    per_rank = ranks * _at(step, step.needed_per_rank, configuration, _linear)
    fixed = frozen + more_state + accumulated + per_rank
    needed, unlimited = (
        round(fixed + _at(step, table, configuration, _geometric))
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


_Interpolation = Callable[[float, float, float], float]
"""Returns the number between two numbers at a position, which is 0 at the first and 1 at the
second."""


def _linear(first: float, second: float, position: float) -> float:
    return first + (second - first) * position


def _geometric(first: float, second: float, position: float) -> float:
    """Interpolate a power: memory grows with the length and its square, and with the batch."""
    if first <= 0 or second <= 0:
        return _linear(first, second, position)
    return first * math.exp(math.log(second / first) * position)


def _at(step: StepMemory, table: Table, c: Configuration, between: _Interpolation) -> float:
    """Return the number in a table for a configuration's layers, sequence length and batch size."""
    long, length = _position(step.seq_lengths, c.seq_length)
    large, batch = _position(step.batch_sizes, c.batch_size)

    def in_row(row: Sequence[int]) -> float:
        below, above = _pair(row, large)
        return between(below, above, batch)

    numbers = []
    for rows in table:
        below, above = _pair(rows, long)
        numbers.append(between(in_row(below), in_row(above), length))
    if len(numbers) == 1:
        return numbers[0]
    least, most = step.layers
    return _linear(numbers[0], numbers[1], (c.lora_layers - least) / (most - least))


def _pair(values: Sequence[T], index: int) -> tuple[T, T]:
    return values[index], values[min(index + 1, len(values) - 1)]


def _position(sizes: Sequence[int], size: int) -> tuple[int, float]:
    """Return the index of the size below, and where between it and the next ``size`` lies.

    Powers of two are evenly spaced. Beyond both ends, the first or last two sizes are used.
    """
    index = min(max(bisect_right(sizes, size) - 1, 0), max(len(sizes) - 2, 0))
    if len(sizes) == 1:
        return 0, 0.0
    below, above = sizes[index], sizes[index + 1]
    return index, math.log(size / below) / math.log(above / below)
