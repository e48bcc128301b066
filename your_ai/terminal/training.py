"""What a training says, and when."""

from __future__ import annotations

from worker.protocol.messages import Event, Truncated, Validated
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.terminal.eta import show_duration
from your_ai.terminal.screen import WIDTH, Screen
from your_ai.terminal.status import Task
from your_ai.training.job import Expected, Setting, Training
from your_ai.training.progress import Progress, Report
from your_ai.units import show_size

_HARDLY_MORE = 1.01
"""A measured peak may be above its budget by so much."""

_ENDS = {
    OutcomeKind.PASS: "✓ Done",
    OutcomeKind.INTERRUPTED: "– Interrupted",
}


class TrainingConsole:
    """Tells a training's course on a screen."""

    def __init__(self, screen: Screen, training: Training) -> None:
        self._screen = screen
        self._training = training
        self._rule = "━" * min(WIDTH, screen.width)
        self._validation: float | None = None
        self._is_cut = False

    def begin(self, progress: Progress) -> None:
        """The head: what is trained, and what it is expected to take."""
        spec, screen = self._training.spec, self._screen
        screen.print(f"{self._rule}\nTraining {self._training.name}\n{self._rule}")
        screen.print(
            f"batch={spec.batch_size}, rank={spec.lora_rank}, layers={spec.lora_layers}, "
            f"up to {spec.max_seq_length} tokens, {spec.iters:,} iterations on "
            f"{self._training.data.sequences:,} sequences of {spec.data}"
        )
        screen.print(expectation(self._training.expected))
        if self._training.expected.peak_bytes > spec.budget_bytes * _HARDLY_MORE:
            screen.print(
                f"Note: that is more than the {show_size(spec.budget_bytes)} that the results had "
                "as their budget; a smaller --batch-size or --max-seq-length takes less."
            )
        if not self._training.data.validation:
            screen.print("Note: there is no valid.jsonl, so that nothing is validated.")
        if progress.is_done:
            screen.print(f"It was done already, begun {self._training.started_at}.")
        elif progress.attempts:
            where = f"behind iteration {progress.saved:,}" if progress.saved else "from its start"
            screen.print(f"Resuming the training of {self._training.started_at} {where}.")
        screen.print("")

    def hear(self, event: Event) -> None:
        """An event as the worker reports it."""
        self._screen.on_event(event)
        if isinstance(event, Truncated) and not self._is_cut:
            self._is_cut = True
            self._screen.print(
                f"Note: there are sequences longer than {self._training.spec.max_seq_length:,} "
                f"tokens, the first of {event.tokens:,}: they are cut (--max-seq-length)."
            )

    def attempt(self, done: int) -> None:
        """A worker is about to be started."""
        spec = self._training.spec
        self._screen.begin("")
        self._screen.track(
            Task(
                spec.budget_bytes,
                spec.iters,
                title=f"Training {self._training.name}",
                done=done,
                step_seconds=self._training.expected.seconds_per_iteration,
            )
        )

    def moved(self, iteration: int) -> None:
        """The newest checkpoint is not there any more, or cannot be read."""
        self._screen.print(
            "Note: the last checkpoint is gone or damaged; going on "
            + (f"behind iteration {iteration:,} instead." if iteration else "from the start.")
        )

    def reported(self, report: Report) -> None:
        """Some iterations were done."""
        width = len(str(self._training.spec.iters))
        line = f"[{report.iteration:>{width}}/{self._training.spec.iters}] loss {report.loss:.3f}"
        if self._validation is not None:
            line += f", validation {self._validation:.3f}"
            self._validation = None
        self._screen.print(f"{line}, {report.tokens_per_second:,.0f} tokens/s")

    def validated(self, event: Validated) -> None:
        """The validation set was looked at: told with the next report."""
        self._validation = event.loss

    def restarting(self, outcome: Outcome, setting: Setting, done: int) -> None:
        """An attempt failed, and is begun again."""
        self._screen.close()
        self._screen.print(f"✗ {outcome.kind}: {outcome.reason}")
        how = [f"each batch in {setting.parts} parts"] if setting.parts > 1 else []
        if setting.limit_bytes < self._training.spec.limit_bytes:
            how.append(f"under a limit of {show_size(setting.limit_bytes)}")
        where = f"behind iteration {done:,}" if done else "from the start"
        self._screen.print(f"    going on {where}, {', '.join(how) or 'as before'}")

    def end(self, outcome: Outcome, progress: Progress, told: list[str]) -> None:
        """The foot: how it ended, what it took against what was expected, where things are."""
        self._screen.close()
        mark = _ENDS.get(outcome.kind)
        self._screen.print("")
        self._screen.print(mark or f"✗ {outcome.kind}: {outcome.reason}")
        if progress.reports:
            self._screen.print(_taken(self._training.expected, progress))
        for line in told:
            self._screen.print(line)
        self._screen.print(self._rule)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._screen.close()


def expectation(expected: Expected) -> str:
    """What a training will take."""
    how = "measured" if expected.is_measured else "estimated from what was measured"
    return (
        f"Expected ({how}): a peak of {show_size(expected.peak_bytes)}; at full length "
        f"{expected.seconds_per_iteration:.2f} s an iteration, "
        f"{show_duration(expected.seconds)} of training"
    )


def _taken(expected: Expected, progress: Progress) -> str:
    reports = list(progress.reports.values())
    seconds = sum(report.seconds for report in reports)
    each = seconds / sum(report.iterations for report in reports)
    peak = max(report.peak_bytes for report in reports)
    return (
        f"Took: a peak of {show_size(peak)} (expected {show_size(expected.peak_bytes)}), "
        f"{each:.2f} s an iteration ({expected.seconds_per_iteration:.2f}), "
        f"{show_duration(seconds)} of training"
    )
