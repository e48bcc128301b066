"""``your_ai train`` continues by itself after its worker hung or the memory guard ended it."""

from __future__ import annotations

import pytest

from tests.support.command import Finished
from tests.support.workspace import ITERS, Workspace, disturbed


@pytest.mark.parametrize(
    ("kind", "outcomes", "shown"),
    [
        # How much memory the machine has lost depends on what else runs on it.
        ("alarm", ["oom", "error"], "waiting up to 30 min for memory, then restarting from iter"),
        ("hang", ["timeout"], "    restarting from iteration "),
    ],
)
def test_a_disturbed_training_ends_like_an_undisturbed_one(
    kind: str, outcomes: list[str], shown: str, workspace: Workspace, trained: Finished
) -> None:
    output = disturbed(workspace, kind, f"with-{kind}", 12)
    assert shown in output
    assert "with the same settings" in output
    record, expected = workspace.record(f"with-{kind}"), workspace.record("trained")
    (failure,) = record["failures"]
    assert failure["outcome"] in outcomes
    assert record["setting"]["micro_batches"] == 1
    assert record["iterations"] == ITERS
    assert record["losses"] == expected["losses"]
    assert record["validation"] == expected["validation"]
