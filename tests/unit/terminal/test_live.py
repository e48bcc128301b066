"""What a terminal shows of a running trial, and the line that remains."""

from __future__ import annotations

import functools
import io
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest
from rich.console import Console as RichConsole

from tests.support.builders import passing_events
from tests.support.ladder import GOLDEN, LADDER, ended, print_all, run
from worker.protocol.messages import Compiled, Event, Memory, Phase, PhaseBegan, Step, Validated
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.terminal.benchmark import Console
from your_ai.terminal.live import LiveScreen
from your_ai.terminal.status import Task, WorkerStatus, figures, outlook, progress
from your_ai.units import GB


def after(events: Sequence[Event]) -> WorkerStatus:
    return functools.reduce(WorkerStatus.after, events, WorkerStatus())


TRIAL = Task(8 * GB, steps=5)
TRAINING = Task(8 * GB, steps=100, title="Training m", done=20, step_seconds=5.0)
NOW = datetime.fromisoformat("2026-01-01T14:20:00")


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "starting"),
        (2, "starting MLX"),
        (4, "loading the model"),
        (7, "measuring the needed memory, step 1"),
        (9, "measuring the needed memory, step 3"),
        (11, "training within the budget, step 1 of 5"),
        (13, "training within the budget, step 3 of 5"),
        (16, "training within the budget, step 5 of 5"),
    ],
)
def test_the_phase_and_step(count: int, shown: str) -> None:
    assert ", ".join(progress(TRIAL, after(passing_events()[:count]))) == shown


def test_compiling_kernels_is_shown_until_a_step_is_finished() -> None:
    events: list[Event] = [PhaseBegan(1.0, Phase.TRAIN), Compiled(2.0), Memory(3.0, GB, 0)]
    task = replace(TRIAL, steps=100)
    assert progress(task, after(events)) == ["compiling kernels", "iteration 1 of 100"]
    done = Step(4.0, Phase.TRAIN, 1, 300.0, 100, 2.0, GB, compile_seconds=299.0)
    assert progress(task, after([*events, done])) == ["training", "iteration 2 of 100"]
    assert after([*events, done]).tokens_per_second is None


def test_figures() -> None:
    status = WorkerStatus(Phase.TIGHT, 2, 2, 5.0, 1234.5, (5.0,), None, 3 * GB)
    assert figures(TRIAL, status, 7.4) == ["memory 3.0 GB of 8.0 GB", "1,234 tokens/s", "7 s"]
    assert figures(TRIAL, WorkerStatus(), 7000.0) == ["memory 0.0 MB of 8.0 GB", "1 h 57 min"]


def test_outlook_of_a_trial() -> None:
    task = replace(TRIAL, position=["model 2 of 5"])
    assert outlook(task, WorkerStatus(), 7.4, NOW) == ["model 2 of 5"]
    timed = replace(task, seconds=127.4, later_seconds=600.0)
    shown = ["model 2 of 5", "about 12 min left", "(done at 14:32)"]
    assert outlook(timed, WorkerStatus(), 7.4, NOW) == shown
    assert outlook(timed, WorkerStatus(), 400.0, NOW)[1] == "about 10 min left"  # the later ones
    assert outlook(replace(task, later_seconds=None), WorkerStatus(), 7.4, NOW) == shown[:1]
    overnight = replace(TRIAL, seconds=0.0, later_seconds=16 * 3600)
    assert outlook(overnight, WorkerStatus(), 0.0, NOW) == [
        "about 16 h 00 min left",
        "(done Fri 06:20)",
    ]


def test_the_time_of_a_trial_follows_from_its_relaxed_steps() -> None:
    task = replace(TRIAL, seconds=3600.0, later_seconds=60.0)
    status = WorkerStatus(Phase.RELAXED, 2, 2, 40.0)
    assert outlook(task, status, 7.4, NOW)[0] == "about 2 min left"
    tight = WorkerStatus(Phase.TIGHT, 2, 2, 40.0)  # how many tight steps there will be is unknown
    assert outlook(task, tight, 0.0, NOW)[0] == "about 1 h 01 min left"


