"""The GitHub action: runs its steps as a runner does, without the installation."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support.command import ROOT, Finished, environment

ACTION = ROOT / ".github/actions/smoke/action.yml"
COMPLETE = "--resume --run-dir run --quiet"
"""Arguments that resume a complete run, so nothing is trained."""


def run_steps(folder: Path, **changed: str) -> tuple[int, str]:
    """Run the steps with these inputs. Return the last exit code and the job's summary."""
    action: dict[str, Any] = yaml.safe_load(ACTION.read_text())
    inputs = {name: facts["default"] for name, facts in action["inputs"].items()} | changed
    summary = folder / "summary.md"
    summary.touch()
    (folder / "bin").mkdir(exist_ok=True)
    command = folder / "bin" / "your_ai"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m your_ai "$@"\n')
    command.chmod(0o755)
    status = 0
    for step in action["runs"]["steps"]:
        is_enabled = step.get("if") is None or inputs["baseline"] != ""
        if step["name"] == "Install" or not is_enabled or status:
            continue
        env = {
            name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda m: str(inputs[m[1]]), value)
            for name, value in step["env"].items()
        }
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=folder,
            env={**environment(folder), **env, "PATH": path, "GITHUB_STEP_SUMMARY": str(summary)},
            check=False,
        )
        status = done.returncode
    return status, summary.read_text()


def test_action_measures_and_compares_with_a_baseline(smoke: Finished, tmp_path: Path) -> None:
    shutil.copytree(smoke.folder / "run", tmp_path / "run")
    assert run_steps(tmp_path, arguments=COMPLETE, output="base.json") == (0, "")
    same = {"arguments": COMPLETE, "baseline": "base.json", "fail-above": "1000"}
    status, summary = run_steps(tmp_path, **same)
    assert status == 0
    assert summary.startswith(
        "## your_ai\n\n**No regression: no compared figure became worse by more than 1000%"
    )

    base = json.loads((tmp_path / "base.json").read_bytes())
    base["results"][0]["needed_memory_bytes"] //= 2
    (tmp_path / "better.json").write_text(json.dumps(base))
    status, summary = run_steps(tmp_path, arguments=COMPLETE, baseline="better.json")
    assert status == 1
    assert "became worse by more than 5% and by more than the noise" in summary
