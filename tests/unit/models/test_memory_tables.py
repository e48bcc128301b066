"""The tables of the presets, as scripts/make-presets.py traced them."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from importlib import metadata
from itertools import pairwise, product
from types import ModuleType
from typing import Any

import msgspec
import pytest

from tests.support.command import ROOT
from worker.architecture import UnsupportedTrainingError
from worker.protocol.configuration import ALL_KEYS, ATTENTION_KEYS, Configuration, FineTuneType
from worker.protocol.memory import MemoryFacts, StepMemory
from worker.step_graph.backends import BACKENDS
from your_ai.models.memory_tables import KINDS, Tables, is_shipped, shipped, table_of
from your_ai.models.presets import all_presets
from your_ai.models.quantization import named
from your_ai.models.resolve import from_preset

FOLDER = ROOT / "your_ai/models/memory"
LOOPS = ["qwen3.5-9b", "qwen3.6-27b"]
"""The presets whose layers loop over tokens, so that their steps cannot be traced."""

TABLED = sorted(all_presets().keys() - {*LOOPS})
LLAMA = from_preset(all_presets()["llama-8b"])
LORA = Configuration(quantization_bits=4)


def tables(name: str) -> Tables:
    found: Tables = msgspec.json.decode((FOLDER / f"{name}.json").read_bytes(), type=Tables)
    return found


def steps(facts: MemoryFacts) -> tuple[StepMemory, StepMemory]:
    return facts.checkpointed, facts.stored


def make_presets() -> ModuleType:
    """Import the script that makes the tables."""
    path = ROOT / "scripts/make-presets.py"
    spec = importlib.util.spec_from_file_location("make_presets", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_preset_has_tables_unless_its_layers_loop_over_tokens() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == TABLED


@pytest.mark.parametrize("name", TABLED)
def test_the_tables_are_of_the_preset_for_each_kind_and_backend(name: str) -> None:
    layers = all_presets()[name].layers
    found = tables(name)
    assert found.keys() == KINDS.keys()
    for kind, backends in found.items():
        assert backends.keys() == BACKENDS.keys()
        for backend, facts in backends.items():
            where = f"{kind}, {backend}"
            assert sum(run.layers for run in facts.trained) == layers, where
            for step in steps(facts):
                assert step.layers[0] == 1
                assert step.layers[-1] <= layers
                shape = (len(step.layers), len(step.seq_lengths), len(step.batch_sizes))
                for table in (step.needed, step.needed_per_rank, step.unlimited):
                    rows = [row for rows in table for row in rows]
                    assert (len(table), {len(rows) for rows in table}) == (shape[0], {shape[1]})
                    assert {len(row) for row in rows} == {shape[2]}
                    assert min(map(min, rows)) > 0, where


@pytest.mark.parametrize("name", TABLED)
def test_a_step_with_longer_sequences_or_larger_batches_needs_more(name: str) -> None:
    for backends in tables(name).values():
        for backend, facts in backends.items():
            for step in steps(facts):
                for table in (step.needed, step.unlimited):
                    rows = [row for rows in table for row in rows]
                    columns = [column for rows in table for column in zip(*rows, strict=True)]
                    for numbers in (*rows, *columns):
                        assert all(a <= b for a, b in pairwise(numbers)), (backend, numbers)
                        assert numbers[0] < numbers[-1]


@pytest.mark.parametrize("name", TABLED)
def test_checkpointing_and_a_memory_limit_reduce_memory(name: str) -> None:
    for backends in tables(name).values():
        for facts in backends.values():
            checkpointed, stored = steps(facts)
            most, long, large = (len(stored.layers) - 1, -1, -1)
            assert checkpointed.needed[most][long][large] < stored.needed[most][long][large]
            for step in (checkpointed, stored):
                cells = product(range(len(step.layers)), range(len(step.seq_lengths)))
                for i, j in cells:
                    pairs = zip(step.needed[i][j], step.unlimited[i][j], strict=True)
                    assert all(needed <= unlimited * 1.02 for needed, unlimited in pairs)


def test_the_tables_of_a_small_preset_are_those_that_are_traced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = make_presets()
    monkeypatch.setattr(script, "KINDS", {"all": ALL_KEYS})  # one of two, to be faster
    found = script.tables(all_presets()["smoke-tiny"].config, named("none"))
    assert found == {"all": tables("smoke-tiny")["all"]}, (
        "stale; run: .venv/bin/python scripts/make-presets.py --memory"
    )


def test_the_tables_take_little_space() -> None:
    sizes = [path.stat().st_size for path in FOLDER.glob("*.json")]
    assert max(sizes) < 100_000


@pytest.mark.parametrize(
    ("changed", "is_known"),
    [
        ({}, True),
        ({"lora_keys": ALL_KEYS}, True),
        ({"lora_keys": ATTENTION_KEYS, "lora_rank": 7}, True),
        ({"lora_keys": ("self_attn.q_proj",)}, False),
        ({"fine_tune_type": FineTuneType.DORA}, False),
        ({"fine_tune_type": FineTuneType.FULL, "lora_keys": (), "lora_rank": 0}, False),
    ],
)
def test_tables_are_for_lora_on_all_modules_or_attention(
    changed: dict[str, Any], is_known: bool
) -> None:
    configuration = replace(LORA, **changed)
    assert is_shipped(LLAMA, configuration) == is_known
    assert (shipped(LLAMA, configuration, "cuda") is not None) == is_known
    probed = replace(LLAMA, is_preset=False)  # a folder that is called like a preset
    assert not is_shipped(probed, configuration)
    assert shipped(probed, configuration, "cuda") is None


def test_a_preset_whose_layers_loop_over_tokens_cannot_be_traced() -> None:
    first, *others = (all_presets()[name].config for name in LOOPS)
    assert {other["model_type"] for other in others} == {first["model_type"]}
    with pytest.raises(UnsupportedTrainingError, match="loops over tokens"):
        make_presets().tables(first, named("4"))


@pytest.mark.parametrize("name", LOOPS)
def test_a_preset_that_cannot_be_traced_need_not_be_probed(name: str) -> None:
    hybrid = from_preset(all_presets()[name])
    assert is_shipped(hybrid, LORA)
    assert shipped(hybrid, LORA, "cuda") is None


def test_the_kind_and_the_backend_select_the_table() -> None:
    content = tables("llama-8b")
    assert shipped(LLAMA, LORA, "cpu") == content["attention"]["cpu"]
    assert shipped(LLAMA, replace(LORA, lora_keys=ALL_KEYS), "cuda") == content["all"]["cuda"]


@pytest.mark.parametrize(
    ("version", "table"),
    [
        ("0.31.9", "metal-0.32.3"),
        ("0.32.3", "metal-0.32.3"),
        ("0.32.4", "metal"),
        ("0.32.4.dev20261130", "metal"),
        ("0.33", "metal"),
        ("1.0.0", "metal"),
    ],
)
def test_metal_had_fewer_kernels_before_mlx_0_32_4(
    version: str, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "version", lambda _package: version)
    assert table_of("metal") == table
    assert (table_of("cuda"), table_of("cpu")) == ("cuda", "cpu")
    assert shipped(LLAMA, LORA, "metal") == tables("llama-8b")["attention"][table]
