"""The helpers that keep the machine awake end with the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.trials import is_gone, wait_for
from your_ai.system.sleep import kept_awake

# A fake helper that records its arguments, then runs its command or watches a process.
HELPER = """#!/bin/sh
echo "$$ $@" >> {calls_file}
for last; do :; done
case "$0" in
*systemd-inhibit) exec "$last" ;;
*) while kill -0 "$last" 2>/dev/null; do sleep 0.05; done ;;
esac
"""
PARENT = """
import sys
from your_ai.system.sleep import kept_awake
with kept_awake():
    print("awake", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["linux", "darwin"])
def calls_file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The file in which fake helpers record their arguments; they are first in PATH."""
    for name in ("systemd-inhibit", "caffeinate"):
        helper = tmp_path / name
        helper.write_text(HELPER.format(calls_file=tmp_path / "calls_file"))
        helper.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        patch.setattr(sys, "platform", request.param)
        yield tmp_path / "calls_file"


def calls(calls_file: Path) -> dict[str, int]:
    """Return the process ids of the helpers by their arguments. Linux has one per kind of sleep."""
    count = 1 if sys.platform == "darwin" else 2
    lines = wait_for(lambda: whole_lines(calls_file, count), "the helpers' start")
    words = (line.split(" ", 1) for line in lines)
    return {arguments: int(pid) for pid, arguments in words}


def whole_lines(calls_file: Path, count: int) -> list[str]:
    lines = calls_file.read_text().splitlines(keepends=True) if calls_file.exists() else []
    return [line.strip() for line in lines] if len(lines) == count else []


def test_helpers_end_with_the_context(calls_file: Path) -> None:
    with kept_awake():
        helpers = calls(calls_file)
        assert not any(is_gone(pid) for pid in helpers.values())
    assert all(is_gone(pid) for pid in helpers.values())
    if sys.platform == "darwin":
        assert set(helpers) == {f"-i -w {os.getpid()}"}
    else:
        rest = "--who=your_ai --why=measuring --mode=block cat"
        assert set(helpers) == {f"--what=idle {rest}", f"--what=sleep {rest}"}


def test_helpers_end_when_the_parent_is_killed(calls_file: Path) -> None:
    start = f"import sys; sys.platform = {sys.platform!r}\n{PARENT}"
    with subprocess.Popen(
        [sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"awake\n"
        helpers = calls(calls_file)
        assert not any(is_gone(pid) for pid in helpers.values())
        parent.send_signal(signal.SIGKILL)
    wait_for(lambda: all(is_gone(pid) for pid in helpers.values()), "their end", within=10)


def test_missing_helpers_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with kept_awake():
        pass


REFUSED = f"""#!/bin/sh
case "$*" in *what=sleep*) echo denied >&2; echo denied; exit 1 ;; esac
{HELPER}"""


def test_idle_is_blocked_even_if_sleep_may_not_be(calls_file: Path) -> None:
    """logind does this for ssh sessions."""
    (calls_file.parent / "systemd-inhibit").write_text(REFUSED.format(calls_file=calls_file))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "platform", "linux")
        with kept_awake():
            (line,) = wait_for(lambda: whole_lines(calls_file, 1), "the helper's start")
            assert "--what=idle " in line
            assert not is_gone(int(line.split()[0]))


def test_a_failing_helper_is_ignored_silently(
    calls_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    failing = f"#!/bin/sh\necho $$ >> {calls_file}\necho no bus >&2\necho no bus\nexit 1\n"
    for name in ("systemd-inhibit", "caffeinate"):
        (calls_file.parent / name).write_text(failing)
    with kept_awake():
        count = 1 if sys.platform == "darwin" else 2
        lines = wait_for(lambda: whole_lines(calls_file, count), "the helpers' start")
        wait_for(lambda: all(is_gone(int(pid)) for pid in lines), "their end")
    assert capfd.readouterr() == ("", "")
