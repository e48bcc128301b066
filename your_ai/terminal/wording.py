"""The lines of a run's output: pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from worker.protocol.configuration import Configuration
from your_ai.models.quantization import Quantization
from your_ai.planning import describe
from your_ai.planning.plan import Trial
from your_ai.report.naming import speed_note, title
from your_ai.runs.optimization import Optimization
from your_ai.runs.results import Results
from your_ai.runs.results import recommended as largest_that_passed
from your_ai.runs.run import CONFIG_OPTION, Run
from your_ai.runs.searching import grid_for, search_for
from your_ai.runs.trial_result import TrialResult
from your_ai.search.search import Objective, Search
from your_ai.supervision.outcome import OutcomeKind
from your_ai.units import GB, show_size

_INDENT = " " * 8
_GOALS = {
    Objective.CAPACITY: "largest batch × rank × layers that fits",
    Objective.TOKENS: "fastest one that fits",
    Objective.LENGTH: "longest sequence that fits",
    Objective.CEILING: "longest sequences that fit",
}
_LOGGED = (OutcomeKind.CRASH, OutcomeKind.ERROR, OutcomeKind.TIMEOUT)


def memory(run: Run) -> str:
    """The machine's memory, the budget and the device."""
    device, total = run.device, run.machine.memory_bytes
    parts = f"budget {show_size(run.budget_bytes)}, training on {device.name} ({device.backend})"
    if device.memory_bytes != total:
        parts += f", which has {device.memory_bytes / GB:.2f} GB"
    return f"System Memory: {total / GB:.2f} GB ({parts})"


def training(run: Run) -> list[str]:
    """What is trained, and how that differs from --config, or ``mlx_lm.lora`` by default."""
    trials = run.trials
    lines = [f"Training: {describe.configuration([trial.configuration for trial in trials])}"]
    # Models differ in their quantization and number of layers.
    plain = run.config.configuration() if run.config else describe.PLAIN
    found = [
        describe.differences(_unpadded(t), is_own_quantization=_is_own(t), plain=_within(t, plain))
        for t in trials
    ]
    differing = dict.fromkeys(difference for each in found for difference in each)
    if differing:
        what = run.arguments[CONFIG_OPTION] if run.config else "mlx_lm.lora by default"
        lines.append(f"Unlike {what}: {', '.join(differing)}")
    return lines


def _unpadded(trial: Trial) -> Configuration:
    """The configuration with the sequence length that mlx_lm.lora would be given for the data."""
    if trial.data is None or trial.data.lengths is None:
        return trial.configuration
    return replace(trial.configuration, seq_length=trial.data.lengths.max_seq_length)


def _within(trial: Trial, plain: Configuration) -> Configuration:
    """The configuration for a model that may have fewer layers."""
    return replace(plain, lora_layers=min(plain.lora_layers, trial.model.layers))


def _is_own(trial: Trial) -> bool:
    own = trial.model.stored or Quantization()
    return Quantization.of(trial.configuration) == own


def goal(run: Run, trial: Trial) -> str:
    """What a search looks for, in two lines, and what it leaves as it is."""
    assert run.search is not None
    grid = grid_for(trial, run.search)
    wanted = _GOALS[run.search.objective]
    if not trial.configuration.lora_rank:
        wanted = wanted.replace(" × rank", "")
    return (
        f"Searching {counted(grid.size, 'configuration')} of {trial.model.name} "
        f"({trial.model.params})\nfor the {wanted}...\n"
        f"Training: {describe.fixed_in_search(grid.smallest, grid.axes.varied)}\n"
    )


def resuming(run: Run, done: int, *, is_complete: bool) -> str:
    """Which run is resumed, and how many of its trials are ``done``."""
    if is_complete:
        return f"This run (started {run.started_at}) is already complete."
    return f"Resuming the run started {run.started_at} ({counted(done, 'trial')} already finished)."


def model(trial: Trial, total: int) -> str:
    """The first half of a trial's line, with names and sizes aligned."""
    return f"[{trial.index}/{total}] {trial.model.name:<18} ({trial.model.params:>4}) ... "


def configuration(run: Run, trial: Trial, number: int) -> str:
    """A configuration of a search, with its numbers aligned."""
    search = _search(run, trial)
    places = describe.places(trial.configuration, "=", search.shown_axes)
    longest = describe.places(search.grid.largest, "=", search.shown_axes)
    shown = [text.ljust(len(longest[axis])) for axis, text in places.items()]
    return f"[{number}] {' '.join(shown)}"


