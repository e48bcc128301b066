"""The files in which answers of probes are kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import builders, tiny
from worker.protocol.configuration import Configuration
from worker.protocol.messages import Device, ModelFacts
from worker.protocol.requests import PlannedModel
from your_ai.supervision import probe_cache
from your_ai.supervision.probe_cache import Facts, ProbeCache, is_same

PLANNED = PlannedModel(tiny.LLAMA, Configuration())
KIND = {"mine": PLANNED}
FACTS = ModelFacts(1000, 10, 2, ("self_attn.q_proj",), lacks_attention=False, weights_bytes=99)
FOUND: Facts = {"mine": FACTS}
INFO = {"device_name": "NVIDIA H200", "uuid": "GPU-1", "total_memory": 150754820096}
CUDA = Device(0.5, "cuda", {**INFO, "free_memory": 149_000_000_000}, {"mlx": "0.32.4"})


@pytest.fixture
def cache(tmp_path: Path) -> ProbeCache:
    return ProbeCache(tmp_path / "your_ai" / "probes", ("mlx 0.32.4",), ("boot 1",))


@pytest.fixture
def filled(cache: ProbeCache) -> ProbeCache:
    cache.keep(CUDA, [KIND], [FOUND])
    return cache


def test_an_empty_cache_knows_nothing(cache: ProbeCache) -> None:
    assert cache.device() is None
    assert cache.facts(KIND) == {}


def test_answers_are_kept_except_for_the_free_memory(filled: ProbeCache) -> None:
    assert filled.device() == replace(CUDA, at=0.0, info=INFO)
    assert filled.facts(KIND) == FOUND
    assert not [file for file in filled.folder.iterdir() if b"free" in file.read_bytes()]


def test_only_the_user_can_read_the_folder(filled: ProbeCache) -> None:
    assert filled.folder.stat().st_mode & 0o777 == 0o700


def test_a_model_that_cannot_be_trained_is_asked_for_again(cache: ProbeCache) -> None:
    cache.keep(CUDA, [{**KIND, "other": PLANNED}], [{"mine": "not supported", "other": FACTS}])
    assert len([*cache.folder.glob("model-*")]) == 1


def test_another_installation_knows_nothing(filled: ProbeCache) -> None:
    other = replace(filled, installation=("mlx 0.32.5",))
    assert other.device() is None
    assert other.facts(KIND) == {}


def test_another_device_has_the_same_models(filled: ProbeCache) -> None:
    other = replace(filled, device_state=("boot 2",))
    assert other.device() is None
    assert other.facts(KIND) == FOUND


@pytest.mark.parametrize(
    "planned",
    [
        PlannedModel({**tiny.LLAMA, "hidden_size": 96}, Configuration()),
        PlannedModel(tiny.LLAMA, Configuration(lora_rank=3)),
    ],
)
def test_another_config_or_configuration_is_asked_for(
    filled: ProbeCache, planned: PlannedModel
) -> None:
    assert filled.facts({"mine": planned}) == {}
    assert filled.facts({"renamed": PLANNED}) == {"renamed": FACTS}


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def other_type(file: Path) -> None:
    file.write_text('{"parameters": "many", "backend": 1}')


def deep(file: Path) -> None:
    file.write_text("[" * 100_000)


def not_text(file: Path) -> None:
    file.write_bytes(b'{"backend":"\xff"}')


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [empty, cut, other_type, deep, not_text, folder])
def test_damaged_files_are_ignored_and_replaced(
    filled: ProbeCache, damage: Callable[[Path], None]
) -> None:
    for file in filled.folder.iterdir():
        damage(file)
    assert filled.device() is None
    assert filled.facts(KIND) == {}
    filled.keep(CUDA, [KIND], [FOUND])
    if damage is not folder:
        assert filled.facts(KIND) == FOUND


def test_a_cache_that_cannot_be_written_is_ignored(cache: ProbeCache, tmp_path: Path) -> None:
    (tmp_path / "your_ai").touch()
    cache.keep(CUDA, [KIND], [FOUND])
    cache.forget_device()
    assert cache.device() is None


def test_a_forgotten_device_leaves_the_models(filled: ProbeCache) -> None:
    filled.forget_device()
    assert filled.device() is None
    assert filled.facts(KIND) == FOUND


def test_the_oldest_answers_are_discarded(
    filled: ProbeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_cache, "_MAX_FILES", 3)
    for file in filled.folder.iterdir():
        os.utime(file, (1, 1))
    newer = replace(filled, installation=("newer",))
    newer.keep(CUDA, [KIND], [FOUND])
    assert len([*filled.folder.iterdir()]) == 3
    assert newer.device() is not None
    assert newer.facts(KIND) == FOUND


def test_answers_are_complete_while_others_write(filled: ProbeCache) -> None:
    def write() -> None:
        for _ in range(20):
            filled.keep(CUDA, [KIND], [FOUND])

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert filled.facts(KIND) == FOUND
        assert filled.device() is not None


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (replace(CUDA, at=9.0, info={**INFO, "free_memory": 1, "unknown": 2}), True),
        (replace(CUDA, backend="cpu"), False),
        (replace(CUDA, info={**INFO, "device_name": "NVIDIA H100"}), False),
        (replace(CUDA, info={**INFO, "total_memory": 2**30}), False),
        (replace(CUDA, info={**INFO, "uuid": "GPU-2"}), False),
        (builders.METAL, False),
    ],
)
def test_devices_are_the_same_if_runs_on_them_are(changed: Device, expected: bool) -> None:
    assert is_same(CUDA, changed) is expected
