"""What is known of the trial under way, and how a terminal shows it: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
}


@dataclass(frozen=True, slots=True)
class Glimpse:
    """The worker's latest word on each; sizes are bytes."""

    phase: Phase | None = None
    step: int = 0
    tokens_per_second: float | None = None
    active_bytes: int = 0

    def heard(self, event: Event) -> Glimpse:
        """This, and what ``event`` says."""
        match event:
            case PhaseBegan(phase=phase):
                return replace(self, phase=phase, step=0)
            case Step(index=index, seconds=seconds, tokens=tokens):
                speed = tokens / seconds if seconds else None
                return replace(self, step=index, tokens_per_second=speed)
            case Memory(active_bytes=active):
                return replace(self, active_bytes=active)
        return self


def doing(seen: Glimpse, trial: Trial) -> list[str]:
    """The phase, and how far it is."""
    if seen.phase is Phase.RELAXED:
        step = min(seen.step + 1, trial.spec.steps)
        return [_DOING[seen.phase], f"step {step} of {trial.spec.steps}"]
    if seen.phase is Phase.TIGHT:
        return [_DOING[seen.phase], f"step {seen.step + 1}"]
    return [_DOING[seen.phase]]


def figures(seen: Glimpse, trial: Trial, elapsed: float, seconds_left: float | None) -> list[str]:
    """Memory, speed and time, those that are known."""
    shown = [f"{show_size(seen.active_bytes)} of {show_size(trial.spec.budget_bytes)}"]
    if seen.tokens_per_second is not None:
        shown.append(f"{seen.tokens_per_second:,.0f} tokens/s")
    shown.append(f"{elapsed:.0f} s")
    if seconds_left is not None and seconds_left > elapsed:
        shown.append(f"about {show_duration(seconds_left - elapsed)} left")
    return shown


def flow(parts: Sequence[str], columns: int) -> list[str]:
    """The parts in their order, as many on a line as it takes."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(", ") + len(part) <= columns:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines
