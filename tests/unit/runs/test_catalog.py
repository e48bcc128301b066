"""The list of runs: what each journal says of its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import builders
from your_ai.errors import UsageError
from your_ai.runs.catalog import Summary, newest_results, summaries, summary_text, to_resume
from your_ai.runs.journal import JOURNAL, Journal
from your_ai.runs.resume import BEGAN, CLOSED, ENDED, RESUMED, STARTED
from your_ai.runs.run import to_fields

RUN = builders.run(command="optimize", arguments={"MODEL": "llama-8b", "--max-memory": "24.0"})
BEGUN = (BEGAN, {"run": to_fields(RUN)})
PASSED = (ENDED, {"trial": "a", "entry": {"outcome": "pass"}})
STOPPED = (ENDED, {"trial": "b", "entry": {"outcome": "interrupted"}})


def summary(runs: Path, *records: tuple[str, dict[str, Any]]) -> Summary:
    folder = runs / "20260102-1"
    folder.mkdir(parents=True)
    with Journal.open(folder) as opened:
        for kind, fields in records:
            opened.append(kind, fields)
    (only,) = summaries(runs)
    return only


@pytest.mark.parametrize(
    ("records", "state", "done", "passed"),
    [
        ([], "never began", 0, 0),
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
def test_the_state_is_what_the_last_record_leaves(
    records: list[tuple[str, dict[str, Any]]], state: str, done: int, passed: int, tmp_path: Path
) -> None:
    found = summary(tmp_path, *records)
    assert (found.state, found.done, found.passed) == (state, done, passed)


def test_one_under_way_says_so(tmp_path: Path) -> None:
    assert summary(tmp_path, BEGUN, PASSED).state != "under way"
    with Journal.open(tmp_path / "20260102-1"):
        (only,) = summaries(tmp_path)
    assert only.state == "under way"


def test_a_damaged_one_is_listed_with_its_line(tmp_path: Path) -> None:
    summary(tmp_path, BEGUN, PASSED)
    path = tmp_path / "20260102-1" / JOURNAL
    path.write_bytes(path.read_bytes().replace(b'"pass"', b'"past"'))
    (only,) = summaries(tmp_path)
    assert only.state.startswith(f"Line 2 of {path} is damaged")


def test_the_newest_is_first(tmp_path: Path) -> None:
    for name in ("20260102-1", "20260104-1", "20260103-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / JOURNAL).touch()
    names = [each.folder.name for each in summaries(tmp_path)]
    assert names == ["20260104-1", "20260103-1", "20260102-1"]
    assert list(summaries(tmp_path / "missing")) == []


def test_it_is_told_as_it_was_asked(tmp_path: Path) -> None:
    assert summary_text(summary(tmp_path, BEGUN, PASSED)).splitlines() == [
        "2026-01-02T03:04:00Z  optimize llama-8b --max-memory 24.0: "
        "ended unexpectedly, can be resumed (1 done, 1 passed)",
        f"    {tmp_path / '20260102-1'}",
    ]


def begun(runs: Path, name: str, command: str, *, complete: bool | None = None) -> Path:
    """A run's folder; ``complete`` is how it was closed, if it was."""
    folder = runs / name
    folder.mkdir(parents=True)
    with Journal.open(folder) as opened:
        opened.append(BEGAN, {"run": to_fields(builders.run(command=command))})
        if complete is not None:
            opened.append(CLOSED, {"complete": complete})
    return folder


def test_the_newest_run_that_is_not_at_its_end_is_resumed(tmp_path: Path) -> None:
    begun(tmp_path, "1", "benchmark")
    wanted = begun(tmp_path, "2", "benchmark", complete=False)
    begun(tmp_path, "3", "benchmark", complete=True)
    begun(tmp_path, "4", "optimize")
    assert to_resume(tmp_path, "benchmark") == wanted


def test_where_all_came_to_their_end_the_newest_is_shown_again(tmp_path: Path) -> None:
    begun(tmp_path, "1", "benchmark", complete=True)
    newest = begun(tmp_path, "2", "benchmark", complete=True)
    assert to_resume(tmp_path, "benchmark") == newest


@pytest.mark.parametrize("content", [b"", b"x" * 100 + b"\n"])
def test_one_that_never_began_or_is_damaged_stands_in_no_others_way(
    content: bytes, tmp_path: Path
) -> None:
    wanted = begun(tmp_path, "1", "benchmark", complete=False)
    useless = begun(tmp_path, "2", "benchmark")
    (useless / JOURNAL).write_bytes(content)
    assert to_resume(tmp_path, "benchmark") == wanted
    assert to_resume(tmp_path, "optimize") == useless  # so that its problem is told


def test_of_a_command_that_was_never_run_there_is_nothing_to_resume(tmp_path: Path) -> None:
    begun(tmp_path, "1", "benchmark")
    with pytest.raises(UsageError, match="no run of `your_ai optimize`"):
        to_resume(tmp_path, "optimize")


@pytest.mark.parametrize(
    ("value", "typed"), [("on", "--grad-checkpoint"), ("off", "--no-grad-checkpoint")]
)
def test_a_switch_is_shown_as_it_is_typed(value: str, typed: str, tmp_path: Path) -> None:
    asked = builders.run(arguments={"--model": "a", "--grad-checkpoint": value})
    text = summary_text(summary(tmp_path, (BEGAN, {"run": to_fields(asked)})))
    assert f"benchmark --model a {typed}: " in text


def test_models_are_shown_as_they_are_typed(tmp_path: Path) -> None:
    asked = builders.run(arguments={"--model": "a,my model", "--ranks": "8,16"})
    text = summary_text(summary(tmp_path, (BEGAN, {"run": to_fields(asked)})))
    assert "benchmark --model a --model 'my model' --ranks 8,16: " in text


def test_the_newest_results_are_those_of_the_last_run_that_has_any(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There are no results yet: run `your_ai benchmark`"):
        newest_results(tmp_path)
    for name in ("20260101-000000-1", "20260102-000000-1", "20260103-000000-1"):
        (tmp_path / name).mkdir()
    for name in ("20260101-000000-1", "20260102-000000-1"):
        (tmp_path / name / "results.json").touch()
    assert newest_results(tmp_path) == tmp_path / "20260102-000000-1"