def _search(run: Run, trial: Trial) -> Search:
    assert run.search is not None
    own = run.trials[trial.index - 1]
    return search_for(own, run.search, run.device.backend)


def verdict(result: TrialResult) -> str:
    """The outcome of a trial."""
    if not result.success:
        return failure_text(result.outcome, result.error or "")
    return f"✓ Pass ({', '.join([show_size(result.peak_memory_bytes or 0), *_figures(result)])})"


def failure_text(outcome: OutcomeKind, reason: str) -> str:
    """The outcome of a trial or a training that did not pass."""
    is_failure = outcome not in (OutcomeKind.SKIPPED, OutcomeKind.INTERRUPTED)
    text = f"{'✗' if is_failure else '–'} {outcome.label}"
    return text if outcome is OutcomeKind.INTERRUPTED else f"{text} ({reason})"


def log_of(result: TrialResult) -> Iterator[str]:
    """The path of a failed trial's log, and the lines of it that say more than the reason."""
    if result.outcome not in _LOGGED or result.log is None:
        return
    reason = result.error or ""
    for line in result.log_excerpt:
        if line not in reason and reason not in line:
            yield f"{_INDENT}| {line}"
    yield f"{_INDENT}log: {result.log}"


def notes(*results: TrialResult) -> list[str]:
    """Why speeds of these trials are not comparable; the same reason only once."""
    found = dict.fromkeys(filter(None, map(speed_note, results)))
    return [f"{_INDENT}note: {note}" for note in found]


def advice(text: str) -> str:
    """A suggestion."""
    return f"{_INDENT}try: {text}"


def recommendation(found: Results) -> Iterator[str]:
    """The recommended model, and the other models that passed."""
    yield recommended(found.recommended, is_complete=found.complete)
    best = largest_that_passed(found.results)
    others = [title(entry) for entry in found.results if entry.success and entry is not best]
    if others:
        yield f"Alternatives: {', '.join(others)}"


def untried(run: Run, results: Results) -> Iterator[str]:
    """The models that a run has not come to."""
    models = [trial.model for trial in run.trials[len(results.results) :]]
    if models:
        yield f"Not tried: {', '.join(f'{model.name} ({model.params})' for model in models)}"


def recommended(name: str | None, *, is_complete: bool) -> str:
    """The recommended model; a run that is not complete may still find a larger one."""
    none = "no model passed" if is_complete else "no model has passed yet"
    answer = f"{name} (largest model that fits)" if name else f"none ({none})"
    return f"Recommended{'' if is_complete else ' so far'}: {answer}"


def optimal(found: Optimization) -> str:
    """The best configuration, its figures, and the number of trials."""
    best, used = found.best, f"in {counted(len(found.tried), 'trial')}"
    if not found.tried:
        return "unknown (no trial finished)"
    if best is None:
        return f"no configuration passed ({counted(len(found.tried), 'trial')})"
    proven = [] if found.is_proven else ["not proven"]
    return ", ".join([_shown(best, found.search), *_figures(best), used, *proven])


def cut(best: TrialResult) -> list[str]:
    """What share of the samples is cut at the length of the best configuration."""
    lengths = best.data_lengths
    if lengths is None:
        return []
    share = lengths.cut / lengths.samples
    of_all = f"{lengths.cut:,} of {lengths.samples:,}"
    return [f"At {lengths.max_seq_length:,} tokens, {share:.1%} of the samples are cut ({of_all})."]


def proof(found: Optimization) -> list[str]:
    """Why no better configuration fits, or why that is not proven."""
    untried = len(found.certificate.unsettled)
    if untried:
        why = f"Not proven: {counted(untried, 'untried configuration')} may be better."
    elif not found.is_proven:
        why = "Not proven: memory may not be the cause of these failures:"
    elif found.search.objective is Objective.TOKENS:
        why = "Not tried: higher ranks and more layers, which are assumed not to be faster."
    elif not found.decisive:
        why = "Proven: no configuration in the grid is better."
    else:
        proven = "Proven optimal: every better" if found.best else "Proven: every"
        why = f"{proven} configuration needs at least as much memory as one of these failures:"
    return [why, *(f"    {_shown(r, found.search)}: {verdict(r)}" for r in found.decisive)]


def counted(count: int, what: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def _shown(result: TrialResult, search: Search) -> str:
    return describe.sizes(result.config, "=", search.shown_axes)


def _figures(result: TrialResult) -> list[str]:
    """The needed memory and speed of a trial that passed."""
    needs = f"needs {show_size(result.needed_memory_bytes or 0)}"
    speed = result.tokens_per_second
    return [needs] if speed is None else [needs, f"{speed:,.0f} tokens/s"]
