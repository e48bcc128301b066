"""The output of a training."""

from __future__ import annotations

from worker.protocol.messages import Resumed, Tokenized, Truncated, Validated
from your_ai.planning import describe
from your_ai.runs.training_results import Expected
from your_ai.supervision.observation import Notice, Stopping
from your_ai.supervision.outcome import Outcome, OutcomeKind, Remedy
from your_ai.terminal.eta import show_duration
from your_ai.terminal.screen import Screen
from your_ai.terminal.status import Task
from your_ai.terminal.wording import advice, failure_text
from your_ai.training.job import Training
from your_ai.training.progress import Progress, Report
from your_ai.training.runner import WAIT_SECONDS
from your_ai.units import show_size

_TOLERANCE = 1.01
"""A measured peak may exceed its budget by this factor."""


class TrainingConsole:
    """Shows a training on a screen."""

    def __init__(self, screen: Screen, training: Training) -> None:
        self._screen = screen
        self._training = training
        self._validation: float | None = None
        self._notes = set[str]()

    def begin(self, progress: Progress) -> None:
        """Show the training, its expected memory and time, and where it is resumed."""
        training, screen = self._training, self._screen
        budget = training.request.budget_bytes
        screen.heading(f"Training {training.preset}")
        screen.print(_description(training), _expectation(training.expected))
        if training.expected.peak_bytes > budget * _TOLERANCE:
            screen.note(
                f"the expected peak exceeds the budget ({show_size(budget)}). A smaller "
                "--batch-size or --max-seq-length needs less memory."
            )
        if not training.data.validation:
            screen.note("no valid.jsonl found, so there is no validation.")
        if progress.trained:
            screen.print(f"Already finished (started {training.started_at}).")
        elif progress.attempts:
            where = _from(progress.saved)
            screen.print(f"Resuming {where} (training started {training.started_at}).")
        screen.print("")

    def attempt(self, progress: Progress) -> None:
        """Track the worker that is about to start."""
        request = self._training.request
        self._screen.begin("")
        self._screen.track(
            Task(
                request.budget_bytes,
                request.iters,
                title=f"Training {self._training.preset}",
                done=progress.saved,
                step_seconds=self._training.expected.seconds_per_iteration,
            )
        )

    def on_event(self, event: Notice, saved: int) -> None:
        """Show an event of the worker; ``saved`` is the last checkpoint before it."""
        self._screen.on_event(event)
        match event:
            case Stopping(seconds=seconds):
                self._screen.note(
                    "finishing the iteration to save a checkpoint, which can take up to "
                    f"{show_duration(seconds)}. Press Ctrl-C again to stop without it."
                )
            case Validated():
                self._validation = event.loss
            case Resumed() if event.iteration < saved:
                self._screen.note(
                    "the last checkpoint is missing or corrupt; resuming "
                    f"{_from(event.iteration)} instead."
                )
            case Tokenized() | Truncated():
                self._note_once(_about_data(event, self._training))

    def _note_once(self, text: str | None) -> None:
        """Show a note, unless an earlier attempt caused the same one."""
        if text is not None and text not in self._notes:
            self._notes.add(text)
            self._screen.note(text)

    def reported(self, report: Report) -> None:
        """Show finished iterations, and the last validation loss."""
        iters = self._training.request.iters
        line = f"[{report.iteration:>{len(str(iters))}}/{iters}] loss {report.loss:.3f}"
        if self._validation is not None:
            line += f", validation {self._validation:.3f}"
            self._validation = None
        if report.seconds:
            line += f", {report.tokens / report.seconds:,.0f} tokens/s"
        self._screen.print(line)

    def restarting(self, outcome: Outcome, progress: Progress) -> None:
        """Show why an attempt failed, and the settings of the next."""
        setting, changes = progress.setting, []
        if setting.micro_batches > 1:
            changes.append(f"{setting.micro_batches} micro-batches")
        if setting.limit_bytes < self._training.request.limit_bytes:
            changes.append(f"a memory limit of {show_size(setting.limit_bytes)}")
        how = " and ".join(changes) or "the same settings"
        waiting = ""
        if outcome.remedy is Remedy.WAIT:
            waiting = f"waiting up to {show_duration(WAIT_SECONDS)} for memory, then "
        self._screen.close()
        self._screen.print(
            failure_text(outcome.kind, outcome.reason),
            f"    {waiting}restarting {_from(progress.saved)} with {how}",
        )

    def end(self, outcome: Outcome, progress: Progress, hints: list[str]) -> None:
        """Show the outcome, the measured memory and time, and ``hints``."""
        is_done = outcome.kind is OutcomeKind.PASS
        lines = ["", "✓ Done" if is_done else failure_text(outcome.kind, outcome.reason)]
        if outcome.advice is not None:
            lines.append(advice(outcome.advice))
        if progress.reports:
            lines.append(_measurement(self._training.expected, progress))
        self._screen.close()
        self._screen.print(*lines, *hints, self._screen.rule)


def _expectation(expected: Expected) -> str:
    how = "from measurements" if expected.is_measured else "estimated from measurements"
    return (
        f"Expected ({how}): peak {show_size(expected.peak_bytes)}, "
        f"{expected.seconds_per_iteration:.2f} s per iteration with sequences of full length, "
        f"{show_duration(expected.seconds)} of training"
    )


def _description(training: Training) -> str:
    request, configuration = training.request, training.request.configuration
    kind = "".join(f"{part}, " for part in describe.kind(configuration))
    return (
        f"{kind}{describe.sizes(configuration)}, up to {configuration.seq_length} tokens, "
        f"{request.iters:,} iterations, {training.data.sequences:,} sequences in {request.data}"
    )


def _about_data(event: Tokenized | Truncated, training: Training) -> str | None:
    limit = f"{training.request.configuration.seq_length:,} tokens"
    if isinstance(event, Truncated):
        return (
            f"sequences longer than {limit} are truncated (--max-seq-length); the first such "
            f"sequence has {event.tokens:,}."
        )
    is_train = event.file == "train.jsonl"
    total = training.data.sequences if is_train else training.data.validation
    of_all = f"of {total:,} sequences in {event.file}"
    if event.done < total:
        return f"tokenized {event.done:,} {of_all} (for --mask-prompt)."
    if event.dropped:
        return f"dropped {event.dropped:,} {of_all}: they have no completion within {limit}."
    return None


def _from(iteration: int) -> str:
    return f"from iteration {iteration:,}" if iteration else "from the start"


def _measurement(expected: Expected, progress: Progress) -> str:
    measured = progress.measured
    return (
        f"Measured: peak {show_size(measured.peak_bytes or 0)} "
        f"(expected {show_size(expected.peak_bytes)}), "
        f"{measured.seconds_per_iteration or 0:.2f} s per iteration "
        f"(expected {expected.seconds_per_iteration:.2f} s), "
        f"{show_duration(measured.seconds)} of training"
    )
