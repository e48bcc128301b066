"""When a real worker is asked about the device and models, and when the cache is enough."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny
from worker.protocol.configuration import Configuration, FineTuneType
from worker.protocol.messages import Device, ModelFacts
from worker.protocol.requests import PlannedModel
from your_ai.errors import MachineError
from your_ai.supervision import probe
from your_ai.supervision.facts import find_device, find_device_and_facts, find_facts
from your_ai.supervision.observation import Observation
from your_ai.supervision.probe_cache import ProbeCache, cache_dir
from your_ai.supervision.supervisor import supervise

PLAIN = {"mine": PlannedModel(tiny.LLAMA, Configuration(lora_layers=2, quantization_bits=None))}
FULL = {
    "mine": PlannedModel(
        tiny.LLAMA,
        Configuration(
            lora_layers=2, quantization_bits=None, fine_tune_type=FineTuneType.FULL, lora_keys=()
        ),
    )
}
UNKNOWN = {"unknown": PlannedModel({**tiny.LLAMA, "model_type": "none"}, Configuration())}


@pytest.fixture(autouse=True)
def workers(monkeypatch: pytest.MonkeyPatch) -> list[Observation]:
    """The workers that were started for probes."""
    seen: list[Observation] = []

    def recorded(*arguments: Any, **options: Any) -> Observation:
        seen.append(supervise(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(probe, "supervise", recorded)
    return seen


def test_one_worker_answers_everything_and_then_none_is_needed(workers: list[Observation]) -> None:
    device, (plain, full) = find_device_and_facts([PLAIN, FULL])
    assert len(workers) == 1
    assert isinstance(plain["mine"], ModelFacts)
    assert isinstance(full["mine"], ModelFacts)
    assert plain["mine"].trainable_parameters < full["mine"].trainable_parameters
    again, found = find_device_and_facts([PLAIN, FULL])
    assert (again.backend, again.versions, found) == (
        device.backend,
        device.versions,
        [plain, full],
    )
    assert find_facts([FULL]) == [full]
    assert find_device() == again
    assert len(workers) == 1


def test_only_what_is_missing_is_asked(workers: list[Observation]) -> None:
    device = find_device()
    assert find_facts([]) == []
    assert len(workers) == 1
    (facts,) = find_facts([{**PLAIN, **UNKNOWN}])
    assert len(workers) == 2
    assert isinstance(facts["unknown"], str)
    assert find_facts([{**PLAIN, **UNKNOWN}]) == [facts]  # a refusal is not kept
    assert len(workers) == 3
    assert find_device().info == device.info
    assert len(workers) == 3


def test_doctor_always_asks(workers: list[Observation]) -> None:
    find_device()
    probe.probe_device()
    assert len(workers) == 2


def test_another_installation_asks_again(
    workers: list[Observation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_device_and_facts([PLAIN])
    (tmp_path / "mlx-99.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    find_device_and_facts([PLAIN])
    assert len(workers) == 2


def test_damaged_files_are_asked_for_again(workers: list[Observation]) -> None:
    known = find_device_and_facts([PLAIN])
    for file in cache_dir().iterdir():
        file.write_text("{")
    _, facts = find_device_and_facts([PLAIN])
    assert facts == known[1]
    assert len(workers) == 2


def test_a_folder_that_cannot_be_written_costs_a_worker_each_time(
    workers: list[Observation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert find_device_and_facts([PLAIN])[1] == find_device_and_facts([PLAIN])[1]
    assert len(workers) == 2


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Break the import of MLX in workers, in a way that the installation does not show."""
    code = "import sys\nif 'worker' in sys.orig_argv: sys.modules['mlx.core'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(code)
    with monkeypatch.context() as changed:
        changed.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        yield


@pytest.mark.usefixtures("broken")
def test_a_probe_that_fails_makes_the_device_unknown() -> None:
    cache = ProbeCache.open()
    cache.keep(Device(0.0, "cpu", {}, {}), [], [])
    assert find_device().backend == "cpu"
    with pytest.raises(MachineError):
        probe.probe_device()
    assert cache.device() is None
