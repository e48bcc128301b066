"""What a run says, and when."""

from __future__ import annotations

import time
from collections.abc import Iterable

from worker.protocol.messages import Event
from your_ai.models.resolve import Model
from your_ai.planning.plan import Trial
from your_ai.runs.optimization import Optimization
from your_ai.runs.results import Results, recommended
from your_ai.runs.run import Run
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.outcome import OutcomeKind
from your_ai.system.signals import interrupts
from your_ai.terminal import wording
from your_ai.terminal.eta import seconds_left, trials_ahead
from your_ai.terminal.screen import WIDTH, Screen
from your_ai.terminal.status import Task


class Console:
    """Tells a run's course, one line a trial, on a screen."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._rule = "━" * min(WIDTH, screen.width)
        self._run: Run | None = None
        self._took: list[tuple[Trial, float]] = []
        self._running: tuple[Trial, float] | None = None
        self._heard = False

    def note(self, text: str) -> None:
        """Something that the user should know before the first trial."""
        self._screen.print(f"Note: {text}")

    def notes(self, models: Iterable[Model]) -> None:
        """What the user should know of these models before they are tried."""
        for model in models:
            if model.note is not None:
                self.note(model.note)

    def begin(self, run: Run, done_before: int) -> None:
        """The head: the machine and what is about to happen; of a resumed run what is done."""
        self._run = run
        self._head("Hardware Benchmark")
        self._screen.print(wording.memory(run.machine, run.device, run.budget_bytes))
        self._resuming(run, done_before)
        self._screen.print("Testing models from smallest to largest...\n")

    def begin_search(self, run: Run, trial: Trial, done_before: int) -> None:
        """The head of a search for one model's best configuration."""
        self._run = run
        self._head("Configuration Search")
        self._screen.print(wording.memory(run.machine, run.device, run.budget_bytes))
        self._resuming(run, done_before)
        self._screen.print(wording.goal(run, trial))

    def trial_began(self, trial: Trial, total: int) -> None:
        """The first half of a trial's line, out at once."""
        self._screen.begin(wording.model_began(trial, total))
        self._began(trial, 1)

    def candidate_began(self, trial: Trial, number: int) -> None:
        """The first half of a configuration's line, out at once."""
        self._screen.begin(wording.configuration_began(trial, number))
        self._began(trial, number)

    def on_event(self, event: Event) -> None:
        """What the worker of the trial that has begun reports."""
        self._heard = True
        self._screen.on_event(event)

    def trial_ended(self, result: TrialResult) -> None:
        """The second half: how it ended, and for a failure where to read more, and what to try."""
        self._ended()
        self._screen.end(wording.verdict(result))
        self._print_all([*wording.log_of(result), *wording.advice_on(result)])

    def candidate_ended(self, result: TrialResult) -> None:
        """The second half of a configuration's line; over budget is no more than an answer."""
        self._ended()
        self._screen.end(wording.verdict(result))
        self._print_all(wording.log_of(result))

    def optimizing(self) -> None:
        """The first half of the line on a model's search, out at once."""
        self._screen.begin(wording.search_began())

    def optimizing_trial(self, trial: Trial, number: int) -> None:
        """Which configuration of the search is tried now."""
        self._began(trial, number, wording.configuration_began(trial, number).removesuffix(" ... "))

    def optimized(self, found: Optimization) -> None:
        """The second half: what the search found."""
        self._ended()
        self._screen.end(wording.search_ended(found))
        for result in found.results:
            self._print_all(wording.log_of(result))

    def end(self, run: Run, results: Results, written: Iterable[str]) -> None:
        """The foot: the recommendation, and what is written where."""
        self._screen.print("")
        self._head("Results")
        untried = [trial.model for trial in run.trials[len(results.results) :]]
        stopped = any(each.outcome is OutcomeKind.INTERRUPTED for each in results.trials)
        is_over = not (untried or stopped or interrupts.requested)
        if results.recommended is None:
            self._screen.print(
                f"Recommended: none ({'no model passed' if is_over else 'not known yet'})"
            )
        else:
            so_far = "" if is_over else " so far"
            self._screen.print(
                f"Recommended{so_far}: {results.recommended} (largest model that fits)"
            )
            passed = [entry for entry in results.results if entry.success]
            others = [
                f"{entry.preset} ({entry.params})"
                for entry in passed
                if entry is not recommended(passed)
            ]
            if others:
                self._screen.print(f"Alternatives: {', '.join(others)}")
        if untried:
            names = ", ".join(f"{model.name} ({model.params})" for model in untried)
            self._screen.print(f"Not tried: {names}")
        self._foot(written)

    def end_search(self, found: Optimization, written: Iterable[str]) -> None:
        """The foot of a search: the best configuration, what proves it, what is written where."""
        self._screen.print("")
        self._head("Results")
        self._screen.print(f"Optimal: {wording.optimal(found)}")
        self._print_all(wording.proof(found))
        self._foot(written)

    def close(self) -> None:
        """Leave the terminal as it was, wherever the run has stopped."""
        self._screen.close()

    def _foot(self, written: Iterable[str]) -> None:
        self._screen.print(self._rule)
        self._print_all(written)

    def _began(self, trial: Trial, number: int, text: str = "") -> None:
        self._ended()
        self._running, self._heard = (trial, time.monotonic()), False
        ahead = trials_ahead(self._run, trial, number) if self._run else [trial]
        left = seconds_left(self._took, ahead)
        request = trial.request
        task = Task(request.budget_bytes, request.steps, title=text, seconds_left=left)
        self._screen.track(task)

    def _ended(self) -> None:
        if self._running and self._heard:  # one that was done before took no time now
            trial, began = self._running
            self._took.append((trial, time.monotonic() - began))
        self._running = None

    def _resuming(self, run: Run, done_before: int) -> None:
        if done_before and done_before == len(run.trials) and run.search is None:
            self._screen.print(f"This run (started {run.started_at}) is already complete.")
        elif done_before:
            done = f"{wording.counted(done_before, 'trial')} of it"
            self._screen.print(
                f"Resuming the run of {run.started_at}: {done} "
                f"{'is' if done_before == 1 else 'are'} done."
            )

    def _head(self, title: str) -> None:
        self._screen.print(f"{self._rule}\n{title}\n{self._rule}")

    def _print_all(self, texts: Iterable[str]) -> None:
        for text in texts:
            self._screen.print(text)
