"""What a terminal shows of a trial under way, and the lines that it settles into."""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console as RichConsole

from tests.support.builders import passing_events
from tests.support.ladder import GOLDEN, LADDER, print_all, run
from worker.protocol.messages import Event, Memory, Phase, PhaseBegan, Step, Validated
from your_ai.terminal.benchmark import Console
from your_ai.terminal.live import LiveScreen
from your_ai.terminal.status import Task, WorkerStatus, figures, progress
from your_ai.units import GB


def after(events: Sequence[Event]) -> WorkerStatus:
    return functools.reduce(WorkerStatus.after, events, WorkerStatus())


TRIAL = Task(8 * GB, steps=5)
TRAINING = Task(8 * GB, steps=100, title="Training m", done=20, step_seconds=5.0)


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "starting"),
        (2, "starting MLX"),
        (4, "making the model"),
        (7, "finding the needed memory, step 1"),
        (9, "finding the needed memory, step 3"),
        (11, "training under the budget, step 1 of 5"),
        (13, "training under the budget, step 3 of 5"),
        (16, "training under the budget, step 5 of 5"),
    ],
)
def test_the_phase_and_step(count: int, shown: str) -> None:
    assert progress(TRIAL, after(passing_events()[:count])) == shown


def test_the_figures() -> None:
    status = WorkerStatus(Phase.TIGHT, 2, 2, 5.0, 1234.5, (5.0,), None, 3 * GB)
    assert figures(replace(TRIAL, seconds_left=127.4), status, 7.4) == (
        "memory 3.0 GB of 8.0 GB, 1,234 tokens/s, 7 s, about 2 min left"
    )
    over_time = replace(TRIAL, seconds_left=7.0)
    assert figures(over_time, WorkerStatus(), 7.4) == "memory 0.0 MB of 8.0 GB, 7 s"


def test_a_training_under_way() -> None:
    begun = WorkerStatus(Phase.TRAIN, active_bytes=3 * GB)
    assert progress(TRAINING, begun) == "training, iteration 21 of 100"
    assert figures(TRAINING, begun, 2.0) == "memory 3.0 GB of 8.0 GB, 2 s, about 7 min left"
    later = WorkerStatus(Phase.TRAIN, 60, 40, 76.0, 900.0, (5.0, 3.0, 2.3456), 2.5, 4 * GB)
    assert progress(TRAINING, later) == "training, iteration 61 of 100"
    assert figures(TRAINING, later, 80.0) == (
        "loss 2.346 █▃▁, validation 2.500, memory 4.0 GB of 8.0 GB, 900 tokens/s, 80 s, "
        "about 1 min left"
    )


def test_the_last_losses_are_kept() -> None:
    steps = [Step(1.0, Phase.TRAIN, i, 0.5, 100, 40.0 - i, GB) for i in range(1, 40)]
    status = after([PhaseBegan(0.0, Phase.TRAIN), *steps, Validated(1.0, 40, 2.5, 1.0)])
    assert (status.step, status.validation) == (39, 2.5)
    assert status.losses == tuple(40.0 - index for index in range(16, 40))
    level = replace(status, losses=(1.0, 1.0))
    assert figures(TRAINING, level, 1.0).startswith("loss 1.000 ▁▁, ")


class Terminal:
    """A screen whose terminal is a buffer of so many columns."""

    def __init__(self, columns: int) -> None:
        self.file = io.StringIO()
        self.screen = LiveScreen(
            RichConsole(file=self.file, width=columns, force_terminal=True, color_system=None)
        )

    @property
    def text(self) -> str:
        return self.file.getvalue()


@pytest.fixture(autouse=True)
def _a_capable_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_line_is_longer_than_the_terminal_is_wide(columns: int) -> None:
    terminal = Terminal(columns)
    print_all(terminal.screen, LADDER)
    assert max(map(len, terminal.text.splitlines())) <= columns


def test_a_wide_terminal_shows_what_a_file_would() -> None:
    terminal = Terminal(200)
    print_all(terminal.screen, LADDER)
    assert terminal.text == GOLDEN


def test_a_narrow_one_says_the_same_words() -> None:
    terminal = Terminal(40)
    print_all(terminal.screen, LADDER)

    def words(text: str) -> list[str]:
        return text.replace("(  ", "(").replace("( ", "(").replace("━", "").split()

    assert words(terminal.text) == words(GOLDEN)
    assert (
        "[1/5] hermes-mistral-7b (7B) ... ✓ Pass\n        (12.4 GB, needs 6.0 GB," in terminal.text
    )


def test_a_path_is_never_broken() -> None:
    terminal = Terminal(40)
    path = f"/a/{'long/' * 20}results.json"
    terminal.screen.print(f"Results written to {path}")
    assert path in terminal.text


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_running_trial(columns: int) -> None:
    terminal = Terminal(columns)
    console = Console(terminal.screen, run())
    console.trial_began(run().trials[0])
    for event in (
        PhaseBegan(1.0, Phase.TIGHT),
        Step(2.0, Phase.TIGHT, 1, 0.5, 1000, 9.0, GB),
        Memory(2.5, 2 * GB, 0),
    ):
        console.on_event(event)
    assert terminal.screen._live is not None
    terminal.screen._live.refresh()
    console.trial_ended(LADDER[0])
    for shown in ("hermes-mistral-7b", "finding the needed memory", "step 2", "2,000 tokens/s"):
        assert shown in terminal.text
    assert "memory 2.0 GB of 28.8 GB" in terminal.text
    # What was drawn is taken back: line by line up, each erased, the cursor shown again.
    *_, settled = terminal.text.split("\x1b[?25h")
    assert "✓ Pass" in settled
    assert "finding" not in settled


def test_events_may_come_from_a_thread_and_late() -> None:
    terminal = Terminal(80)
    console = Console(terminal.screen, run())
    console.trial_began(run().trials[0])
    listener = threading.Thread(target=console.on_event, args=[Memory(2.5, 2 * GB, 0)])
    listener.start()
    listener.join()
    console.trial_ended(LADDER[0])
    settled = terminal.text
    assert "memory 2.0 GB" in settled
    console.on_event(Memory(2.6, 2 * GB, 0))
    assert terminal.text == settled


def test_what_is_under_way_is_cleared_however_the_run_stops() -> None:
    terminal = Terminal(80)
    console = Console(terminal.screen, run())
    console.trial_began(run().trials[0])
    console.on_event(Memory(2.5, 2 * GB, 0))
    terminal.screen.close()
    terminal.screen.close()
    assert terminal.text.count("\x1b[?25h") == 1


def test_a_models_name_cannot_command_the_terminal() -> None:
    terminal = Terminal(80)
    terminal.screen.print("[bold]\x1b[2Jname[/bold]")
    assert terminal.text == "[bold]\\x1b[2Jname[/bold]\n"
