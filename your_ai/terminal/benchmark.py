"""The output of a run."""

from __future__ import annotations

import time
from collections.abc import Iterable

from worker.protocol.messages import Phase, Started, Step
from your_ai.planning.plan import Trial
from your_ai.runs.ceiling_map import CeilingMap
from your_ai.runs.optimization import Optimization
from your_ai.runs.results import Results
from your_ai.runs.run import Run
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.observation import Notice
from your_ai.terminal import config_answer, data_wording, wording
from your_ai.terminal.eta import (
    Duration,
    expected_seconds,
    position,
    show_duration,
    trials_ahead,
)
from your_ai.terminal.screen import Screen
from your_ai.terminal.status import Task


class Console:
    """Shows a run on a screen, with one line per trial."""

    def __init__(self, screen: Screen, run: Run) -> None:
        self._screen = screen
        self._run = run
        self._finished: list[Duration] = []
        self._running: tuple[Trial, float] | None = None
        self._step_seconds = 0.0
        self._is_measured = False

    def begin(self, done_before: int, *, is_complete: bool = False) -> None:
        """Show the machine and, for a resumed run, how much is done."""
        self._head("Hardware Benchmark", done_before, is_complete)
        self._screen.print(*wording.training(self._run))
        self._screen.print("Testing models from smallest to largest...\n")

    def begin_search(self, trial: Trial, done_before: int, *, is_complete: bool = False) -> None:
        """Show the machine and what the search for a model's best configuration looks for."""
        self._head("Configuration Search", done_before, is_complete)
        self._screen.print(wording.goal(self._run, trial))

    def begin_ceiling(self, done_before: int, *, is_complete: bool = False) -> None:
        """Show the machine, before the maps of the longest sequences."""
        self._head("Longest Sequences", done_before, is_complete)

    def map_began(self, trial: Trial) -> None:
        """Show which model's map is measured."""
        self._screen.print(wording.goal(self._run, trial))

    def map_ended(self, found: CeilingMap) -> None:
        """Show a model's map, if there are several models."""
        if len(self._run.trials) > 1:
            from your_ai.terminal import ceiling  # slow: imports rich

            lengths, width = found.longest.data_lengths, self._screen.width
            self._screen.print("", *ceiling.lines(found.as_result(), lengths, width), "")

    def end_ceiling(self, results: Results, written: Iterable[str]) -> None:
        """Show the map of the only model or of all models, and where the files were ``written``."""
        from your_ai.terminal import ceiling  # slow: imports rich

        answer = ceiling.answer(results.results, len(self._run.trials), self._screen.width)
        self._foot([*answer, *wording.untried(self._run, results)], written)

    def trial_began(self, trial: Trial) -> None:
        """Show the first half of a trial's line."""
        self._screen.begin(wording.model(trial, len(self._run.trials)))
        self._track(trial, None)

    def candidate_began(self, trial: Trial, number: int) -> None:
        """Show the first half of the line of a configuration in a search."""
        self._screen.begin(f"{wording.configuration(self._run, trial, number)} ... ")
        self._track(trial, number)

    def cooling(self, seconds: float) -> None:
        """Show that the worker starts after a pause."""
        self._screen.cool_down(seconds)

    def on_event(self, event: Notice) -> None:
        """Show an event of the running worker."""
        if self._running and isinstance(event, Started):  # after a pause, or once more
            self._running = (self._running[0], time.monotonic())
            self._step_seconds = 0.0
        if self._running and isinstance(event, Step):
            trial, _ = self._running
            self._step_seconds += event.seconds if event.is_timed else 0.0
            is_last = event.index >= trial.request.steps
            self._is_measured = is_last and event.phase is Phase.RELAXED
        self._screen.on_event(event)

    def trial_ended(self, result: TrialResult) -> None:
        """Show a trial's outcome and, for a failure, its log and a suggestion."""
        self.candidate_ended(result)
        self._screen.print(*data_wording.expectation(result))
        if result.advice is not None:
            self._screen.print(wording.advice(result.advice))

    def candidate_ended(self, result: TrialResult) -> None:
        """Show the outcome of a configuration in a search, without a suggestion."""
        self._ended()
        self._screen.end(wording.verdict(result))
        self._screen.print(*wording.log_of(result), *wording.notes(result))

    def optimizing(self) -> None:
        """Show the first half of the line of a model's search."""
        self._screen.begin("    Optimizing configuration ... ")

    def optimizing_trial(self, trial: Trial, number: int) -> None:
        """Show which configuration of the search is running."""
        self._track(trial, number, wording.configuration(self._run, trial, number))

    def optimized(self, found: Optimization) -> None:
        """Show the result of a model's search."""
        self._ended()
        self._screen.end(f"{'✓' if found.best else '–'} ({wording.optimal(found)})")
        for result in found.results:
            self._screen.print(*wording.log_of(result))
        self._screen.print(*wording.notes(*found.results), *_expectation(found))

    def end(self, results: Results, written: Iterable[str]) -> None:
        """Show the recommendation, and where the files were ``written``."""
        lines = [*wording.recommendation(results), *config_answer.answer(self._run, results)]
        self._foot([*lines, *wording.untried(self._run, results)], written)

    def end_search(self, found: Optimization, written: Iterable[str]) -> None:
        """Show the best configuration, its proof, and where the files were ``written``."""
        answer = [f"Optimal: {wording.optimal(found)}", *_expectation(found)]
        if found.best and found.search.varies_length:
            answer += wording.cut(found.best)
        self._foot([*answer, *wording.proof(found)], written)

    def _head(self, title: str, done_before: int, is_complete: bool) -> None:
        self._screen.heading(title)
        self._screen.print(wording.memory(self._run))
        if self._run.cooldown:
            self._screen.print(f"Pausing {show_duration(self._run.cooldown)} between trials.")
        if done_before:
            self._screen.print(wording.resuming(self._run, done_before, is_complete=is_complete))

    def _foot(self, answer: Iterable[str], written: Iterable[str]) -> None:
        self._screen.print("")
        self._screen.heading("Results")
        self._screen.print(*answer, self._screen.rule, *written)

    def _track(self, trial: Trial, number: int | None, title: str = "") -> None:
        """Track a trial; ``number`` counts the trials of a search, and is ``None`` outside one."""
        self._ended()
        self._running = (trial, time.monotonic())
        self._step_seconds, self._is_measured = 0.0, False
        current, *later = trials_ahead(self._run, trial, number or 1)
        task = Task(
            trial.request.budget_bytes,
            trial.request.steps,
            title,
            position(self._run, trial, number),
            seconds=expected_seconds(self._finished, [current]),
            later_seconds=expected_seconds(self._finished, later, self._run.cooldown),
        )
        self._screen.track(task)

    def _ended(self) -> None:
        if self._running and self._is_measured:  # others say little about the time of a trial
            trial, started = self._running
            seconds = time.monotonic() - started
            self._finished.append(Duration(trial, seconds, self._step_seconds))
        self._running = None


def _expectation(found: Optimization) -> list[str]:
    return [*data_wording.expectation(found.best)] if found.best else []
