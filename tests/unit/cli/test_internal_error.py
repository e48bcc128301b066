"""An internal error prints one line, saves the traceback, and exits with 70."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

BROKEN = """
import sys
from your_ai import cli
from your_ai.cli import runs

def broken(_):
    raise ZeroDivisionError("a bug")

runs.saved_runs = broken
sys.argv = ["your_ai", "runs"]
cli.main()
"""


def run(state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BROKEN],
        env={**os.environ, "XDG_STATE_HOME": str(state)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_one_line_a_log_and_exit_code_70(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 70
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Internal error: ZeroDivisionError('a bug'). The traceback is in ")
    log = next((tmp_path / "your_ai").glob("error-*.log"))
    assert str(log) in line
    assert "in broken" in log.read_text()


def test_the_log_is_saved_elsewhere_without_a_state_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(tmp_path / "file")
    assert done.returncode == 70
    log = Path(done.stderr.partition("The traceback is in ")[2].partition(";")[0])
    assert "ZeroDivisionError" in log.read_text()
    log.unlink()


def test_exit_code_70_without_a_log(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = "import tempfile\ntempfile.tempdir = '/dev/null'\n"
    done = subprocess.run(
        [sys.executable, "-c", nowhere + BROKEN],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (70, 1)
    assert "Please report it." in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_exit_code_70_if_nothing_can_be_printed(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", BROKEN],
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
            stdout=subprocess.DEVNULL,
            stderr=full,
            timeout=60,
            check=False,
        )
    assert done.returncode == 70


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_not_an_error(closed: str, tmp_path: Path) -> None:
    command = f"exec {shlex.quote(sys.executable)} -m your_ai runs {closed}"
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    assert subprocess.run(["bash", "-c", command], env=environment, check=False).returncode == 0
