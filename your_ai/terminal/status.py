"""The state of the running worker, and how a terminal shows it: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from worker.protocol.messages import Advanced, Compiled, Memory, Phase, PhaseBegan, Step, Validated
from your_ai.supervision.observation import Notice
from your_ai.terminal.eta import show_duration, show_end
from your_ai.units import show_size

_PHASES = {
    None: "starting",
    Phase.IMPORT: "starting MLX",
    Phase.LOAD: "loading the model",
    Phase.TIGHT: "measuring the needed memory",
    Phase.RELAXED: "training within the budget",
    Phase.LENGTHS: "timing shorter sequences",
    Phase.TRAIN: "training",
}
_CURVE_COLUMNS = 24
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """The latest values that the worker reported.

    ``step`` is the last finished step. Of those that this worker finished in this phase, ``steps``
    took ``seconds``, without those in which kernels were compiled. ``losses`` are the last ones,
    ``validation`` is the last loss on the validation set.
    """

    phase: Phase | None = None
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    tokens_per_second: float | None = None
    losses: tuple[float, ...] = ()
    validation: float | None = None
    active_bytes: int = 0
    is_compiling: bool = False

    def after(self, event: Notice) -> WorkerStatus:
        """The status after ``event``."""
        match event:
            case PhaseBegan(phase=phase):
                return replace(self, phase=phase, step=0, steps=0, seconds=0.0, is_compiling=False)
            case Step():
                return self._after_step(event)
            case Validated(loss=loss):
                return replace(self, validation=loss, is_compiling=False)
            case Advanced():
                return replace(self, is_compiling=False)
            case Compiled():
                return replace(self, is_compiling=True)
            case Memory(active_bytes=active):
                return replace(self, active_bytes=active)
        return self

    def _after_step(self, step: Step) -> WorkerStatus:
        losses = (*self.losses, step.loss)[-_CURVE_COLUMNS:]
        done = replace(self, step=step.index, losses=losses, is_compiling=False)
        if not (step.is_timed and step.seconds):
            return done
        return replace(
            done,
            steps=self.steps + 1,
            seconds=self.seconds + step.seconds,
            tokens_per_second=step.tokens / step.seconds,
        )


@dataclass(frozen=True, slots=True)
class Task:
    """The work of a worker: ``steps`` in total, of which ``done`` were finished before it started.

    ``title`` is shown after the text of `Screen.begin`, ``position`` says which trial of the run
    this is. ``seconds`` and ``step_seconds`` are the expected times of this worker and each of its
    steps, ``later_seconds`` is that of the trials after it; ``None`` if unknown.
    """

    budget_bytes: int
    steps: int
    title: str = ""
    position: Sequence[str] = ()
    done: int = 0
    seconds: float | None = None
    step_seconds: float | None = None
    later_seconds: float | None = 0.0


def progress(task: Task, status: WorkerStatus) -> list[str]:
    """The phase, and the current step."""
    step = max(status.step, task.done) + 1
    of_all = f"{min(step, task.steps)} of {task.steps}"
    steps = {
        Phase.TIGHT: f"step {step}",
        Phase.RELAXED: f"step {of_all}",
        Phase.TRAIN: f"iteration {of_all}",
    }
    phase = "compiling kernels" if status.is_compiling else _PHASES[status.phase]
    return [phase, steps[status.phase]] if status.phase in steps else [phase]


def cooling(seconds: float) -> list[str]:
    """How long the pause before the worker still takes."""
    return [f"cooling down, {show_duration(seconds)} left"]


def figures(task: Task, status: WorkerStatus, elapsed: float) -> list[str]:
    """Losses of a training, memory, speed, and ``elapsed`` seconds; unknown ones are left out."""
    parts = []
    if status.phase is Phase.TRAIN and status.losses:
        parts.append(f"loss {status.losses[-1]:.3f} {_curve(status.losses)}")
    if status.validation is not None:
        parts.append(f"validation {status.validation:.3f}")
    parts.append(f"memory {show_size(status.active_bytes)} of {show_size(task.budget_bytes)}")
    if status.tokens_per_second is not None:
        parts.append(f"{status.tokens_per_second:,.0f} tokens/s")
    return [*parts, f"{elapsed:.0f} s" if elapsed < 600 else show_duration(elapsed)]


def outlook(task: Task, status: WorkerStatus, elapsed: float, now: datetime) -> list[str]:
    """Which trial this is, how long the rest takes and when it ends; unknown ones are left out."""
    left = _seconds_left(task, status, elapsed)
    if left is None or left <= 0:
        return [*task.position]
    end = show_end(now + timedelta(seconds=left), now)
    return [*task.position, f"about {show_duration(left)} left", f"(done {end})"]


def _seconds_left(task: Task, status: WorkerStatus, elapsed: float) -> float | None:
    if task.later_seconds is None:
        return None
    each = task.step_seconds
    if status.steps and status.phase in (Phase.RELAXED, Phase.TRAIN):
        each = status.seconds / status.steps
    if each is not None:
        return task.later_seconds + each * (task.steps - max(status.step, task.done))
    if task.seconds is not None:
        return task.later_seconds + max(0.0, task.seconds - elapsed)
    return None


def _curve(losses: Sequence[float]) -> str:
    """The losses as a row of bars, scaled from the lowest loss to the highest."""
    least, most = min(losses), max(losses)
    scale = (len(_BARS) - 1) / (most - least) if most > least else 0.0
    return "".join(_BARS[round((loss - least) * scale)] for loss in losses)