def test_a_running_training() -> None:
    started = WorkerStatus(Phase.TRAIN, active_bytes=3 * GB)
    assert progress(TRAINING, started) == ["training", "iteration 21 of 100"]
    assert figures(TRAINING, started, 2.0) == ["memory 3.0 GB of 8.0 GB", "2 s"]
    assert outlook(TRAINING, started, 2.0, NOW) == ["about 7 min left", "(done at 14:26)"]
    later = WorkerStatus(Phase.TRAIN, 60, 40, 76.0, 900.0, (5.0, 3.0, 2.3456), 2.5, 4 * GB)
    assert progress(TRAINING, later) == ["training", "iteration 61 of 100"]
    assert figures(TRAINING, later, 80.0) == [
        *("loss 2.346 █▃▁", "validation 2.500", "memory 4.0 GB of 8.0 GB", "900 tokens/s", "80 s")
    ]
    assert outlook(TRAINING, later, 80.0, NOW) == ["about 1 min left", "(done at 14:21)"]


def test_the_last_losses_are_kept() -> None:
    steps = [Step(1.0, Phase.TRAIN, i, 0.5, 100, 40.0 - i, GB) for i in range(1, 40)]
    status = after([PhaseBegan(0.0, Phase.TRAIN), *steps, Validated(1.0, 40, 2.5, 1.0)])
    assert (status.step, status.validation) == (39, 2.5)
    assert status.losses == tuple(40.0 - index for index in range(16, 40))
    level = replace(status, losses=(1.0, 1.0))
    assert figures(TRAINING, level, 1.0)[0] == "loss 1.000 ▁▁"


class Terminal:
    """A screen on a terminal with this number of columns, which is a buffer."""

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
def test_lines_fit_the_terminal(columns: int) -> None:
    terminal = Terminal(columns)
    print_all(terminal.screen, LADDER)
    assert max(map(len, terminal.text.splitlines())) <= columns


def test_a_wide_terminal_shows_the_same_as_a_pipe() -> None:
    terminal = Terminal(200)
    print_all(terminal.screen, LADDER)
    assert terminal.text == GOLDEN


def test_a_narrow_terminal_shows_the_same_words() -> None:
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
    console.trial_began(run().trials[1])
    for event in (
        PhaseBegan(1.0, Phase.TIGHT),
        Step(2.0, Phase.TIGHT, 1, 0.5, 1000, 9.0, GB),
        Memory(2.5, 2 * GB, 0),
    ):
        console.on_event(event)
    assert terminal.screen._live is not None
    terminal.screen._live.refresh()
    console.trial_ended(LADDER[1])
    for shown in ("dolphin-8b", "measuring the needed memory", "step 2", "2,000 tokens/s"):
        assert shown in terminal.text
    assert "memory 2.0 GB of 28.8 GB" in terminal.text
    assert "model 2 of 5" in terminal.text
    # The frame is erased line by line from below, then the cursor is shown again.
    *_, settled = terminal.text.split("\x1b[?25h")
    assert "✓ Pass" in settled
    assert "measuring" not in settled


def frame(columns: int, task: Task) -> list[str]:
    """The lines that are drawn of a task in its relaxed phase."""
    terminal = Terminal(columns)
    terminal.screen.begin("    Optimizing configuration ... ")
    terminal.screen.track(task)
    for event in passing_events()[:13]:
        terminal.screen.on_event(event)
    shown = terminal.screen._frame()
    terminal.screen.close()
    output = RichConsole(file=io.StringIO(), width=columns, color_system=None)
    with output.capture() as capture:
        output.print(shown)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_frame_fits_40_columns_without_breaking_parts() -> None:
    position = ["model 2 of 5", "trial 3 of at most 96"]
    title = "[3] batch=2  rank=64  layers=16"
    task = Task(8 * GB, 5, title, position=position, later_seconds=12 * 3600.0)
    lines = frame(40, task)
    assert max(map(len, lines)) <= 40
    # The terminal echoes ^C behind the last line.
    assert len(lines[-1]) <= 38
    text = "\n".join(lines)
    for part in (*position, "step 3 of 5", "memory 4.0 GB of 8.0 GB", "2,046 tokens/s"):
        assert part in text
    assert re.search(r"about 1[12] h \d\d min left", text)
    assert re.search(r"\(done (at|\w+) \d\d:\d\d\)", text)


