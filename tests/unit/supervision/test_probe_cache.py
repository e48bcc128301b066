"""The files in which answers of probes are kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny
from worker import probe
from worker.protocol.configuration import (
    ALL_KEYS,
    Configuration,
    FineTuneType,
    Optimizer,
    QuantizationMode,
    Weights,
)
from worker.protocol.messages import Device, ModelFacts
from worker.protocol.requests import PlannedModel
from your_ai.supervision import probe_cache
from your_ai.supervision.probe_cache import Facts, ProbeCache

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


def test_a_model_is_known_by_its_config(filled: ProbeCache) -> None:
    assert filled.facts({"renamed": PLANNED}) == {"renamed": FACTS}
    other = PlannedModel({**tiny.LLAMA, "hidden_size": 96}, Configuration())
    assert filled.facts({"mine": other}) == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"lora_rank": 3},
        {"lora_layers": 1},
        {"lora_keys": ALL_KEYS},
        {"fine_tune_type": FineTuneType.DORA},
        {"quantization_bits": 4},
        {"quantization_mode": QuantizationMode.MXFP4},
        {"group_size": 32},
    ],
)
def test_another_training_is_asked_for(filled: ProbeCache, changed: dict[str, Any]) -> None:
    other = replace(PLANNED, configuration=replace(PLANNED.configuration, **changed))
    assert filled.facts({"mine": other}) == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"weights": Weights.REAL},
        {"batch_size": 7},
        {"seq_length": 4096},
        {"grad_checkpoint": False},
        {"optimizer": Optimizer.MUON},
        {"optimizer_config": ("weight_decay=0.1",)},
        {"grad_accumulation_steps": 4},
    ],
)
def test_what_does_not_change_the_facts_is_not_asked_for(
    filled: ProbeCache, changed: dict[str, Any]
) -> None:
    other = replace(PLANNED, configuration=replace(PLANNED.configuration, **changed))
    assert probe.facts(other) == probe.facts(PLANNED)
    assert filled.facts({"mine": other}) == FOUND


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
    enough = threading.Event()

    def write() -> None:
        while not enough.is_set():
            filled.keep(CUDA, [KIND], [FOUND])

    with ThreadPoolExecutor(2) as writers:
        writing = [writers.submit(write) for _ in range(2)]
        try:
            for _ in range(200):
                assert filled.facts(KIND) == FOUND
                assert filled.device() is not None
        finally:
            enough.set()
    assert [each.result() for each in writing] == [None, None]
