"""The exact output of a run, from results of trials."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support import builders
from tests.support.builders import observed
from tests.support.ladder import GOLDEN, LADDER, WRITTEN, ended, print_all, run
from worker.protocol.messages import Failed, OverBudget, Phase, PhaseBegan, Step
from your_ai.planning.device import Device
from your_ai.runs.assembly import assemble, optimization_of
from your_ai.runs.run import Run
from your_ai.runs.trial_result import TrialResult
from your_ai.search.grid import FULL
from your_ai.search.search import Objective, SearchOptions
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.terminal.benchmark import Console
from your_ai.terminal.screen import PlainScreen, Screen
from your_ai.terminal.status import Task
from your_ai.units import GB

OVER = observed(OverBudget(1.0, Phase.TIGHT, 30 * GB, planned=False), returncode=1)


def end(results: list[TrialResult], of: Run | None = None) -> None:
    trials = [builders.trial(n, r.preset, r.params) for n, r in enumerate(results, start=1)]
    of = of or builders.run(*trials)
    ended = (replace(result, index=n) for n, result in enumerate(results, start=1))
    Console(PlainScreen(), of).end(assemble(of, ended), WRITTEN)


def test_a_whole_run(capsys: pytest.CaptureFixture[str]) -> None:
    print_all(PlainScreen(), LADDER)
    assert capsys.readouterr() == (GOLDEN, "")


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_all(Screen(), LADDER)
    assert capsys.readouterr() == ("", "")


def test_a_trial_is_shown_when_it_starts(capsys: pytest.CaptureFixture[str]) -> None:
    Console(PlainScreen(), run()).trial_began(run().trials[0])
    assert capsys.readouterr().out == "[1/5] hermes-mistral-7b  (  7B) ... "


def test_a_gpu_with_its_own_memory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    device = Device("cuda", "NVIDIA H200", 150_754_820_096, None, None, {})
    Console(PlainScreen(), run(128, device)).begin(0)
    assert (
        "System Memory: 128.00 GB (budget 28.8 GB, training on NVIDIA H200 (cuda), "
        "which has 140.40 GB)\n"
    ) in capsys.readouterr().out


def test_no_recommendation_if_nothing_passed(capsys: pytest.CaptureFixture[str]) -> None:
    failed = LADDER[2:]
    end(failed)
    out = capsys.readouterr().out
    assert "Recommended: none (no model passed)\n" in out
    assert "Alternatives" not in out


def test_alternatives_are_the_other_models_that_passed(capsys: pytest.CaptureFixture[str]) -> None:
    records = [*LADDER[:2], ended(3, "llama-8b", "8B"), ended(4, "r1-distill-14b", "14B")]
    end(records)
    assert (
        "Recommended: r1-distill-14b (largest model that fits)\n"
        "Alternatives: hermes-mistral-7b (7B), dolphin-8b (8B), llama-8b (8B)\n"
    ) in capsys.readouterr().out


@pytest.mark.parametrize("kind", sorted(set(OutcomeKind) - {OutcomeKind.PASS}))
def test_every_outcome_but_a_pass_has_a_line_with_its_reason(
    kind: OutcomeKind, capsys: pytest.CaptureFixture[str]
) -> None:
    Console(PlainScreen(), run()).trial_ended(ended(1, "a", "7B", Outcome(kind, "why")))
    first = capsys.readouterr().out.splitlines()[0]
    assert first[0] in "✗–"
    assert first == "– Interrupted" if kind is OutcomeKind.INTERRUPTED else first.endswith(" (why)")


def test_over_budget_shows_the_needed_memory(capsys: pytest.CaptureFixture[str]) -> None:
    Console(PlainScreen(), run()).trial_ended(ended(1, "a", "7B", seen=OVER))
    assert capsys.readouterr().out == (
        "✗ Over budget (needs at least 30.0 GB)\n"
        "        try: `your_ai ceiling a --max-memory 28.8`, which finds the longest sequences "
        "that fit\n"
    )


@pytest.mark.parametrize(("done", "words"), [(1, "1 trial "), (3, "3 trials ")])
def test_a_resumed_run_shows_how_many_trials_are_done(
    done: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Console(PlainScreen(), run()).begin(done)
    shown = f"\nResuming the run started 2026-01-02T03:04:00Z ({words}"
    assert shown in capsys.readouterr().out


def test_log_lines_that_say_more_than_the_reason_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = observed(
        PhaseBegan(0.1, Phase.IMPORT), returncode=-6, log_tail="[metal] bad kernel\nAborted\n"
    )
    Console(PlainScreen(), run()).trial_ended(ended(1, "a", "7B", seen=seen))
    assert capsys.readouterr().out == (
        "✗ Crash (the worker was killed by SIGABRT, cause unknown)\n"
        "        | [metal] bad kernel\n"
        "        | Aborted\n"
        "        log: /runs/1/logs/1.log\n"
    )


def test_log_lines_that_repeat_the_reason_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    seen = observed(
        Failed(1.0, Phase.LOAD, "ValueError", "no such type"), log_tail="ValueError: no such type\n"
    )
    Console(PlainScreen(), run()).trial_ended(ended(1, "a", "7B", seen=seen))
    assert capsys.readouterr().out == ("✗ Error (no such type)\n        log: /runs/1/logs/1.log\n")


def test_an_unfinished_run_lists_the_models_not_tried(capsys: pytest.CaptureFixture[str]) -> None:
    end(LADDER[:3], run())
    out = capsys.readouterr().out
    assert "Not tried: r1-distill-14b (14B), hermes-70b (70B)\n" in out
    assert "Recommended so far: dolphin-8b (largest model that fits)\n" in out


def test_a_run_stopped_in_its_first_trial_has_no_recommendation_yet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped = ended(1, "hermes-mistral-7b", "7B", Outcome(OutcomeKind.INTERRUPTED, "interrupted"))
    end([stopped], run())
    out = capsys.readouterr().out
    assert "Recommended so far: none (no model has passed yet)\n" in out


def test_a_run_that_must_be_continued_recommends_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    last = ended(2, "llama-8b", "8B", Outcome(OutcomeKind.ERROR, "the Hub is unreachable"))
    end([LADDER[0], replace(last, exit_status=None)])
    out = capsys.readouterr().out
    assert "Recommended so far: hermes-mistral-7b (largest model that fits)\n" in out


def test_resuming_a_complete_search_says_that_it_is_complete(
    capsys: pytest.CaptureFixture[str],
) -> None:
    searching = builders.run(search=SearchOptions(FULL, Objective.CAPACITY, False))
    Console(PlainScreen(), searching).begin_search(builders.trial(), 4, is_complete=True)
    line = "This run (started 2026-01-02T03:04:00Z) is already complete."
    assert line in capsys.readouterr().out.splitlines()


class Tasks(Screen):
    """A screen that records what it is to track."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def track(self, task: Task) -> None:
        self.tasks.append(task)


