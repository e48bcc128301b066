"""The short form of ``scripts/chaos``: each of its parts, a few times."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.damage import damage
from tests.chaos.deaths import deaths
from tests.chaos.disk import disk
from tests.chaos.kills import kills
from tests.chaos.report import Report
from tests.chaos.soak import soak
from tests.chaos.training import training


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("part", "number"),
    [(kills, 2), (damage, 20), (deaths, 1), (disk, 48), (soak, 24), (training, 1)],
)
def test_nothing_breaks(part: Callable[[int], Report], number: int) -> None:
    report = part(number)
    assert report.failures == []
    assert report.figures
