"""Follows the memory of a program as MLX evaluates it (mlx/transforms.cpp, mlx/backend)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from worker.step_graph.program import Operation, Program


@dataclass(frozen=True, slots=True)
class Tasks:
    """How a backend divides its work into tasks: memory is freed when a task has run.

    A task ends after ``dispatches`` of work or when it has read more than ``elements``. ``view``
    and ``computation`` are the dispatches of an operation without and with a kernel. MLX continues
    while at most ``running`` tasks are unfinished; over its memory limit it waits for all.
    """

    dispatches: int
    view: int = 0
    computation: int = 1
    elements: float = math.inf
    running: int = 0


@dataclass(frozen=True, slots=True)
class Sizes:
    """For each array of a program its bytes, the bytes that it gains per rank, and its elements."""

    bytes: Sequence[float]
    per_rank: Sequence[float]
    elements: Sequence[float]


@dataclass(frozen=True, slots=True)
class Peak:
    """The most memory in use, in bytes, and what it gains per rank."""

    bytes: float = 0.0
    per_rank: float = 0.0


def peak(program: Program, sizes: Sizes, tasks: Tasks, start: int = 0) -> Peak:
    """Return the peak of a program, without the weights that it does not change.

    ``start`` is the number of dispatches in the first task before the program.
    """
    allocator = _Allocator(program, sizes, tasks, start)
    for operation in program.operations:
        allocator.run(operation)
    return allocator.peak()


class _Allocator:
    """Numbers buffers as they are allocated. Several arrays can share one."""

    def __init__(self, program: Program, sizes: Sizes, tasks: Tasks, start: int) -> None:
        self._sizes = sizes
        self._tasks = tasks
        self._dispatched = start
        self._read = 0.0
        self._buffers = [-1] * len(program.names)
        self._owners: list[int] = []  # of each buffer, the array for which it was allocated
        self._arrays: list[int] = []  # of each buffer, how many arrays share it
        self._holds: list[int] = []  # of each buffer, how many unfinished tasks use it
        self._held: set[int] = set()  # buffers that the current task uses
        self._running: deque[set[int]] = deque()
        self._bytes = 0.0
        self._per_rank = 0.0
        self._peak = Peak()
        for array in program.updated:
            self._allocate(array)

    def run(self, operation: Operation) -> None:
        """Allocate the outputs of an operation, and free what is not needed any more."""
        for array in operation.copies:
            buffer = self._new(array)
            self._arrays[buffer] = 0
            self._hold(buffer)
        own = set[int]()
        for output in operation.outputs:
            shared = self._source(output.source, output.donors)
            if shared is None:
                self._allocate(output.array)
            else:
                self._buffers[output.array] = shared
                if shared >= 0:
                    self._arrays[shared] += 1
            own.add(self._buffers[output.array])
        for array in operation.inputs:
            buffer = self._buffers[array]
            if buffer >= 0 and buffer not in own:
                self._hold(buffer)
        for array in operation.unused:
            buffer = self._buffers[array]
            if buffer >= 0:
                self._arrays[buffer] -= 1
                if buffer not in own or not self._arrays[buffer]:
                    self._hold(buffer)
        self._dispatch(operation)

    def peak(self) -> Peak:
        """Return the peak so far."""
        self._record()
        return self._peak

    def _source(self, source: int | None, donors: Sequence[int]) -> int | None:
        """Return the buffer that an output shares, -1 for that of a weight; ``None`` if none."""
        if source is not None:
            return self._buffers[source]
        for array in donors:
            buffer = self._buffers[array]
            if buffer >= 0 and self._arrays[buffer] == 1 and not self._holds[buffer]:
                return buffer
        return None

    def _allocate(self, array: int) -> None:
        self._buffers[array] = self._new(array)

    def _new(self, array: int) -> int:
        self._bytes += self._sizes.bytes[array]
        self._per_rank += self._sizes.per_rank[array]
        self._owners.append(array)
        self._arrays.append(1)
        self._holds.append(0)
        return len(self._owners) - 1

    def _hold(self, buffer: int) -> None:
        if buffer not in self._held:
            self._held.add(buffer)
            self._holds[buffer] += 1

    def _dispatch(self, operation: Operation) -> None:
        tasks = self._tasks
        if operation.is_view:
            self._dispatched += tasks.view
        else:
            self._dispatched += tasks.computation
            self._read += sum(map(self._sizes.elements.__getitem__, operation.inputs))
        is_large = self._read > tasks.elements
        if is_large or self._dispatched >= tasks.dispatches:
            self._dispatched = 0 if is_large else self._dispatched % tasks.dispatches
            self._read = 0.0
            self._running.append(self._held)
            self._held = set()
            if len(self._running) > tasks.running:
                self._finish(self._running.popleft())

    def _finish(self, held: set[int]) -> None:
        self._record()
        for buffer in held:
            self._holds[buffer] -= 1
            if not self._holds[buffer] and not self._arrays[buffer]:
                array = self._owners[buffer]
                self._bytes -= self._sizes.bytes[array]
                self._per_rank -= self._sizes.per_rank[array]

    def _record(self) -> None:
        if self._bytes > self._peak.bytes:
            self._peak = Peak(self._bytes, self._per_rank)
