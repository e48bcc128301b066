"""What is known of the worker under way, and how a terminal shows it: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from worker.protocol import Event, Memory, Phase, PhaseBegan, Step
from your_ai.plan import Trial
from your_ai.show.time_left import show_duration
from your_ai.units import show_size

_DOING = {
    None: "starting",
    Phase.IMPORT: "starting MLX",
    Phase.LOAD: "making the model",
    Phase.TIGHT: "finding the needed memory",
    Phase.RELAXED: "training under the budget",
    Phase.TRAIN: "training",
}


@dataclass(frozen=True, slots=True)
class Glimpse:
    """The worker's latest word on each; sizes are bytes, ``step`` is the last that was done."""

    phase: Phase | None = None
    step: int = 0
    tokens_per_second: float | None = None
    loss: float | None = None
    active_bytes: int = 0

    def heard(self, event: Event) -> Glimpse:
        """This, and what ``event`` says."""
        match event:
            case PhaseBegan(phase=phase):
                return replace(self, phase=phase, step=0)
            case Step(index=index, seconds=seconds, tokens=tokens, loss=loss):
                speed = tokens / seconds if seconds else None
                return replace(self, step=index, tokens_per_second=speed, loss=loss)
            case Memory(active_bytes=active):
                return replace(self, active_bytes=active)
        return self


class View(Protocol):
    """What is shown of a worker beside its memory, of at most ``budget_bytes``."""

    @property
    def budget_bytes(self) -> int:
        """Where the bar ends."""

    def doing(self, seen: Glimpse) -> list[str]:
        """What it does, and how far it is."""

    def figures(self, seen: Glimpse, elapsed: float) -> list[str]:
        """Its figures, ``elapsed`` seconds after it began."""


@dataclass(frozen=True, slots=True)
class TrialView:
    """A trial, and for how long the run will probably go on; ``text`` says what is tried."""

    trial: Trial
    text: str = ""
    seconds_left: float | None = None

    @property
    def budget_bytes(self) -> int:
        """The trial's."""
        return self.trial.spec.budget_bytes

    def doing(self, seen: Glimpse) -> list[str]:
        """The phase, and how far it is."""
        said = [self.text] if self.text else []
        said.append(_DOING[seen.phase])
        steps = self.trial.spec.steps
        if seen.phase is Phase.RELAXED:
            said.append(f"step {min(seen.step + 1, steps)} of {steps}")
        elif seen.phase is Phase.TIGHT:
            said.append(f"step {seen.step + 1}")
        return said

    def figures(self, seen: Glimpse, elapsed: float) -> list[str]:
        """Memory, speed and time, those that are known."""
        left = None if self.seconds_left is None else self.seconds_left - elapsed
        return [*_figures(seen, self.budget_bytes), *_times(elapsed, left)]


@dataclass(frozen=True, slots=True)
class TrainingView:
    """A real training of so many iterations, of which ``done`` were before this worker."""

    iters: int
    done: int
    budget_bytes: int
    expected_seconds: float

    def doing(self, seen: Glimpse) -> list[str]:
        """The phase, and how far it is."""
        said = [_DOING[seen.phase]]
        if seen.phase is Phase.TRAIN:
            said.append(
                f"iteration {min(max(seen.step, self.done) + 1, self.iters)} of {self.iters}"
            )
        return said

    def figures(self, seen: Glimpse, elapsed: float) -> list[str]:
        """Loss, memory, speed and time, those that are known."""
        loss = [] if seen.loss is None else [f"loss {seen.loss:.3f}"]
        trained = seen.step - self.done
        each = elapsed / trained if trained > 0 else self.expected_seconds / self.iters
        left = each * (self.iters - max(seen.step, self.done))
        return [*loss, *_figures(seen, self.budget_bytes), *_times(elapsed, left)]


def flow(parts: Sequence[str], columns: int) -> list[str]:
    """The parts in their order, as many on a line as it takes."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(", ") + len(part) <= columns:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines


def _figures(seen: Glimpse, budget_bytes: int) -> list[str]:
    shown = [f"{show_size(seen.active_bytes)} of {show_size(budget_bytes)}"]
    if seen.tokens_per_second is not None:
        shown.append(f"{seen.tokens_per_second:,.0f} tokens/s")
    return shown


def _times(elapsed: float, left: float | None) -> list[str]:
    shown = [f"{elapsed:.0f} s"]
    if left is not None and left > 0:
        shown.append(f"about {show_duration(left)} left")
    return shown