@pytest.mark.parametrize("columns", [1, 5, 9, 15])
def test_a_very_narrow_terminal_is_no_error(columns: int) -> None:
    assert frame(columns, Task(8 * GB, 5, position=["model 1 of 5"]))


def test_a_frame_without_an_estimate_does_not_mention_the_time_left() -> None:
    text = "\n".join(frame(80, Task(8 * GB, 5, position=["model 1 of 5"], later_seconds=None)))
    assert "model 1 of 5" in text
    assert "left" not in text
    assert "done" not in text


def test_events_come_from_another_thread_and_after_the_end() -> None:
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


def test_closing_twice_clears_the_frame_once() -> None:
    terminal = Terminal(80)
    console = Console(terminal.screen, run())
    console.trial_began(run().trials[0])
    console.on_event(Memory(2.5, 2 * GB, 0))
    terminal.screen.close()
    terminal.screen.close()
    assert terminal.text.count("\x1b[?25h") == 1


def test_control_characters_in_names_are_escaped() -> None:
    terminal = Terminal(80)
    terminal.screen.print("[bold]\x1b[2Jname[/bold]")
    assert terminal.text == "[bold]\\x1b[2Jname[/bold]\n"


def shown(screen: LiveScreen, columns: int) -> str:
    output = RichConsole(file=io.StringIO(), width=columns, color_system=None)
    with output.capture() as capture:
        output.print(screen._frame())
    return capture.get()


def test_a_cooldown_is_shown_until_the_worker_starts() -> None:
    terminal = Terminal(80)
    console = Console(terminal.screen, run())
    console.trial_began(run().trials[1])
    console.cooling(120.0)
    assert terminal.screen._live is not None
    text = shown(terminal.screen, 80)
    assert "cooling down, 2 min left" in text
    assert "dolphin-8b" in text
    assert "memory" not in text
    console.on_event(PhaseBegan(0.1, Phase.IMPORT))
    text = shown(terminal.screen, 80)
    assert "starting MLX" in text
    assert "cooling" not in text
    console.trial_ended(LADDER[1])
    *_, settled = terminal.text.split("\x1b[?25h")
    assert "✓ Pass" in settled


def test_a_cooldown_that_was_interrupted_leaves_only_the_trials_line() -> None:
    terminal = Terminal(80)
    console = Console(terminal.screen, run())
    console.trial_began(run().trials[1])
    console.cooling(90.0)
    console.trial_ended(ended(2, "dolphin-8b", "8B", Outcome(OutcomeKind.INTERRUPTED, "x")))
    *_, settled = terminal.text.split("\x1b[?25h")
    assert "– Interrupted" in settled
    assert "cooling" not in settled
    console.trial_began(run().trials[2])
    console.on_event(PhaseBegan(0.1, Phase.IMPORT))
    assert "cooling" not in shown(terminal.screen, 80)
    terminal.screen.close()


def test_work_before_the_trials_is_shown_until_its_line_is_complete() -> None:
    output = io.StringIO()
    screen = LiveScreen(RichConsole(file=output, force_terminal=True, width=60))
    screen.begin("Tokenizing data ... ")
    screen.working("0 of 900 samples")
    screen.working("600 of 900 samples")
    screen.end("900 samples")
    screen.print("next")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue())
    assert "Tokenizing data ... 600 of 900 samples" in shown
    assert shown.endswith("Tokenizing data ... 900 samples\nnext\n")
