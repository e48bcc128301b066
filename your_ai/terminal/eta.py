"""How long a run will still take, from how long its trials took: pure."""

from __future__ import annotations

from collections.abc import Sequence

from your_ai.planning.plan import Trial
from your_ai.runs.run import Run
from your_ai.units import parameters_of

_START_SECONDS = 3.0
"""Of each trial, for a worker's start: imports, the first kernels."""

_SEARCH_TRIALS = 4
"""The median of a search with an estimate, docs/measurements.md."""


def trials_ahead(run: Run, trial: Trial, number: int) -> list[Trial]:
    """The trials that a run will probably still consist of, from ``trial`` on.

    ``number`` counts the trials of the present model from 1; those of a search are not known yet,
    so each is taken to be of the middle of its grid.
    """
    now, *later = run.trials[trial.index - 1 :]
    after = [ahead for each in later for ahead in (each, *_searched(run, each, 1))]
    return [trial, *_searched(run, now, number), *after]


def seconds_left(done: Sequence[tuple[Trial, float]], ahead: Sequence[Trial]) -> float | None:
    """Seconds for the trials ``ahead``; ``None`` before any was ``done`` (with its seconds).

    A trial's time is taken to be a start and a part that grows with the model's parameters and the
    tokens it is trained on; the latest trials, the largest so far, tell how fast.
    """
    if not done:
        return None
    latest = done[-2:]
    seconds = sum(max(0.0, took - _START_SECONDS) for _, took in latest)
    pace = seconds / sum(_work(trial) for trial, _ in latest)
    return sum(_START_SECONDS + pace * _work(trial) for trial in ahead)


def show_duration(seconds: float) -> str:
    """``20 s``, ``4 min``, ``1 h 30 min``: no finer than an estimate is."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def _searched(run: Run, trial: Trial, tried: int) -> list[Trial]:
    if run.search is None:
        return []
    grid = run.search.grid.around(trial.configuration, trial.model.layers)
    count = grid.size if run.search.exhaustive else _SEARCH_TRIALS
    middle = grid.at(*(axis[len(axis) // 2] for axis in grid.axes.values()))
    return [trial.with_configuration(middle)] * max(0, count - tried)


def _work(trial: Trial) -> float:
    c = trial.configuration
    tokens = c.batch_size * c.seq_length * (trial.request.steps + 3)
    return parameters_of(trial.model.params) * tokens
