"""The folder of a run: its name, and what is left if the run is never started."""

from __future__ import annotations

import calendar
import os
import re
import time
from pathlib import Path

import pytest

from tests.support import builders
from tests.support.unreadable import unreadable
from your_ai.errors import UsageError
from your_ai.runs import run_dir
from your_ai.runs.open_run import begin, open_new
from your_ai.runs.run_dir import choose_run_dir, make_run_dir, run_number


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run_dir, "runs_dir", lambda: tmp_path / "runs")
    return tmp_path / "runs"


def test_a_new_run_directory_is_private(tmp_path: Path) -> None:
    path = tmp_path / "some" / "run"
    make_run_dir(path)
    assert [p.stat().st_mode & 0o777 for p in (path, path / "logs")] == [0o700, 0o700]


def test_the_name_of_a_run_is_its_number_the_utc_time_and_the_process(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")  # UTC+14
    time.tzset()
    try:
        first = choose_run_dir(None)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert first.parent == runs
    assert not runs.exists()
    number, day, second, process = first.name.split("-")
    assert (number, process) == ("0001", str(os.getpid()))
    in_utc = calendar.timegm(time.strptime(f"{day}-{second}", "%Y%m%d-%H%M%SZ"))
    assert abs(time.time() - in_utc) < 3600


def test_runs_are_numbered_in_the_order_of_their_start(runs: Path) -> None:
    for name in ("20260102-030405-99999", "0009-20300102-030405Z-1", "12-notes"):
        (runs / name).mkdir(parents=True)
    assert [run_number(path) for path in sorted(runs.iterdir())] == [9, 0, 0]
    assert re.match("0010-20", choose_run_dir(None).name)
    (runs / "9999-20300102-030405Z-1").mkdir()
    assert run_number(choose_run_dir(None)) == 10_000


def test_a_new_run_is_refused_if_the_earlier_ones_cannot_be_read(runs: Path) -> None:
    runs.mkdir()
    with unreadable(runs), pytest.raises(UsageError, match=r"Cannot create .*Permission denied"):
        choose_run_dir(None)


def test_a_run_that_is_not_started_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="refused"), open_new(tmp_path / "new" / "run"):
        raise UsageError("refused")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", ["mine", "mine/logs"])
def test_a_folder_of_the_user_is_kept(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir(parents=True)
    with open_new(tmp_path / "mine"):
        pass
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        *(["mine"] if name == "mine" else ["mine", "mine/logs"])
    ]


def test_a_started_run_is_kept(tmp_path: Path) -> None:
    with open_new(tmp_path / "run") as journal:
        begin(journal, builders.run())
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["journal.jsonl", "logs"]


def test_a_folder_that_cannot_be_created_leaves_no_parents(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too long"), open_new(tmp_path / "new" / ("x" * 300)):
        pass
    assert [*tmp_path.iterdir()] == []
