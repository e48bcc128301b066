"""The command that continues a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import builders
from your_ai.cli.resume_command import resume_command
from your_ai.runs.run_dir import runs_dir

NUMBERED = "0001-20260102-030405Z-7"


@pytest.mark.parametrize(
    ("name", "is_found"), [(NUMBERED, True), ("mine", False), (f"{NUMBERED}/mine", False)]
)
def test_only_a_numbered_run_is_found_without_its_folder(
    name: str, is_found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["elsewhere/your_ai"])
    folder = runs_dir() / name
    words = resume_command(builders.run(run_dir=str(folder))).split()[1:]
    more = [] if is_found else ["--run-dir", str(folder)]
    assert words == ["benchmark", "--resume", *more]
