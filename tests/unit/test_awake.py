"""What keeps the machine awake lasts as long as the run, and no longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.process.trials import is_gone, wait_for
from your_ai.awake import kept_awake

# As the real ones do: it notes how it was called, then becomes what it is to run, or watches.
HELPER = """#!/bin/sh
echo "$$ $@" >> {told}
for last; do :; done
case "$0" in
*systemd-inhibit) exec "$last" ;;
*) while kill -0 "$last" 2>/dev/null; do sleep 0.05; done ;;
esac
"""
PARENT = """
import sys
from your_ai.awake import kept_awake
with kept_awake():
    print("awake", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["linux", "darwin"])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Where the helpers that are first on the path note how they were called."""
    for name in ("systemd-inhibit", "caffeinate"):
        helper = tmp_path / name
        helper.write_text(HELPER.format(told=tmp_path / "told"))
        helper.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        patch.setattr(sys, "platform", request.param)
        yield tmp_path / "told"


def called(told: Path) -> tuple[int, str]:
    line = wait_for(lambda: told.exists() and told.read_text(), "the helper's start")
    pid, _, arguments = str(line).strip().partition(" ")
    return int(pid), arguments


def test_it_lasts_as_long_as_the_block(told: Path) -> None:
    with kept_awake():
        pid, arguments = called(told)
        assert psutil.pid_exists(pid)
    assert is_gone(pid)
    if sys.platform == "darwin":
        assert arguments == f"-i -w {os.getpid()}"
    else:
        assert arguments == "--what=idle:sleep --who=your_ai --why=measuring --mode=block cat"


def test_it_ends_with_a_parent_that_is_killed(told: Path) -> None:
    start = f"import sys; sys.platform = {sys.platform!r}\n{PARENT}"
    with subprocess.Popen(
        [sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"awake\n"
        pid, _ = called(told)
        parent.send_signal(signal.SIGKILL)
    wait_for(lambda: is_gone(pid), "the helper's end", within=10)


def test_where_there_is_none_a_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with kept_awake():
        pass


def test_one_that_fails_harms_nobody(told: Path) -> None:
    for name in ("systemd-inhibit", "caffeinate"):
        (told.parent / name).write_text("#!/bin/sh\necho no bus >&2\nexit 1\n")
    with kept_awake():
        pass
