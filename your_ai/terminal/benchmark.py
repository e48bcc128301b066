"""What a run says, and when."""

from __future__ import annotations

import time
from collections.abc import Iterable

from worker.protocol.messages import Event
from your_ai.planning.plan import Trial
from your_ai.runs.optimization import Optimization
from your_ai.runs.results import Results
from your_ai.runs.run import Run
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.outcome import OutcomeKind
from your_ai.system.signals import interrupts
from your_ai.terminal import wording
from your_ai.terminal.eta import seconds_left, trials_ahead
from your_ai.terminal.screen import Screen
from your_ai.terminal.status import Task


class Console:
    """Tells a run's course, one line a trial, on a screen."""

    def __init__(self, screen: Screen, run: Run) -> None:
        self._screen = screen
        self._run = run
        self._took: list[tuple[Trial, float]] = []
        self._running: tuple[Trial, float] | None = None
        self._heard = False

    def begin(self, done_before: int, *, is_complete: bool = False) -> None:
        """The head: the machine and what is about to happen; of a resumed run what is done."""
        self._head("Hardware Benchmark", done_before, is_complete)
        self._screen.print("Testing models from smallest to largest...\n")

    def begin_search(self, trial: Trial, done_before: int, *, is_complete: bool = False) -> None:
        """The head of a search for one model's best configuration."""
        self._head("Configuration Search", done_before, is_complete)
        self._screen.print(wording.goal(self._run, trial))

    def trial_began(self, trial: Trial) -> None:
        """The first half of a trial's line, out at once."""
        self._screen.begin(wording.model(trial, len(self._run.trials)))
        self._began(trial, 1)

    def candidate_began(self, trial: Trial, number: int) -> None:
        """The first half of a configuration's line, out at once."""
        self._screen.begin(f"{wording.configuration(trial, number)} ... ")
        self._began(trial, number)

    def on_event(self, event: Event) -> None:
        """What the worker of the trial that has begun reports."""
        self._heard = True
        self._screen.on_event(event)

    def trial_ended(self, result: TrialResult) -> None:
        """The second half: how it ended, and for a failure where to read more, and what to try."""
        self.candidate_ended(result)
        if result.advice is not None:
            self._screen.print(wording.advice(result.advice))

    def candidate_ended(self, result: TrialResult) -> None:
        """The second half of a configuration's line; over budget is no more than an answer."""
        self._ended()
        self._screen.end(wording.verdict(result))
        self._screen.print(*wording.log_of(result))

    def optimizing(self) -> None:
        """The first half of the line on a model's search, out at once."""
        self._screen.begin("    Optimizing configuration ... ")

    def optimizing_trial(self, trial: Trial, number: int) -> None:
        """Which configuration of the search is tried now."""
        self._began(trial, number, wording.configuration(trial, number))

    def optimized(self, found: Optimization) -> None:
        """The second half: what the search found."""
        self._ended()
        self._screen.end(f"{'✓' if found.best else '–'} ({wording.optimal(found)})")
        for result in found.results:
            self._screen.print(*wording.log_of(result))

    def end(self, results: Results, written: Iterable[str]) -> None:
        """The foot: the recommendation, and what is written where."""
        untried = [trial.model for trial in self._run.trials[len(results.results) :]]
        stopped = any(each.outcome is OutcomeKind.INTERRUPTED for each in results.trials)
        is_over = not (untried or stopped or interrupts.requested)
        lines = [*wording.recommendation(results.results, is_over=is_over)]
        if untried:
            names = ", ".join(f"{model.name} ({model.params})" for model in untried)
            lines.append(f"Not tried: {names}")
        self._foot(lines, written)

    def end_search(self, found: Optimization, written: Iterable[str]) -> None:
        """The foot of a search: the best configuration, what proves it, what is written where."""
        self._foot([f"Optimal: {wording.optimal(found)}", *wording.proof(found)], written)

    def _head(self, title: str, done_before: int, is_complete: bool) -> None:
        self._screen.heading(title)
        self._screen.print(wording.memory(self._run))
        if done_before:
            self._screen.print(wording.resuming(self._run, done_before, is_complete=is_complete))

    def _foot(self, answer: Iterable[str], written: Iterable[str]) -> None:
        self._screen.print("")
        self._screen.heading("Results")
        self._screen.print(*answer, self._screen.rule, *written)

    def _began(self, trial: Trial, number: int, title: str = "") -> None:
        self._ended()
        self._running, self._heard = (trial, time.monotonic()), False
        left = seconds_left(self._took, trials_ahead(self._run, trial, number))
        request = trial.request
        self._screen.track(Task(request.budget_bytes, request.steps, title, seconds_left=left))

    def _ended(self) -> None:
        if self._running and self._heard:  # one that was done before took no time now
            trial, began = self._running
            self._took.append((trial, time.monotonic() - began))
        self._running = None
