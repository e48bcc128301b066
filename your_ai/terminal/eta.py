"""How far a run is, and how long the rest will take: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from your_ai.planning.plan import Trial
from your_ai.runs.run import Run
from your_ai.runs.searching import grid_for
from your_ai.search.search import Objective
from your_ai.units import parameters_of

_SEARCH_TRIALS, _MAP_TRIALS = 4, 12
"""Median numbers of trials of searches that are guided by an estimate (docs/measurements.md)."""


@dataclass(frozen=True, slots=True)
class Duration:
    """How long a complete trial took in total, and how much of this its steps took."""

    trial: Trial
    seconds: float
    step_seconds: float


def position(run: Run, trial: Trial, number: int | None) -> list[str]:
    """Which model of the run this is and, if ``number`` is given, which trial of its search."""
    parts = []
    if len(run.trials) > 1:
        parts.append(f"model {trial.index} of {len(run.trials)}")
    if number is not None and run.search is not None:
        own = run.trials[trial.index - 1]
        grid = grid_for(own, run.search)
        is_extra = run.command == "benchmark" and own.configuration not in grid.sizes
        most = "" if run.search.exhaustive else "at most "
        # A search for the length never comes close to trying all lengths.
        is_bounded = run.search.exhaustive or not run.search.varies_length
        limit = f" of {most}{grid.size + is_extra}" if is_bounded else ""
        parts.append(f"trial {number}{limit}")
    return parts


def trials_ahead(run: Run, trial: Trial, number: int) -> list[Trial]:
    """``trial`` and the trials that are expected after it.

    ``number`` is that of ``trial`` among the trials of its model, from 1. The configurations of a
    search are not known in advance, so each is assumed to be in the middle of the grid. Trials that
    need no worker take no time.
    """
    current, *later = run.trials[trial.index - 1 :]
    started = [each for each in later if not each.is_too_large]
    after = [ahead for each in started for ahead in (each, *_search_trials(run, each, 1))]
    return [trial, *_search_trials(run, current, number), *after]


def expected_seconds(
    done: Sequence[Duration], ahead: Sequence[Trial], cooldown: float = 0.0
) -> float | None:
    """Estimated seconds for the trials ``ahead``; ``None`` if no trial is ``done``.

    Each trial is preceded by a pause of ``cooldown`` seconds.

    The time of the steps is proportional to parameters × tokens. The rest of a trial (imports,
    loading, kernels) is assumed to be constant. Both are taken from the last two trials.
    """
    if not ahead:
        return 0.0
    if not done:
        return None
    latest = done[-2:]
    constant = sum(each.seconds - each.step_seconds for each in latest) / len(latest)
    pace = sum(each.step_seconds for each in latest) / sum(_work(each.trial) for each in latest)
    return sum(cooldown + constant + pace * _work(trial) for trial in ahead)


def show_duration(seconds: float) -> str:
    """``20 s``, ``4 min`` or ``1 h 30 min``."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def show_end(end: datetime, now: datetime) -> str:
    """``at 14:32``, ``Thu 06:10`` on another day, or ``3 Dec 06:10`` after a week or more."""
    days = (end.date() - now.date()).days
    if days == 0:
        return f"at {end:%H:%M}"
    return f"{end:%a %H:%M}" if days < 7 else f"{end.day} {end:%b %H:%M}"


def _search_trials(run: Run, trial: Trial, tried: int) -> list[Trial]:
    """The trials expected in the search of a model of which ``tried`` trials were started."""
    if run.search is None:
        return []
    grid = grid_for(trial, run.search)
    usual = _MAP_TRIALS if run.search.objective is Objective.CEILING else _SEARCH_TRIALS
    count = grid.size if run.search.exhaustive else min(usual, grid.size)
    return [trial.with_configuration(grid.middle)] * max(0, count - tried)


def _work(trial: Trial) -> float:
    c = trial.configuration
    tokens = c.batch_size * c.seq_length * (trial.request.steps + 3)
    return parameters_of(trial.model.params) * tokens
