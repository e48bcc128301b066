"""Estimates compared with recorded measurements, and properties that hold for all models."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from your_ai.models.architecture import parameters

from tests.support import tiny
from tests.support.builders import request
from worker.protocol.configuration import ATTENTION_KEYS, Configuration, Optimizer, QuantizationMode
from worker.protocol.requests import ModelSource, TrialRequest
from your_ai.errors import UsageError
from your_ai.models import presets
from your_ai.models.presets import all_presets
from your_ai.models.resolve import from_preset
from your_ai.planning.memory_estimate import error_share, estimate
from your_ai.planning.plan import TrainingOptions, plan
from your_ai.units import GB

RECORDED = json.loads((Path(__file__).parent / "recorded_memory.json").read_bytes())
TRIALS: list[dict[str, Any]] = RECORDED["trials"]
MODELS = {name: preset.config for name, preset in all_presets().items()} | RECORDED["configs"]
BACKENDS = ("cuda", "cpu")

# The weights of the tiny model: embedding and head, then attention and MLP in each of two layers.
MATRICES = 2 * 512 * 64 + 2 * (64 * (64 + 32 + 32 + 64) + 3 * 64 * 128)

MIXTURE = {
    **tiny.LLAMA,
    "model_type": "qwen3_moe",
    "head_dim": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 96,
}


def request_of(config: dict[str, Any], **changed: Any) -> TrialRequest:
    return request(
        lora_keys=ATTENTION_KEYS, optimizer=Optimizer.ADAMW, model=ModelSource(config), **changed
    )


def recorded(trial: dict[str, Any]) -> TrialRequest:
    settings = ("batch_size", "lora_rank", "lora_layers", "seq_length", "grad_checkpoint")
    return request_of(
        MODELS[trial["model"]],
        quantization_bits=trial["bits"] or None,
        **{name: trial[name] for name in settings},
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_estimates_are_close_to_measurements(backend: str) -> None:
    trials = [trial for trial in TRIALS if trial["backend"] == backend]
    guesses = [estimate(recorded(trial), backend) for trial in trials]
    pairs = list(zip(guesses, trials, strict=True))
    needed = [abs(guess.needed_bytes / trial["needed_bytes"] - 1) for guess, trial in pairs]
    ahead = [abs(guess.run_ahead_bytes / trial["run_ahead_bytes"] - 1) for guess, trial in pairs]
    assert len(trials) >= 15
    assert statistics.median(needed) <= 0.05
    assert max(needed) <= 0.15
    assert statistics.median(ahead) <= 0.1


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: f"{trial['backend']}-{trial['model']}")
def test_weights_and_adapters_are_counted(trial: dict[str, Any]) -> None:
    assert parameters(MODELS[trial["model"]]) == trial["parameters"]
    resident = estimate(recorded(trial), trial["backend"]).resident_bytes
    assert resident == pytest.approx(trial["resident_bytes"], rel=0.001)


def test_resident_bytes_of_a_tiny_model_by_hand() -> None:
    norms = 5 * 64
    weights = MATRICES + norms
    adapters = 2 * 8 * ((64 + 64) + 2 * (64 + 32) + (64 + 64))
    unquantized = request_of(tiny.LLAMA, quantization_bits=None, lora_rank=8)
    assert estimate(unquantized, "cpu").resident_bytes == 2 * weights + 4 * adapters

    quantized = MATRICES // 2 + MATRICES // 64 * 4 + 2 * norms
    four_bits = request_of(tiny.LLAMA, quantization_bits=4, lora_rank=8)
    assert estimate(four_bits, "cpu").resident_bytes == quantized + 4 * adapters


def test_a_matrix_whose_width_groups_do_not_divide_is_not_quantized() -> None:
    narrow, even = ({**tiny.LLAMA, "intermediate_size": width} for width in (96, 128))
    down = 2 * 64 * (128 * 9 // 16 - 96 * 2)
    gate_and_up = 2 * 2 * 64 * (128 - 96) * 9 // 16
    saved = [estimate(request_of(config), "cpu").resident_bytes for config in (even, narrow)]
    assert saved[0] - saved[1] == down + gate_and_up


def test_an_adapter_weight_takes_12_bytes_with_its_optimizer_state() -> None:
    few, many = (request_of(tiny.LLAMA, batch_size=1, seq_length=2, lora_rank=r) for r in (8, 4096))
    weights = (4096 - 8) * 2 * ((64 + 64) + 2 * (64 + 32) + (64 + 64))
    for backend in BACKENDS:
        grown = estimate(many, backend).needed_bytes - estimate(few, backend).needed_bytes
        assert grown == pytest.approx(12 * weights, rel=0.05)


def test_the_estimate_uses_the_quantization_of_the_files() -> None:
    asked = estimate(request_of(tiny.LLAMA, quantization_bits=8), "cpu").resident_bytes
    coarse, fine = (
        request_of(
            {**tiny.LLAMA, "quantization": {"bits": 8, "group_size": size}},
            quantization_bits=8,
            group_size=size,
        )
        for size in (64, 32)
    )
    assert estimate(coarse, "cpu").resident_bytes == asked
    assert estimate(fine, "cpu").resident_bytes == asked + MATRICES // 64 * 4


def test_microscaling_takes_less_memory_than_affine_quantization() -> None:
    affine = request_of(tiny.LLAMA, group_size=32)
    micro = request_of(tiny.LLAMA, group_size=32, quantization_mode=QuantizationMode.MXFP4)
    spared = estimate(affine, "cpu").resident_bytes - estimate(micro, "cpu").resident_bytes
    assert spared == 3 * MATRICES // 32


def test_all_experts_are_resident_but_a_token_uses_only_some() -> None:
    experts = 2 * (8 * 3 * 64 * 96 + 64 * 8)
    dense = 2 * 3 * 64 * 128
    assert parameters(MIXTURE) == parameters(tiny.LLAMA) - dense + experts + 2 * 2 * 32
    fewer = {**MIXTURE, "num_experts_per_tok": 1}
    for backend in BACKENDS:
        two, one = (estimate(request_of(config), backend) for config in (MIXTURE, fewer))
        assert two.resident_bytes == one.resident_bytes
        assert two.needed_bytes > one.needed_bytes


def test_the_estimate_uses_the_text_part_of_a_multimodal_model() -> None:
    nested = {"model_type": "gemma3", "text_config": tiny.LLAMA}
    assert estimate(request_of(nested), "cpu") == estimate(request_of(tiny.LLAMA), "cpu")


def test_a_single_trained_layer_passes_no_gradients_on() -> None:
    one, two, three = (
        estimate(request_of({**tiny.LLAMA, "num_hidden_layers": 8}, lora_layers=n), "cpu")
        for n in (1, 2, 3)
    )
    grown = two.needed_bytes - one.needed_bytes
    assert grown > 2 * (three.needed_bytes - two.needed_bytes)


def test_other_backends_are_estimated_like_cuda() -> None:
    assert estimate(request(), "metal") == estimate(request(), "cuda") != estimate(request(), "cpu")


def test_an_invalid_config_cannot_be_estimated() -> None:
    with pytest.raises(UsageError, match="is invalid"):
        estimate(request_of({**tiny.LLAMA, "hidden_size": None}), "cuda")


@st.composite
def requests(draw: st.DrawFn) -> TrialRequest:
    heads = draw(st.sampled_from([1, 2, 8, 32, 64]))
    layers = draw(st.integers(2, 80))
    hidden = heads * draw(st.sampled_from([32, 64, 128]))
    config = {
        "model_type": draw(st.sampled_from(["llama", "qwen2", "qwen3", "gemma2", "phi3"])),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": hidden * draw(st.integers(1, 8)),
        "num_attention_heads": heads,
        "num_key_value_heads": 1,
        "vocab_size": draw(st.integers(256, 262144)),
        "tie_word_embeddings": draw(st.booleans()),
    }
    return request_of(
        config,
        quantization_bits=draw(st.sampled_from([None, 4, 8])),
        batch_size=draw(st.integers(1, 64)),
        lora_rank=draw(st.integers(1, 256)),
        lora_layers=draw(st.integers(1, layers - 1)),
        seq_length=draw(st.integers(2, 32768)),
        grad_checkpoint=draw(st.booleans()),
    )


@given(requests(), st.sampled_from(BACKENDS), st.integers(1, 64))
def test_a_larger_configuration_never_needs_less(
    trial: TrialRequest, backend: str, more: int
) -> None:
    needed = estimate(trial, backend)
    assert needed.resident_bytes < needed.needed_bytes < needed.run_ahead_bytes
    small = trial.configuration
    for larger in (
        replace(small, batch_size=small.batch_size + more),
        replace(small, lora_rank=small.lora_rank + more),
        replace(small, seq_length=small.seq_length + more),
        replace(small, lora_layers=small.lora_layers + 1),
    ):
        grown = estimate(replace(trial, configuration=larger), backend)
        assert grown.needed_bytes >= needed.needed_bytes


@pytest.mark.parametrize(
    ("preset", "backend", "share"),
    [
        ("llama-8b", "cuda", 0.15),
        ("hermes-70b", "cuda", 0.15),
        ("smoke-tiny", "cuda", 0.3),
        ("smoke-large", "cpu", 0.15),
        ("llama-8b", "cpu", 0.3),
        ("llama-8b", "metal", 0.3),
        ("smoke-tiny", "metal", 0.3),
    ],
)
def test_the_error_is_larger_outside_the_measured_range(
    preset: str, backend: str, share: float
) -> None:
    request = TrialRequest(ModelSource(all_presets()[preset].config), Configuration(), 1, 0)
    assert error_share(request, backend) == share


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


@pytest.mark.parametrize(("preset", "backend", "needed"), ALL_MODULES)
def test_adapters_on_all_modules_are_estimated(preset: str, backend: str, needed: float) -> None:
    options = TrainingOptions(**presets.training_of([preset]))
    (trial,) = plan([from_preset(all_presets()[preset])], options, 2**40)
    guess = estimate(trial.request, backend)
    assert guess.needed_bytes == pytest.approx(needed, rel=error_share(trial.request, backend))
