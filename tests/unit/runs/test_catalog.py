"""The list of runs, from their journals."""

from __future__ import annotations

import shutil
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.support import builders
from tests.support.unreadable import unreadable
from your_ai.errors import UsageError
from your_ai.runs.catalog import (
    SavedRun,
    newest_results,
    newest_to_resume,
    run_text,
    saved_runs,
)
from your_ai.runs.journal import BEGAN, CLOSED, ENDED, JOURNAL, RESUMED, STARTED, VERSION, Journal

RUN = builders.run(command="optimize", arguments={"MODEL": "llama-8b", "--max-memory": "24.0"})
BEGUN = (BEGAN, {"run": asdict(RUN)})
PASSED = (ENDED, {"trial": "a", "result": {"outcome": "pass"}})
STOPPED = (ENDED, {"trial": "b", "result": {"outcome": "interrupted"}})


def summary(runs: Path, *records: tuple[str, dict[str, Any]]) -> SavedRun:
    folder = runs / "20260102-1"
    folder.mkdir(parents=True)
    with Journal.open(folder) as opened:
        for kind, fields in records:
            opened.append(kind, fields)
    (only,) = saved_runs(runs)
    return only


@pytest.mark.parametrize(
    ("records", "state", "done", "passed"),
    [
        ([], "never started", 0, 0),
        ([BEGUN], "ended unexpectedly, can be resumed", 0, 0),
        ([BEGUN, PASSED, (CLOSED, {"complete": True})], "complete", 1, 1),
        ([BEGUN, STOPPED, (CLOSED, {"complete": False})], "interrupted, can be resumed", 0, 0),
        (
            [BEGUN, PASSED, (CLOSED, {"complete": False}), (RESUMED, {}), (STARTED, {})],
            "ended unexpectedly, can be resumed",
            1,
            1,
        ),
    ],
)
def test_the_state_follows_from_the_last_record(
    records: list[tuple[str, dict[str, Any]]], state: str, done: int, passed: int, tmp_path: Path
) -> None:
    found = summary(tmp_path, *records)
    assert (found.state, found.done, found.passed) == (state, done, passed)


def test_a_running_run_is_listed_as_running(tmp_path: Path) -> None:
    assert summary(tmp_path, BEGUN, PASSED).state != "running"
    with Journal.open(tmp_path / "20260102-1"):
        (only,) = saved_runs(tmp_path)
    assert only.state == "running"


def test_a_damaged_run_is_listed_with_its_line(tmp_path: Path) -> None:
    summary(tmp_path, BEGUN, PASSED)
    path = tmp_path / "20260102-1" / JOURNAL
    path.write_bytes(path.read_bytes().replace(b'"pass"', b'"past"'))
    (only,) = saved_runs(tmp_path)
    assert only.state.startswith(f"{path} is corrupt at line 2")


def test_the_newest_run_is_first_regardless_of_its_folder(tmp_path: Path) -> None:
    for name, day in (("b", "02"), ("a", "04"), ("c", "03")):
        begun(tmp_path, name, "benchmark", started_at=f"2026-01-{day}T00:00:00Z")
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / JOURNAL).touch()
    assert [each.folder.name for each in saved_runs(tmp_path)] == ["a", "c", "b", "z"]
    assert saved_runs(tmp_path / "missing") == []


def test_the_run_started_last_is_first_after_the_clock_was_set_back(tmp_path: Path) -> None:
    older = begun(tmp_path, "20310101-000000-77", "benchmark", started_at="2031-01-01T00:00:00Z")
    ahead = begun(
        tmp_path, "0001-20300101-000000Z-9", "benchmark", started_at="2030-01-01T00:00:00Z"
    )
    last = begun(
        tmp_path, "0002-20260101-000000Z-5", "benchmark", started_at="2026-01-01T00:00:00Z"
    )
    assert [each.folder for each in saved_runs(tmp_path)] == [last, ahead, older]
    assert newest_to_resume(tmp_path, "benchmark") == last
    for folder in (older, ahead, last):
        (folder / "results.json").touch()
    assert newest_results(tmp_path) == last


