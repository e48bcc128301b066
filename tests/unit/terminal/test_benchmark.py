"""What a run prints, to the letter, from real records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support import builders
from tests.support.builders import observed
from tests.support.ladder import GOLDEN, LADDER, WRITTEN, ended, print_all, run
from worker.protocol.messages import Failed, OverBudget, Phase, PhaseBegan
from your_ai.planning.device import Device
from your_ai.runs.assembly import assemble
from your_ai.runs.run import Run
from your_ai.runs.trial_result import TrialResult
from your_ai.search.grid import FULL
from your_ai.search.search import Objective, SearchOptions
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.terminal.benchmark import Console
from your_ai.terminal.screen import PlainScreen, Screen
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


def test_a_trial_is_announced_before_it_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    Console(PlainScreen(), run()).trial_began(run().trials[0])
    assert capsys.readouterr().out == "[1/5] hermes-mistral-7b  (  7B) ... "


def test_a_gpus_own_memory_is_named_where_it_is_not_the_machines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    device = Device("cuda", "NVIDIA H200", 150_754_820_096, None, None, {})
    Console(PlainScreen(), run(128, device)).begin(0)
    assert (
        "System Memory: 128.00 GB (budget 28.8 GB, training on NVIDIA H200 (cuda), "
        "140.40 GB of its own)\n"
    ) in capsys.readouterr().out


def test_nothing_passed(capsys: pytest.CaptureFixture[str]) -> None:
    failed = LADDER[2:]
    end(failed)
    out = capsys.readouterr().out
    assert "Recommended: none (no model passed)\n" in out
    assert "Alternatives" not in out


def test_alternatives_are_all_others_that_passed(capsys: pytest.CaptureFixture[str]) -> None:
    records = [*LADDER[:2], ended(3, "llama-8b", "8B"), ended(4, "r1-distill-14b", "14B")]
    end(records)
    assert (
        "Recommended: r1-distill-14b (largest model that fits)\n"
        "Alternatives: hermes-mistral-7b (7B), dolphin-8b (8B), llama-8b (8B)\n"
    ) in capsys.readouterr().out


@pytest.mark.parametrize("kind", sorted(set(OutcomeKind) - {OutcomeKind.PASS}))
def test_every_other_outcome_has_its_line(
    kind: OutcomeKind, capsys: pytest.CaptureFixture[str]
) -> None:
    Console(PlainScreen(), run()).trial_ended(ended(1, "a", "7B", Outcome(kind, "why")))
    first = capsys.readouterr().out.splitlines()[0]
    assert first[0] in "✗–"
    assert first == "– Interrupted" if kind is OutcomeKind.INTERRUPTED else first.endswith(" (why)")


def test_over_budget_says_what_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    Console(PlainScreen(), run()).trial_ended(ended(1, "a", "7B", seen=OVER))
    assert capsys.readouterr().out == (
        "✗ Over budget (needs at least 30.0 GB)\n        try: --batch-size 1 (should fit)\n"
    )


@pytest.mark.parametrize(("done", "words"), [(1, "1 trial of it is"), (3, "3 trials of it are")])
def test_a_resumed_run_says_what_is_done(
    done: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Console(PlainScreen(), run()).begin(done)
    assert f"\nResuming the run of 2026-01-02T03:04:00Z: {words} done.\n" in capsys.readouterr().out


def test_the_lines_of_the_log_that_say_more_than_the_reason_are_shown(
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


def test_what_the_reason_says_already_is_not_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    seen = observed(
        Failed(1.0, Phase.LOAD, "ValueError", "no such type"), log_tail="ValueError: no such type\n"
    )
    Console(PlainScreen(), run()).trial_ended(ended(1, "a", "7B", seen=seen))
    assert capsys.readouterr().out == ("✗ Error (no such type)\n        log: /runs/1/logs/1.log\n")


def test_models_that_were_not_reached_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    end(LADDER[:3], run())
    out = capsys.readouterr().out
    assert "Not tried: r1-distill-14b (14B), hermes-70b (70B)\n" in out
    assert "Recommended so far: dolphin-8b (largest model that fits)\n" in out


def test_a_run_stopped_in_its_first_trial_knows_nothing_yet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped = ended(1, "hermes-mistral-7b", "7B", Outcome(OutcomeKind.INTERRUPTED, "interrupted"))
    end([stopped], run())
    assert "Recommended: none (not known yet)\n" in capsys.readouterr().out


def test_a_complete_run_says_so_also_if_it_is_a_search(capsys: pytest.CaptureFixture[str]) -> None:
    searching = builders.run(search=SearchOptions(FULL, Objective.CAPACITY, False))
    Console(PlainScreen(), searching).begin_search(builders.trial(), 4, is_complete=True)
    line = "This run (started 2026-01-02T03:04:00Z) is already complete."
    assert line in capsys.readouterr().out.splitlines()
