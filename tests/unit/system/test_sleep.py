"""What keeps the machine awake lasts as long as the run, and no longer."""

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
from your_ai.system.sleep import kept_awake
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


def called(told: Path) -> dict[str, int]:
    """How each was called, by its arguments: macOS has one, Linux one for each kind of sleep."""
    count = 1 if sys.platform == "darwin" else 2
    lines = wait_for(lambda: whole_lines(told, count), "the helpers' start")
    words = (line.split(" ", 1) for line in lines)
    return {arguments: int(pid) for pid, arguments in words}


def whole_lines(told: Path, count: int) -> list[str]:
    lines = told.read_text().splitlines(keepends=True) if told.exists() else []
    return [line.strip() for line in lines] if len(lines) == count else []


def test_it_lasts_as_long_as_the_block(told: Path) -> None:
    with kept_awake():
        helpers = called(told)
        assert not any(is_gone(pid) for pid in helpers.values())
    assert all(is_gone(pid) for pid in helpers.values())
    if sys.platform == "darwin":
        assert set(helpers) == {f"-i -w {os.getpid()}"}
    else:
        rest = "--who=your_ai --why=measuring --mode=block cat"
        assert set(helpers) == {f"--what=idle {rest}", f"--what=sleep {rest}"}


def test_it_ends_with_a_parent_that_is_killed(told: Path) -> None:
    start = f"import sys; sys.platform = {sys.platform!r}\n{PARENT}"
    with subprocess.Popen(
        [sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"awake\n"
        helpers = called(told)
        assert not any(is_gone(pid) for pid in helpers.values())
        parent.send_signal(signal.SIGKILL)
    wait_for(lambda: all(is_gone(pid) for pid in helpers.values()), "their end", within=10)


def test_where_there_is_none_a_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with kept_awake():
        pass


REFUSED = f"""#!/bin/sh
case "$*" in *what=sleep*) echo denied >&2; echo denied; exit 1 ;; esac
{HELPER}"""


def test_where_sleep_may_not_be_blocked_idle_still_is(told: Path) -> None:
    """As logind has it over ssh."""
    (told.parent / "systemd-inhibit").write_text(REFUSED.format(told=told))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "platform", "linux")
        with kept_awake():
            (line,) = wait_for(lambda: whole_lines(told, 1), "the helper's start")
            assert "--what=idle " in line
            assert not is_gone(int(line.split()[0]))


def test_one_that_fails_harms_nobody_and_says_nothing(
    told: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    failing = f"#!/bin/sh\necho $$ >> {told}\necho no bus >&2\necho no bus\nexit 1\n"
    for name in ("systemd-inhibit", "caffeinate"):
        (told.parent / name).write_text(failing)
    with kept_awake():
        count = 1 if sys.platform == "darwin" else 2
        lines = wait_for(lambda: whole_lines(told, count), "the helpers' start")
        wait_for(lambda: all(is_gone(int(pid)) for pid in lines), "their end")
    assert capfd.readouterr() == ("", "")