@pytest.mark.parametrize("name", ["runs", "runs/hidden"])
def test_runs_that_cannot_be_read_are_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir(parents=True)
    with unreadable(tmp_path / "runs"):
        for find in (saved_runs, newest_results):
            with pytest.raises(UsageError, match=r"Cannot read the runs in .*: Permission denied"):
                find(tmp_path / name)
    with pytest.raises(UsageError, match=r"Cannot read the runs in .*: File name too long"):
        newest_to_resume(tmp_path / ("x" * 300), "train")


def test_a_run_of_another_version_is_described_in_one_line(tmp_path: Path) -> None:
    folder = of_version(1, begun(tmp_path, "1", "benchmark"))
    (only,) = saved_runs(tmp_path)
    assert run_text(only) == (
        f"{folder}: This run was made by another version of your_ai. Use that version, or start "
        "a new run."
    )


@pytest.mark.parametrize("fields", [{}, {"trial": "a", "result": {"outcome": None}}])
def test_a_run_with_records_of_another_form_is_listed(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    found = summary(tmp_path, BEGUN, (ENDED, fields))
    assert found.state.startswith("This run was made by another version of your_ai.")
    assert not found.is_readable


def test_a_run_is_listed_with_its_command(tmp_path: Path) -> None:
    assert run_text(summary(tmp_path, BEGUN, PASSED)).splitlines() == [
        "2026-01-02T03:04:00Z  optimize llama-8b --max-memory 24.0: "
        "ended unexpectedly, can be resumed (1 done, 1 passed)",
        f"    {tmp_path / '20260102-1'}",
    ]


def begun(
    runs: Path,
    name: str,
    command: str,
    *,
    complete: bool | None = None,
    started_at: str | None = None,
) -> Path:
    """Create a run's folder; ``complete`` is how it was closed, if it was. Names sort by age."""
    folder = runs / name
    folder.mkdir(parents=True)
    started_at = started_at or f"2026-01-0{name}T00:00:00Z"
    with Journal.open(folder) as opened:
        run = builders.run(command=command, started_at=started_at)
        opened.append(BEGAN, {"run": asdict(run)})
        if complete is not None:
            opened.append(CLOSED, {"complete": complete})
    return folder


def of_version(version: int, run: Path) -> Path:
    """Rewrite a run's journal in the format of an earlier version."""
    path = run / JOURNAL
    content = path.read_bytes().partition(b',"crc32"')[0]
    old = content.replace(b'{"v":%d' % VERSION, b'{"v":%d' % version)
    path.write_bytes(old + b',"crc32":"%08x"}\n' % zlib.crc32(old))
    return run


def test_the_newest_unfinished_run_is_resumed(tmp_path: Path) -> None:
    begun(tmp_path, "1", "benchmark")
    wanted = begun(tmp_path, "2", "benchmark", complete=False)
    begun(tmp_path, "3", "benchmark", complete=True)
    begun(tmp_path, "4", "optimize")
    assert newest_to_resume(tmp_path, "benchmark") == wanted


def test_a_training_that_would_fail_again_is_resumed_only_if_there_is_no_other(
    tmp_path: Path,
) -> None:
    refused = {"complete": False, "outcome": "error", "can_resume": False}
    for name, end in (("1", {"complete": False, "outcome": "interrupted"}), ("2", refused)):
        folder = begun(tmp_path, name, "train")
        with Journal.open(folder) as opened:
            opened.append(CLOSED, end)
    newest, older = saved_runs(tmp_path)
    assert (newest.state, older.state) == ("error", "interrupted, can be resumed")
    assert newest_to_resume(tmp_path, "train") == older.folder
    shutil.rmtree(older.folder)
    assert newest_to_resume(tmp_path, "train") == newest.folder


def test_a_run_under_way_is_not_resumed(tmp_path: Path) -> None:
    wanted = begun(tmp_path, "1", "benchmark", complete=False)
    running = begun(tmp_path, "2", "benchmark")
    with Journal.open(running):
        assert newest_to_resume(tmp_path, "benchmark") == wanted
        shutil.rmtree(wanted)
        # There is no other; opening it says that it is still running.
        assert newest_to_resume(tmp_path, "benchmark") == running
    assert newest_to_resume(tmp_path, "benchmark") == running


def test_results_of_a_run_under_way_are_shown_but_not_trained_with(tmp_path: Path) -> None:
    (begun(tmp_path, "1", "benchmark", complete=True) / "results.json").touch()
    running = begun(tmp_path, "2", "benchmark")
    (running / "results.json").touch()
    with Journal.open(running):
        assert newest_results(tmp_path) == running
        with pytest.raises(UsageError, match=r"The last run, in .*/2, is still running\. Wait"):
            newest_results(tmp_path, settled=True)
    assert newest_results(tmp_path, settled=True) == running


def test_if_all_runs_are_finished_the_newest_is_resumed(tmp_path: Path) -> None:
    begun(tmp_path, "1", "benchmark", complete=True)
    newest = begun(tmp_path, "2", "benchmark", complete=True)
    assert newest_to_resume(tmp_path, "benchmark") == newest


@pytest.mark.parametrize("content", [b"", b"x" * 100 + b"\n"])
def test_an_unstarted_or_damaged_run_is_skipped(content: bytes, tmp_path: Path) -> None:
    wanted = begun(tmp_path, "1", "benchmark", complete=False)
    (begun(tmp_path, "2", "benchmark") / JOURNAL).write_bytes(content)
    assert newest_to_resume(tmp_path, "benchmark") == wanted


@pytest.mark.parametrize("version", [1, 2])
def test_a_run_of_another_version_is_skipped(version: int, tmp_path: Path) -> None:
    wanted = begun(tmp_path, "1", "benchmark", complete=False)
    of_version(version, begun(tmp_path, "2", "benchmark"))
    assert newest_to_resume(tmp_path, "benchmark") == wanted


def test_a_run_damaged_after_its_header_is_skipped(tmp_path: Path) -> None:
    wanted = begun(tmp_path, "1", "benchmark", complete=False)
    path = begun(tmp_path, "2", "benchmark", complete=False) / JOURNAL
    path.write_bytes(path.read_bytes().replace(b'"complete":false', b'"complete":null_'))
    assert saved_runs(tmp_path)[0].state.startswith(f"{path} is corrupt at line 2")
    assert newest_to_resume(tmp_path, "benchmark") == wanted


def test_resuming_without_a_run_of_the_command_is_refused(tmp_path: Path) -> None:
    begun(tmp_path, "1", "benchmark")
    with pytest.raises(UsageError, match="No run of `your_ai optimize`"):
        newest_to_resume(tmp_path, "optimize")


@pytest.mark.parametrize(
    ("value", "typed"), [(True, "--grad-checkpoint"), (False, "--no-grad-checkpoint")]
)
def test_a_switch_is_shown_as_it_is_typed(value: bool, typed: str, tmp_path: Path) -> None:
    asked = builders.run(arguments={"--model": ("on",), "--grad-checkpoint": value})
    text = run_text(summary(tmp_path, (BEGAN, {"run": asdict(asked)})))
    assert f"benchmark --model on {typed}: " in text


def test_models_are_shown_as_they_are_typed(tmp_path: Path) -> None:
    asked = builders.run(arguments={"--model": ("a,b", "my model"), "--ranks": "8,16"})
    text = run_text(summary(tmp_path, (BEGAN, {"run": asdict(asked)})))
    assert "benchmark --model a,b --model 'my model' --ranks 8,16: " in text


def test_the_newest_run_with_results_is_found(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No results found"):
        newest_results(tmp_path)
    for name in ("1", "2", "3"):
        begun(tmp_path, name, "benchmark")
    for name in ("1", "2"):
        (tmp_path / name / "results.json").touch()
    assert newest_results(tmp_path) == tmp_path / "2"
