"""The lines that a run's course consists of, as words: pure."""

from __future__ import annotations

from collections.abc import Iterator

from your_ai.planning.device import Device
from your_ai.planning.plan import Trial
from your_ai.runs.optimization import Optimization
from your_ai.runs.run import Run
from your_ai.runs.trial_result import TrialResult
from your_ai.search.search import Objective
from your_ai.supervision.outcome import OutcomeKind
from your_ai.system.machine import Machine
from your_ai.units import GB, show_size

_NAME_WIDTH = 18
_INDENT = " " * 8
_SEARCH_INDENT = " " * 4

_FAILURES = {
    OutcomeKind.OOM: "✗ OOM",
    OutcomeKind.OVER_BUDGET: "✗ Over budget",
    OutcomeKind.TIMEOUT: "✗ Timeout",
    OutcomeKind.CRASH: "✗ Crash",
    OutcomeKind.ERROR: "✗ Error",
    OutcomeKind.SKIPPED: "– Skipped",
    OutcomeKind.INTERRUPTED: "– Interrupted",
}
_GOALS = {
    Objective.CAPACITY: "largest batch × rank × layers that fits",
    Objective.TOKENS: "fastest that fits",
}
_LOGGED = (OutcomeKind.CRASH, OutcomeKind.ERROR, OutcomeKind.TIMEOUT)


def memory(machine: Machine, device: Device, budget_bytes: int) -> str:
    """What there is of memory, and what trains in it."""
    parts = [f"budget {show_size(budget_bytes)}", f"training on {device.name} ({device.backend})"]
    if device.memory_bytes != machine.memory_bytes:
        parts.append(f"{device.memory_bytes / GB:.2f} GB of its own")
    return f"System Memory: {machine.memory_bytes / GB:.2f} GB ({', '.join(parts)})"


def goal(run: Run, trial: Trial) -> str:
    """What a search looks for, on two lines."""
    assert run.search is not None
    grid = run.search.grid.around(trial.configuration, trial.model.layers)
    return (
        f"Looking among {counted(grid.size, 'configuration')} of {trial.model.name} "
        f"({trial.model.params})\nfor the {_GOALS[run.search.objective]}...\n"
    )


def model_began(trial: Trial, total: int) -> str:
    """The first half of a model's line."""
    name = f"{trial.model.name:<{_NAME_WIDTH}} ({trial.model.params:>4})"
    return f"[{trial.index}/{total}] {name} ... "


def search_began() -> str:
    """The first half of the line on a model's search."""
    return f"{_SEARCH_INDENT}Optimizing configuration ... "


def configuration_began(trial: Trial, number: int) -> str:
    """The first half of a configuration's line."""
    c = trial.configuration
    shown = f"batch={c.batch_size:<2} rank={c.lora_rank:<3} layers={c.lora_layers:<2}"
    return f"[{number}] {shown} ... "


def verdict(result: TrialResult) -> str:
    """The second half of a trial's line: how it ended."""
    if result.peak_memory_bytes is None or result.needed_memory_bytes is None:
        return failure_text(result.outcome, result.error or "")
    figures = [
        show_size(result.peak_memory_bytes),
        f"needs {show_size(result.needed_memory_bytes)}",
    ]
    speed = result.tokens_per_second
    if speed is not None:
        figures.append(f"{speed:,.0f} tokens/s")
    return f"✓ Pass ({', '.join(figures)})"


def failure_text(outcome: OutcomeKind, reason: str) -> str:
    """How a trial or a training ended that did not pass."""
    text = _FAILURES[outcome]
    return text if outcome is OutcomeKind.INTERRUPTED else f"{text} ({reason})"


def log_of(result: TrialResult) -> Iterator[str]:
    """Where to read more of a failure whose cause the reason may not tell, and what matters there.

    A line that the reason has already is not said again.
    """
    if result.outcome not in _LOGGED or result.log is None:
        return
    reason = result.error or ""
    for line in result.log_excerpt:
        if line not in reason and reason not in line:
            yield f"{_INDENT}| {line}"
    yield f"{_INDENT}log: {result.log}"


def advice_on(result: TrialResult) -> Iterator[str]:
    """What to try next, where there is something."""
    if result.advice is not None:
        yield f"{_INDENT}try: {result.advice}"


def search_ended(found: Optimization) -> str:
    """The second half of the line on a model's search: what it found."""
    return f"{'✓' if found.best else '–'} ({optimal(found)})"


def optimal(found: Optimization) -> str:
    """The best configuration, its figures, and in how many trials."""
    used = f"in {counted(len(found.tried), 'trial')}"
    best = found.best
    if not found.tried:
        return "not known, since no trial has come to its end"
    if best is None or best.needed_memory_bytes is None:
        return f"none of the grid passed {used}"
    figures = [_shown(best), f"needs {show_size(best.needed_memory_bytes)}"]
    if best.tokens_per_second is not None:
        figures.append(f"{best.tokens_per_second:,.0f} tokens/s")
    return ", ".join([*figures, used if found.is_proven else f"{used}, not proven"])


def proof(found: Optimization) -> list[str]:
    """Why nothing better fits, in words."""
    left = len(found.certificate.unsettled)
    if left:
        lines = [f"Not proven: {counted(left, 'configuration')} not tried that may be better."]
    elif not found.is_proven:
        lines = ["Not proven: it rests on failures that say nothing of memory:"]
    elif found.search.objective is Objective.TOKENS:
        lines = ["Tried with the least rank and layers: more of them is not taken to be faster."]
    elif not found.decisive:
        lines = ["Proven: there is none better in the grid."]
    elif found.best is None:
        lines = ["Proven: every one is at least as large on every axis as one that failed:"]
    else:
        lines = ["Proven: every better one is at least as large on every axis as one that failed:"]
    failures = [f"{_SEARCH_INDENT}{_shown(r)}: {verdict(r)}" for r in found.decisive]
    return [*lines, *failures]


def counted(count: int, what: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def _shown(result: TrialResult) -> str:
    c = result.config
    return f"batch={c.batch_size}, rank={c.lora_rank}, layers={c.lora_layers}"
