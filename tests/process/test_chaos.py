"""A short version of ``scripts/chaos``: each part, a few times."""

from __future__ import annotations

import pytest

from tests.chaos.checkpoints import damaged_checkpoints
from tests.chaos.damage import damaged
from tests.chaos.deaths import KINDS, deaths
from tests.chaos.disk import filled
from tests.chaos.guard import guarded
from tests.chaos.hangs import hangs
from tests.chaos.kills import kills
from tests.chaos.masking import masked
from tests.chaos.report import Report
from tests.chaos.runs import Folder
from tests.chaos.soak import soak
from tests.chaos.training import disturbed
from tests.support.command import Finished
from tests.support.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

UNTESTED_DEATHS = {"CUDA message", "malloc message", "unknown model type", "over budget"}
"""Kinds of death that no other process test causes."""


def check(report: Report) -> None:
    assert report.failures == []
    assert report.figures


def test_parents_killed_at_random_moments() -> None:
    check(kills(1))


def test_a_damaged_journal(smoke: Finished) -> None:
    check(damaged(Folder(smoke.folder), 20))


def test_workers_that_die() -> None:
    kinds = [kind for kind in KINDS if kind.name in UNTESTED_DEATHS]
    assert len(kinds) == len(UNTESTED_DEATHS)
    check(deaths(1, kinds))


@pytest.mark.root
def test_a_full_disk() -> None:
    """The disk fills up in the second trial, or has no files left in the first."""
    check(filled(["size=8k", "size=1m,nr_inodes=4"]))


def test_one_run_of_many_trials() -> None:
    check(soak(8, warm_up=4))


def test_workers_that_hang() -> None:
    check(hangs(6))


def test_the_memory_guard(workspace: Workspace, trained: Finished) -> None:
    check(guarded(workspace, 6))


def test_masked_prompts(workspace: Workspace) -> None:
    """The first two cases are trained: the data of one is refused, the other's is not."""
    check(masked(workspace, 12, 6))


@pytest.mark.root
def test_a_training(workspace: Workspace) -> None:
    check(disturbed(workspace, 1))


def test_damaged_checkpoints(workspace: Workspace) -> None:
    check(damaged_checkpoints(workspace, 1))
