"""The lines that a run's course consists of, as words: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from your_ai.planning.plan import Trial
from your_ai.report.naming import title
from your_ai.runs.optimization import Optimization
from your_ai.runs.results import recommended
from your_ai.runs.run import Run
from your_ai.runs.trial_result import TrialResult
from your_ai.search.search import Objective
from your_ai.supervision.outcome import OutcomeKind
from your_ai.units import GB, show_size

_INDENT = " " * 8
_GOALS = {
    Objective.CAPACITY: "largest batch × rank × layers that fits",
    Objective.TOKENS: "fastest that fits",
}
_LOGGED = (OutcomeKind.CRASH, OutcomeKind.ERROR, OutcomeKind.TIMEOUT)


def memory(run: Run) -> str:
    """What there is of memory, and what trains in it."""
    device, there = run.device, run.machine.memory_bytes
    parts = f"budget {show_size(run.budget_bytes)}, training on {device.name} ({device.backend})"
    if device.memory_bytes != there:
        parts += f", {device.memory_bytes / GB:.2f} GB of its own"
    return f"System Memory: {there / GB:.2f} GB ({parts})"


def goal(run: Run, trial: Trial) -> str:
    """What a search looks for, on two lines."""
    assert run.search is not None
    grid = run.search.grid.around(trial.configuration, trial.model.layers)
    return (
        f"Looking among {counted(grid.size, 'configuration')} of {trial.model.name} "
        f"({trial.model.params})\nfor the {_GOALS[run.search.objective]}...\n"
    )


def resuming(run: Run, done: int, *, is_complete: bool) -> str:
    """That a run is resumed, and how many of its trials are ``done``."""
    if is_complete:
        return f"This run (started {run.started_at}) is already complete."
    are = "is" if done == 1 else "are"
    return f"Resuming the run of {run.started_at}: {counted(done, 'trial')} of it {are} done."


def model(trial: Trial, total: int) -> str:
    """The first half of a trial's line, with the padding that lines up names and sizes."""
    return f"[{trial.index}/{total}] {trial.model.name:<18} ({trial.model.params:>4}) ... "


def configuration(trial: Trial, number: int) -> str:
    """A configuration of a search, with the padding that lines up its numbers."""
    c = trial.configuration
    shown = f"batch={c.batch_size:<2} rank={c.lora_rank:<3} layers={c.lora_layers:<2}"
    return f"[{number}] {shown}"


def verdict(result: TrialResult) -> str:
    """How a trial ended."""
    if not result.success:
        return failure_text(result.outcome, result.error or "")
    return f"✓ Pass ({', '.join([show_size(result.peak_memory_bytes or 0), *_figures(result)])})"


def failure_text(outcome: OutcomeKind, reason: str) -> str:
    """How a trial or a training ended that did not pass."""
    is_none = outcome in (OutcomeKind.SKIPPED, OutcomeKind.INTERRUPTED)
    text = f"{'–' if is_none else '✗'} {outcome.label}"
    return text if outcome is OutcomeKind.INTERRUPTED else f"{text} ({reason})"


def log_of(result: TrialResult) -> Iterator[str]:
    """Where to read more of a failure, and what matters there that the reason does not say."""
    if result.outcome not in _LOGGED or result.log is None:
        return
    reason = result.error or ""
    for line in result.log_excerpt:
        if line not in reason and reason not in line:
            yield f"{_INDENT}| {line}"
    yield f"{_INDENT}log: {result.log}"


def advice(text: str) -> str:
    """What to try next."""
    return f"{_INDENT}try: {text}"


def recommendation(entries: Sequence[TrialResult], *, is_over: bool) -> Iterator[str]:
    """The largest model that passed, and the others that did."""
    best = recommended(entries)
    if best is None:
        yield f"Recommended: none ({'no model passed' if is_over else 'not known yet'})"
        return
    yield f"Recommended{'' if is_over else ' so far'}: {best.preset} (largest model that fits)"
    others = [title(entry) for entry in entries if entry.success and entry is not best]
    if others:
        yield f"Alternatives: {', '.join(others)}"


def optimal(found: Optimization) -> str:
    """The best configuration, its figures, and in how many trials."""
    best, used = found.best, f"in {counted(len(found.tried), 'trial')}"
    if not found.tried:
        return "unknown (no trial finished)"
    if best is None:
        return f"none of the grid passed {used}"
    proven = [] if found.is_proven else ["not proven"]
    return ", ".join([_shown(best), *_figures(best), used, *proven])


def proof(found: Optimization) -> list[str]:
    """Why nothing better fits, in words."""
    left = len(found.certificate.unsettled)
    if left:
        why = f"Not proven: {counted(left, 'configuration')} not tried that may be better."
    elif not found.is_proven:
        why = "Not proven: these failures were not caused by memory:"
    elif found.search.objective is Objective.TOKENS:
        why = "Larger rank and layer counts are assumed not to be faster."
    elif not found.decisive:
        why = "Proven: there is none better in the grid."
    else:
        proven = "Proven optimal: every better" if found.best else "Proven: every"
        why = f"{proven} configuration is at least as large as one of these failures:"
    return [why, *(f"    {_shown(r)}: {verdict(r)}" for r in found.decisive)]


def counted(count: int, what: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def _shown(result: TrialResult) -> str:
    c = result.config
    return f"batch={c.batch_size}, rank={c.lora_rank}, layers={c.lora_layers}"


def _figures(result: TrialResult) -> list[str]:
    """What a trial that passed needs, and how fast it is."""
    needs = f"needs {show_size(result.needed_memory_bytes or 0)}"
    speed = result.tokens_per_second
    return [needs] if speed is None else [needs, f"{speed:,.0f} tokens/s"]