def test_time_left_is_known_after_the_first_measured_trial() -> None:
    screen = Tasks()
    console = Console(screen, run())
    for trial, result in zip(run().trials[:3], LADDER, strict=False):
        console.trial_began(trial)
        for index in range(1, trial.request.steps + (trial.index > 1)):  # the first one fails
            console.on_event(Step(1.0, Phase.RELAXED, index, 0.5, 100, 9.0, GB))
        console.trial_ended(result)
    assert [task.seconds is None for task in screen.tasks] == [True, True, False]
    assert [task.position for task in screen.tasks] == [[f"model {n} of 5"] for n in (1, 2, 3)]


def test_the_trials_of_a_search_are_counted() -> None:
    trial, screen = builders.trial(), Tasks()
    search = SearchOptions(FULL, Objective.CAPACITY, False)
    console = Console(screen, builders.run(trial, command="optimize", search=search))
    console.candidate_began(trial, 2)
    console.optimizing_trial(trial, 3)
    shown = [task.position[-1].partition(" of ")[0] for task in screen.tasks]
    assert shown == ["trial 2", "trial 3"]


def test_a_note_below_a_speed_that_is_not_comparable(capsys: pytest.CaptureFixture[str]) -> None:
    on_battery = replace(builders.ON_BATTERY, low_power_mode=True)
    passed = replace(LADDER[0], conditions_before=on_battery)
    failed = replace(LADDER[2], conditions_before=on_battery)
    print_all(PlainScreen(), [passed, LADDER[1], failed])
    lines = capsys.readouterr().out.splitlines()
    (shown,) = [number for number, line in enumerate(lines) if "not comparable" in line]
    assert lines[shown - 1].startswith("[1/5]")
    assert lines[shown] == (
        "        note: measured on battery and in low power mode; the speed is not comparable"
    )


def test_one_note_for_all_trials_of_a_search(capsys: pytest.CaptureFixture[str]) -> None:
    options = SearchOptions(FULL, Objective.CAPACITY, False)
    run = builders.run(search=options)
    (trial,) = run.trials
    passed = replace(LADDER[0], index=1, conditions_after=builders.ON_BATTERY)
    Console(PlainScreen(), run).optimized(optimization_of(run, trial, [passed, passed]))
    assert capsys.readouterr().out.count("note: measured on battery") == 1
