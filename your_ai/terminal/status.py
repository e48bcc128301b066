"""What is known of the worker under way, and how a terminal shows it: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from worker.protocol.messages import Event, Memory, Phase, PhaseBegan, Step, Validated
from your_ai.planning.plan import Trial
from your_ai.terminal.eta import show_duration
from your_ai.units import show_size

_DOING = {
    None: "starting",
    Phase.IMPORT: "starting MLX",
    Phase.LOAD: "making the model",
    Phase.TIGHT: "finding the needed memory",
    Phase.RELAXED: "training under the budget",
    Phase.TRAIN: "training",
}


CURVE_COLUMNS = 24
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Glimpse:
    """The worker's latest word on each; sizes are bytes, ``step`` is the last that was done.

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

    def heard(self, event: Event) -> Glimpse:
        """This, and what ``event`` says."""
        match event:
            case PhaseBegan(phase=phase):
                return replace(self, phase=phase, step=0, steps=0, seconds=0.0)
            case Step(index=index, seconds=seconds, tokens=tokens, loss=loss):
                speed = tokens / seconds if seconds else None
                losses = (*self.losses, loss)[-CURVE_COLUMNS:]
                return replace(
                    self,
                    step=index,
                    steps=self.steps + 1,
                    seconds=self.seconds + seconds,
                    tokens_per_second=speed,
                    losses=losses,
                )
            case Validated(loss=loss):
                return replace(self, validation=loss)
            case Memory(active_bytes=active):
                return replace(self, active_bytes=active)
        return self


class View(Protocol):
    """What is shown of a worker beside its memory, of at most ``budget_bytes``."""

    @property
    def title(self) -> str:
        """What it is, where no line was begun for it."""

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
    title: str = ""

    @property
    def budget_bytes(self) -> int:
        """The trial's."""
        return self.trial.request.budget_bytes

    def doing(self, seen: Glimpse) -> list[str]:
        """The phase, and how far it is."""
        said = [self.text] if self.text else []
        said.append(_DOING[seen.phase])
        steps = self.trial.request.steps
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
    """A real training of so many iterations, of which ``done`` were before this worker.

    ``expected_seconds`` each is expected to take.
    """

    title: str
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
        loss = [f"loss {seen.losses[-1]:.3f} {curve(seen.losses)}"] if seen.losses else []
        if seen.validation is not None:
            loss.append(f"validation {seen.validation:.3f}")
        each = seen.seconds / seen.steps if seen.steps else self.expected_seconds
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


def curve(losses: Sequence[float]) -> str:
    """The losses as a row of bars, the lowest and the highest of them at the ends of the scale."""
    least, most = min(losses), max(losses)
    scale = (len(_BARS) - 1) / (most - least) if most > least else 0.0
    return "".join(_BARS[round((loss - least) * scale)] for loss in losses)


def _figures(seen: Glimpse, budget_bytes: int) -> list[str]:
    shown = [f"memory {show_size(seen.active_bytes)} of {show_size(budget_bytes)}"]
    if seen.tokens_per_second is not None:
        shown.append(f"{seen.tokens_per_second:,.0f} tokens/s")
    return shown


def _times(elapsed: float, left: float | None) -> list[str]:
    shown = [f"{elapsed:.0f} s"]
    if left is not None and left > 0:
        shown.append(f"about {show_duration(left)} left")
    return shown
