"""``your_ai train`` continues by itself after its worker hung or the memory guard ended it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.command import TIMEOUT, Finished
from tests.support.disturbed import ALARM, HANG
from tests.support.workspace import ITERS, Workspace, wait_for

DISTURBED = [sys.executable, "-m", "tests.support.disturbed"]


@pytest.mark.parametrize(
    ("file", "outcome", "shown"),
    [
        (ALARM, "error", "waiting up to 30 min for memory, then restarting from iteration "),
        (HANG, "timeout", "    restarting from iteration "),
    ],
)
def test_a_disturbed_training_ends_like_an_undisturbed_one(
    file: Path, outcome: str, shown: str, workspace: Workspace, trained: Finished
) -> None:
    name = f"with-{file}"
    process = workspace.start(workspace.train(name, "--restarts", "0"), program=DISTURBED)
    wait_for(lambda: workspace.iteration(name) >= 12, process)
    (workspace.folder / file).touch()
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    assert shown in output
    assert "with the same settings" in output
    record = workspace.record(name)
    assert [failure["outcome"] for failure in record["failures"]] == [outcome]
    assert record["setting"]["micro_batches"] == 1
    assert record["iterations"] == ITERS
    expected = workspace.record("trained")
    assert record["losses"] == expected["losses"]
    assert record["validation"] == expected["validation"]
