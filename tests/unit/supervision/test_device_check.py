"""A worker with another device than the run was planned for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import builders
from worker.protocol.messages import Started
from your_ai.errors import DeviceChangedError
from your_ai.supervision.device_check import DeviceCheck
from your_ai.supervision.observation import Notice
from your_ai.supervision.probe_cache import ProbeCache

LARGE = replace(builders.METAL, info={"device_name": "Apple M3 Pro", "memory_size": 2**35})
SMALL = replace(LARGE, info={"device_name": "Apple M3 Pro", "memory_size": 2**34})


@pytest.fixture
def cache(tmp_path: Path) -> ProbeCache:
    found = ProbeCache(tmp_path, (), ())
    found.keep(LARGE, [], [])
    return found


def test_the_expected_device_is_passed_on_and_kept(cache: ProbeCache) -> None:
    seen: list[Notice] = []
    events: list[Notice] = [Started(0.0, 1), LARGE]
    with DeviceCheck(cache, cache.device(), seen.append) as check:
        for event in events:
            check(event)
    assert seen == events
    assert cache.device() is not None


def test_another_device_ends_the_run_and_is_asked_for_again(cache: ProbeCache) -> None:
    check = DeviceCheck(cache, cache.device(), lambda _: None)
    with pytest.raises(DeviceChangedError) as raised, check:
        check(SMALL)
    assert "32.0 GB" in str(raised.value)
    assert "16.0 GB" in str(raised.value)
    assert cache.device() is None


def test_without_an_expected_device_any_is_accepted(cache: ProbeCache) -> None:
    with DeviceCheck(cache, None, lambda _: None) as check:
        check(SMALL)


def test_a_worker_without_a_device_lets_the_next_run_ask(cache: ProbeCache) -> None:
    with DeviceCheck(cache, cache.device(), lambda _: None) as check:
        check(Started(0.0, 1))
    assert cache.device() is None
