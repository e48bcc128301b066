"""Comparison of two results files: which trials regressed by more than measurement noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean, stdev

from worker.protocol.configuration import Configuration, Weights
from worker.protocol.messages import Phase
from your_ai.errors import UsageError
from your_ai.models.quantization import Quantization
from your_ai.planning.describe import kind, sizes
from your_ai.report.naming import by_caveats, speed_caveats
from your_ai.runs.results import Results
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.outcome import OutcomeKind
from your_ai.units import show_size

_SIGNIFICANT = 2.0
"""Standard errors by which two mean speeds must differ to count as different."""

_Key = tuple[str, str, Configuration]
_Trials = dict[_Key, TrialResult]


@dataclass(frozen=True, slots=True)
class Change:
    """One metric in both files; ``noise`` is the relative difference that is expected by chance."""

    before: float
    after: float
    noise: float
    more_is_worse: bool

    @property
    def share(self) -> float:
        """The relative change: 0.1 is 10% more."""
        return self.after / self.before - 1

    def is_regression(self, threshold: float) -> bool:
        """Return whether it is worse by more than the share ``threshold`` and more than noise."""
        worse = self.share if self.more_is_worse else -self.share
        return worse > max(threshold, self.noise)


@dataclass(frozen=True, slots=True)
class Pair:
    """The same trial in both files, and the changes of the metrics that both have, by name.

    Peak memory is missing if the budgets differ, because it depends on the budget.
    """

    name: str
    outcome_before: OutcomeKind
    outcome_after: OutcomeKind
    changes: dict[str, Change]

    def regressions(self, threshold: float) -> list[str]:
        """Return the metrics that regressed, with ``outcome`` if the trial no longer passes."""
        failed_after = self.outcome_after not in (OutcomeKind.PASS, OutcomeKind.INTERRUPTED)
        failed = self.outcome_before is OutcomeKind.PASS and failed_after
        worse = [name for name, change in self.changes.items() if change.is_regression(threshold)]
        return [*(["outcome"] if failed else []), *worse]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The trials of two results files.

    Attributes:
        differences: of the machines, versions and conditions, which may explain the changes.
        lost: models that passed before and are missing now.
    """

    pairs: tuple[Pair, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    differences: tuple[str, ...]
    lost: tuple[str, ...]

    def has_regression(self, threshold: float) -> bool:
        """Return whether a model is lost or a trial regressed; see `Change.is_regression`."""
        return bool(self.lost) or any(pair.regressions(threshold) for pair in self.pairs)


def compare(before: Results, after: Results, *, memory_only: bool = False) -> Comparison:
    """Match the trials by model and configuration; with ``memory_only`` ignore slower speeds.

    Raises:
        UsageError: if they have no trial in common.
    """
    old, new = ({_key(trial): trial for trial in results.trials} for results in (before, after))
    both = [key for key in old if key in new]
    if not both:
        raise UsageError(
            "The two files have no trial in common. Compare results of the same models and "
            f"configurations. BASE has {_first(old)}; NEW has {_first(new)}."
        )
    return Comparison(
        tuple(_pair(old[key], new[key], memory_only) for key in both),
        tuple(_name(old[key]) for key in old if key not in new),
        tuple(_name(new[key]) for key in new if key not in old),
        (*_differences(before, after), *_caveats(old, new, both)),
        tuple(_lost(before, after)),
    )


def _first(trials: _Trials) -> str:
    """Return the first trial's name, and how many others there are."""
    names = [_name(trial) for trial in trials.values()]
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{others}" if names else "none"


def _key(trial: TrialResult) -> _Key:
    return trial.model_name, trial.preset, trial.config.configuration


def _lost(before: Results, after: Results) -> Iterator[str]:
    if not after.complete:
        return  # the missing models may not have been tried yet
    present = {(entry.model_name, entry.preset) for entry in after.results}
    for entry in before.results:
        if entry.success and (entry.model_name, entry.preset) not in present:
            yield entry.preset


def _name(trial: TrialResult) -> str:
    c = trial.config
    parts = [sizes(c)]
    parts.append(f"{c.seq_length} tokens")
    parts.append(Quantization.of(c).label)
    parts += kind(c)
    if c.weights is not Weights.SYNTHETIC:
        parts.append(f"{c.weights} weights")
    if not c.grad_checkpoint:
        parts.append("no checkpointing")
    return f"{trial.preset} ({', '.join(parts)})"


def _pair(old: TrialResult, new: TrialResult, memory_only: bool) -> Pair:
    return Pair(_name(new), old.outcome, new.outcome, dict(_changes(old, new, memory_only)))


def _changes(old: TrialResult, new: TrialResult, memory_only: bool) -> Iterator[tuple[str, Change]]:
    memory = {"needed_memory_bytes": Phase.TIGHT}
    if old.config.budget_bytes == new.config.budget_bytes:
        memory["peak_memory_bytes"] = Phase.RELAXED
    for name, phase in memory.items():
        before, after = getattr(old, name), getattr(new, name)
        if before and after:
            noise = max(_spread(old, phase), _spread(new, phase))
            yield name, Change(before, after, noise, more_is_worse=True)
    speed, speed_after = old.tokens_per_second, new.tokens_per_second
    if speed and speed_after:
        noise = _SIGNIFICANT * math.hypot(_error(old), _error(new))
        if memory_only or speed_caveats(old) or speed_caveats(new):
            noise = math.inf
        yield "tokens_per_second", Change(speed, speed_after, noise, more_is_worse=False)


def _spread(trial: TrialResult, phase: Phase) -> float:
    """Return the relative spread of a phase's peaks, without the first, which is a warm-up."""
    peaks = [s.peak_bytes for s in trial.steps if s.phase is phase and s.index > 1]
    return 1 - min(peaks) / max(peaks) if peaks else 0.0


def _error(trial: TrialResult) -> float:
    """Return the relative standard error of the mean step; infinite for fewer than two steps."""
    relaxed = [step for step in trial.steps if step.phase is Phase.RELAXED]
    seconds = [step.seconds for step in relaxed if step.is_timed]
    if len(seconds) < 2:
        return math.inf
    return stdev(seconds) / math.sqrt(len(seconds)) / fmean(seconds)


def _differences(before: Results, after: Results) -> Iterator[str]:
    for name, results in (("BASE", before), ("NEW", after)):
        if not results.complete:
            yield f"the run in {name} did not finish"
    old, new = _environment(before), _environment(after)
    for what in dict.fromkeys([*old, *new]):
        if old.get(what) != new.get(what):
            yield f"{what}: {old.get(what, 'none')} → {new.get(what, 'none')}"


def _caveats(old: _Trials, new: _Trials, keys: Iterable[_Key]) -> Iterator[str]:
    """Yield which speeds are not compared because of power or heat."""
    compared = [key for key in keys if old[key].tokens_per_second and new[key].tokens_per_second]
    for side, trials in (("BASE", old), ("NEW", new)):
        for caveats, which in by_caveats((trials[key] for key in compared), _name):
            yield f"in {side}, the speed of {which} was measured {caveats}, so it is not compared"


def _environment(results: Results) -> dict[str, str]:
    """Return what a measurement may depend on."""
    machine, device = results.machine, results.device
    return {
        "system": f"{machine.system} {machine.release}",
        "architecture": machine.architecture,
        "CPUs": str(machine.cpus),
        "memory": f"{machine.memory_bytes} bytes",
        "device": f"{device.name} ({device.backend})",
        "budget": show_size(results.budget_bytes),
        **device.versions,
        "your_ai": results.your_ai_version,
    }
