"""When the results of a run are written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import builders
from your_ai.cli import run_context
from your_ai.cli.run_context import OpenRun
from your_ai.errors import MachineError
from your_ai.runs.journal import Journal
from your_ai.runs.results_file import WRITE_SECONDS, load
from your_ai.runs.resume import RunHistory
from your_ai.runs.run_dir import RESULTS
from your_ai.terminal.screen import Screen

FIRST, SECOND = (builders.result(builders.trial(n, f"m{n}", f"{n}B")) for n in (1, 2))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path) as opened:
        yield opened


def execute(run_all: run_context.RunTrials, journal: Journal, folder: Path) -> None:
    trials = [builders.trial(n, f"m{n}", f"{n}B") for n in (1, 2)]
    run = builders.run(*trials, run_dir=str(folder))
    run_context._execute(run_all, run, journal, RunHistory(), folder / "out.json", Screen())


@pytest.mark.parametrize("error", [MachineError, KeyboardInterrupt, ZeroDivisionError])
def test_results_have_every_finished_trial_after_an_error(
    error: type[BaseException], journal: Journal, tmp_path: Path
) -> None:
    def run_all(opened: OpenRun) -> None:
        opened.runner.ended.append(FIRST)
        opened.save()
        opened.runner.ended.append(SECOND)
        opened.save()  # too soon after the first
        raise error

    with pytest.raises(error):
        execute(run_all, journal, tmp_path)
    for name in (RESULTS, "out.json"):
        assert [r.preset for r in load(tmp_path / name).results] == ["m1", "m2"]


def test_a_run_continues_if_the_report_cannot_be_loaded(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "your_ai.report.page", None)

    def run_all(opened: OpenRun) -> None:
        opened.runner.ended.append(FIRST)
        assert any("No report" in line for line in opened.finish())

    execute(run_all, journal, tmp_path)
    assert load(tmp_path / RESULTS).results == (FIRST,)


def test_results_are_written_after_a_trial_but_not_too_often(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    written: list[int] = []

    def run_all(opened: OpenRun) -> None:
        nonlocal now
        for seconds in (0.0, WRITE_SECONDS - 1, 1.0, WRITE_SECONDS / 2):
            now += seconds
            opened.runner.ended.append(replace(FIRST, index=len(opened.runner.ended) + 1))
            (tmp_path / RESULTS).unlink(missing_ok=True)
            opened.save()
            written.append((tmp_path / RESULTS).exists())

    execute(run_all, journal, tmp_path)
    assert written == [True, False, True, False]
