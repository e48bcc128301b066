"""What is trained and what weights take, counted without tracing steps, for the whole matrix."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from itertools import pairwise

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from tests.matrix.check import CONFIGURATION
from tests.matrix.configs import all_configs
from tests.support import tiny
from worker import adapters, architecture, memory_facts, probe, weights
from worker.architecture import UnsupportedModelError, UnsupportedTrainingError
from worker.protocol.configuration import ATTENTION_KEYS, Configuration, FineTuneType
from worker.protocol.memory import MemoryFacts, StepMemory, TrainedLayers, lengths_around
from worker.protocol.requests import ModelSource, PlannedModel
from worker.step_graph.step_memory import Grid
from your_ai.planning.memory_estimate import trained_bytes

KINDS = {
    "all": CONFIGURATION,
    "attention, 4-bit": replace(CONFIGURATION, lora_keys=ATTENTION_KEYS, quantization_bits=4),
    "dora": replace(CONFIGURATION, fine_tune_type=FineTuneType.DORA),
    "full": replace(CONFIGURATION, fine_tune_type=FineTuneType.FULL, lora_keys=(), lora_rank=0),
}
MOST_REFUSED = {"all": 2, "attention, 4-bit": 3, "dora": 53, "full": 1}
"""How many models mlx-lm cannot build, quantize or train like that."""
UNQUANTIZABLE = {("afm7", 4)}
"""Modules of afm7 cannot be quantized: mlx-lm passes an argument that they lack."""

GRID = Grid(lengths_around(CONFIGURATION.seq_length))
NO_STEP = StepMemory((1,), (16,), (1,), 16, (), (), ())
"""The tables are not needed to count."""


def arrays_of(model: nn.Module) -> list[mx.array]:
    return [array for _, array in tree_flatten(model.parameters())]


def trained_arrays(name: str, configuration: Configuration) -> list[mx.array]:
    """Return what is trained in a model of the matrix. Nothing is allocated."""
    model = weights.plan(ModelSource(all_configs()[name]), configuration)
    with contextlib.suppress(UnsupportedTrainingError):  # nothing in these layers can be trained
        adapters.prepare(model, configuration)
    return [array for _, array in tree_flatten(model.trainable_parameters())]


def trained_layers(name: str, configuration: Configuration) -> tuple[TrainedLayers, ...]:
    planned = memory_facts._Planned(ModelSource(all_configs()[name]), configuration)
    return tuple(memory_facts._trained_layers(planned))


def trained_weights(runs: tuple[TrainedLayers, ...], configuration: Configuration) -> int:
    """Return the number of trained weights, as `trained_bytes` returns their bytes."""
    as_bytes = [replace(r, bytes=r.weights, bytes_per_rank=r.weights_per_rank) for r in runs]
    return trained_bytes(MemoryFacts(tuple(as_bytes), NO_STEP, NO_STEP), configuration)


@pytest.mark.parametrize("kind", KINDS)
def test_the_trained_layers_are_those_of_the_real_model(kind: str) -> None:
    refused = 0
    for name in all_configs():
        if (name, KINDS[kind].quantization_bits) in UNQUANTIZABLE:
            continue
        try:
            runs = trained_layers(name, KINDS[kind])
        except UnsupportedModelError:
            refused += 1
            continue
        layers = sum(run.layers for run in runs)
        for count, rank in ((1, 3), (2, 8), (layers, 5)):
            sizes = replace(KINDS[kind], lora_layers=min(count, layers))
            sizes = replace(sizes, lora_rank=rank) if sizes.lora_rank else sizes
            found = MemoryFacts(runs, NO_STEP, NO_STEP)
            where = f"{name}, {count} layers, rank {rank}"
            arrays = trained_arrays(name, sizes)
            assert trained_bytes(found, sizes) == sum(array.nbytes for array in arrays), where
            assert trained_weights(runs, sizes) == sum(array.size for array in arrays), where
    assert refused <= MOST_REFUSED[kind]


@pytest.mark.parametrize("keys", [("lm_head",), ("self_attn.q_proj", "lm_head")])
def test_modules_outside_of_the_layers_are_trained_with_the_last_layer(
    keys: tuple[str, ...],
) -> None:
    configuration = replace(CONFIGURATION, lora_keys=keys)
    runs = trained_layers("llama", configuration)
    for count in (1, 2):
        sizes = replace(configuration, lora_layers=count)
        arrays = trained_arrays("llama", sizes)
        assert trained_bytes(MemoryFacts(runs, NO_STEP, NO_STEP), sizes) == sum(
            array.nbytes for array in arrays
        )


def test_equal_neighbors_are_counted_together() -> None:
    (all_alike,) = trained_layers("llama", KINDS["all"])
    assert all_alike.layers == all_configs()["llama"]["num_hidden_layers"]
    hybrid = trained_layers("nemotron_h", KINDS["all"])
    assert len(hybrid) > 1
    assert all(a != replace(b, layers=a.layers) for a, b in pairwise(hybrid))


@pytest.mark.parametrize("bits", [None, 4])
def test_a_probe_counts_the_parameters_and_bytes_of_every_model(bits: int | None) -> None:
    configuration = replace(CONFIGURATION, quantization_bits=bits)
    counted = 0
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    for name, config in all_configs().items():
        if (name, bits) in UNQUANTIZABLE:
            continue
        try:
            found = probe.facts(PlannedModel(config, configuration))
        except UnsupportedModelError:
            continue
        planned = arrays_of(weights.plan(ModelSource(config), configuration))
        assert found.weights_bytes == sum(array.nbytes for array in planned), name
        if "quantization" not in config:
            built = arrays_of(architecture.build(config))
            assert found.parameters == sum(array.size for array in built), name
        counted += 1
    assert counted >= len(all_configs()) - 4
    assert mx.get_peak_memory() - before < 2**20


def test_memory_is_found_only_if_asked_for() -> None:
    planned = PlannedModel(tiny.LLAMA, replace(CONFIGURATION, lora_layers=2))
    assert probe.facts(planned).memory is None
    memory = probe.facts(replace(planned, memory_on="cuda")).memory
    source = ModelSource(tiny.LLAMA)
    assert memory == memory_facts.find(source, planned.configuration, ("cuda", "cpu"), GRID)["cuda"]
    assert memory is not None
    assert memory.checkpointed != memory.stored


def test_a_step_that_cannot_be_traced_has_no_memory() -> None:
    config = all_configs()["qwen3_5"]  # its layers loop over tokens
    facts = probe.facts(PlannedModel(config, CONFIGURATION, memory_on="cpu"))
    assert facts.memory is None
    assert facts.weights_bytes > 0
    with pytest.raises(UnsupportedTrainingError, match="it loops over tokens"):
        memory_facts.find(ModelSource(config), CONFIGURATION, ("cpu",), GRID)
