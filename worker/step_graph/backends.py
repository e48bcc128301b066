"""What differs between MLX's backends in the memory of a step. Its sources say so (mlx/backend)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from worker.protocol.memory import OLD_METAL
from worker.step_graph.allocation import Tasks
from worker.step_graph.marks import Kind

RUNNING_TASKS = 10
"""How many unfinished tasks MLX permits (``MAX_ACTIVE_TASKS`` in mlx/transforms.cpp)."""

_MIB = 2**20
"""MLX compares the elements that a task reads, in units of 2^20, with a limit called MB."""


@dataclass(frozen=True, slots=True)
class Backend:
    """How a backend divides work into tasks, and for which parts of a step it has a kernel.

    ``recomputed`` are the parts without a kernel for the gradient. A step can begin after any of
    ``starts`` dispatches.
    """

    tasks: Tasks
    fused: frozenset[Kind]
    recomputed: frozenset[Kind] = frozenset()
    starts: tuple[int, ...] = (0,)


_EVERYWHERE = frozenset({Kind.EXPERTS, Kind.COPY})
_ON_GPUS = _EVERYWHERE | {Kind.NORM, Kind.ROPE}

BACKENDS: Mapping[str, Backend] = MappingProxyType(
    {
        # cpu/encoder.h. `_shift_waits` in worker/trial.py lets steps begin everywhere in a task.
        "cpu": Backend(Tasks(10, view=1, computation=2), _EVERYWHERE, starts=(0, 3, 6)),
        # cuda/device.cpp, for an H100. Attention has a gradient kernel for lengths that are
        # multiples of 128; mlx-lm's are one token shorter.
        "cuda": Backend(
            Tasks(101, elements=1001 * _MIB),
            _ON_GPUS | {Kind.ATTENTION, Kind.LOSS},
            frozenset({Kind.ATTENTION}),
            # Some operations are several nodes of a graph, so where graphs end is not known.
            starts=(0, 20, 40, 60, 80),
        ),
        # metal/device.cpp, for a Max or Ultra.
        "metal": Backend(Tasks(51, elements=51 * _MIB), _ON_GPUS | {Kind.ATTENTION, Kind.LOSS}),
        # Before MLX 0.32.4, attention had no gradient kernel, and the loss no kernel at all.
        OLD_METAL: Backend(Tasks(51, elements=51 * _MIB), _ON_GPUS),
    }
)
