"""What is known of the worker under way, and how a terminal shows it: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from worker.protocol.messages import Event, Memory, Phase, PhaseBegan, Step, Validated
from your_ai.terminal.eta import show_duration
from your_ai.units import show_size

_PHASES = {
    None: "starting",
    Phase.IMPORT: "starting MLX",
    Phase.LOAD: "making the model",
    Phase.TIGHT: "finding the needed memory",
    Phase.RELAXED: "training under the budget",
    Phase.TRAIN: "training",
}
_CURVE_COLUMNS = 24
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """The latest of each that the worker reported; ``step`` is the last that was done.

    ``steps`` of the phase took ``seconds``. ``losses`` are the last few, ``validation`` the last
    loss on the validation set.
    """

    phase: Phase | None = None
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    tokens_per_second: float | None = None
    losses: tuple[float, ...] = ()
    validation: float | None = None
    active_bytes: int = 0

    def after(self, event: Event) -> WorkerStatus:
        """This, updated by ``event``."""
        match event:
            case PhaseBegan(phase=phase):
                return replace(self, phase=phase, step=0, steps=0, seconds=0.0)
            case Step(index=index, seconds=seconds, tokens=tokens, loss=loss):
                return replace(
                    self,
                    step=index,
                    steps=self.steps + 1,
                    seconds=self.seconds + seconds,
                    tokens_per_second=tokens / seconds if seconds else None,
                    losses=(*self.losses, loss)[-_CURVE_COLUMNS:],
                )
            case Validated(loss=loss):
                return replace(self, validation=loss)
            case Memory(active_bytes=active):
                return replace(self, active_bytes=active)
        return self


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is started for: ``steps`` in all, ``done`` before it started.

    ``title`` goes on the line that was begun. How long it will take follows from ``seconds_left``
    at its start, or from its steps, each expected to take ``step_seconds``.
    """

    budget_bytes: int
    steps: int
    title: str = ""
    done: int = 0
    seconds_left: float | None = None
    step_seconds: float | None = None


def progress(task: Task, status: WorkerStatus) -> str:
    """The phase, and how far it is."""
    step = max(status.step, task.done) + 1
    of_all = f"{min(step, task.steps)} of {task.steps}"
    steps = {
        Phase.TIGHT: f"step {step}",
        Phase.RELAXED: f"step {of_all}",
        Phase.TRAIN: f"iteration {of_all}",
    }
    phase = _PHASES[status.phase]
    return f"{phase}, {steps[status.phase]}" if status.phase in steps else phase


def figures(task: Task, status: WorkerStatus, elapsed: float) -> str:
    """Loss of a training, memory, speed and time, those that are known; ``elapsed`` is seconds."""
    parts = []
    if status.phase is Phase.TRAIN and status.losses:
        parts.append(f"loss {status.losses[-1]:.3f} {_curve(status.losses)}")
    if status.validation is not None:
        parts.append(f"validation {status.validation:.3f}")
    parts.append(f"memory {show_size(status.active_bytes)} of {show_size(task.budget_bytes)}")
    if status.tokens_per_second is not None:
        parts.append(f"{status.tokens_per_second:,.0f} tokens/s")
    parts.append(f"{elapsed:.0f} s")
    left = _seconds_left(task, status, elapsed)
    if left is not None and left > 0:
        parts.append(f"about {show_duration(left)} left")
    return ", ".join(parts)


def _seconds_left(task: Task, status: WorkerStatus, elapsed: float) -> float | None:
    if task.step_seconds is not None:
        each = status.seconds / status.steps if status.steps else task.step_seconds
        return each * (task.steps - max(status.step, task.done))
    return None if task.seconds_left is None else task.seconds_left - elapsed


def _curve(losses: Sequence[float]) -> str:
    """The losses as a row of bars, the lowest and the highest of them at the ends of the scale."""
    least, most = min(losses), max(losses)
    scale = (len(_BARS) - 1) / (most - least) if most > least else 0.0
    return "".join(_BARS[round((loss - least) * scale)] for loss in losses)
