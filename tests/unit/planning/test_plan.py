"""The plan: the order of trials, refused options, skipped trials, and quantization."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import CONFIG, model, trial
from worker.protocol.configuration import (
    ALL_KEYS,
    Configuration,
    FineTuneType,
    Optimizer,
    QuantizationMode,
    Weights,
)
from worker.protocol.requests import ModelSource, TrialRequest
from your_ai.errors import UsageError
from your_ai.models import presets, resolve
from your_ai.planning.plan import TrainingOptions, Trial, plan, reason_to_skip
from your_ai.units import parameters_of

BUDGET = 8 * 2**30
STORED_4 = {**CONFIG, "quantization": {"bits": 4, "group_size": 64}}


def planned(config: dict[str, Any], options: TrainingOptions) -> Trial:
    (only,) = plan([model(config=config)], options, BUDGET)
    return only


def test_trials_are_sorted_by_size_and_stable() -> None:
    named = [("d", "70B"), ("b", "8B"), ("a", "7B"), ("c", "8B"), ("e", "350M")]
    trials = plan([model(n, p) for n, p in named], TrainingOptions(), BUDGET)
    assert [t.model.name for t in trials] == ["e", "a", "b", "c", "d"]
    assert [t.index for t in trials] == [1, 2, 3, 4, 5]


def test_the_default_suite_runs_in_the_order_of_its_file() -> None:
    suite = presets.suite("default")
    trials = plan([resolve.from_preset(p) for p in suite.presets], TrainingOptions(), BUDGET)
    assert [t.model.name for t in trials] == [
        "hermes-mistral-7b",
        "dolphin-8b",
        "llama-8b",
        "r1-distill-14b",
        "hermes-70b",
    ]
    assert {t.configuration.lora_layers for t in trials} == {16}


@given(st.lists(st.integers(1, 999), max_size=8))
def test_every_model_has_one_trial(sizes: list[int]) -> None:
    given_models = [model(f"m{i}", f"{size}M") for i, size in enumerate(sizes)]
    trials = plan(given_models, TrainingOptions(), BUDGET)
    assert sorted(t.model.name for t in trials) == sorted(m.name for m in given_models)
    assert [t.index for t in trials] == list(range(1, len(sizes) + 1))
    ordered = [parameters_of(t.model.params) for t in trials]
    assert ordered == sorted(ordered)


def test_the_request_has_the_given_options() -> None:
    options = TrainingOptions(3, 8, 1, 99, 7, quantize="8", grad_checkpoint=False)
    asked = Configuration(
        *(Weights.SYNTHETIC, 8, 3, 8, 1, 99, False),
        lora_keys=ALL_KEYS,
        optimizer=Optimizer.ADAM,
    )
    assert planned(CONFIG, options).request == TrialRequest(ModelSource(CONFIG), asked, 7, BUDGET)


@pytest.mark.parametrize(("has", "trained"), [(1, 1), (15, 15), (16, 16), (32, 16)])
def test_up_to_16_layers_are_trained_by_default(has: int, trained: int) -> None:
    (only,) = plan([model(layers=has)], TrainingOptions(), BUDGET)
    assert only.configuration.lora_layers == trained


def test_more_layers_than_a_model_has_are_refused() -> None:
    assert planned(CONFIG, TrainingOptions(lora_layers=2)).configuration.lora_layers == 2
    with pytest.raises(UsageError, match=r"3 layers of tiny, .* at most 2"):
        planned(CONFIG, TrainingOptions(lora_layers=3))


def test_a_longer_sequence_than_a_model_takes_is_refused() -> None:
    assert planned(CONFIG, TrainingOptions(seq_length=2048)).configuration.seq_length == 2048
    with pytest.raises(UsageError, match=r"2049 tokens .* tiny.* at most 2048"):
        planned(CONFIG, TrainingOptions(seq_length=2049))


def test_without_a_declared_maximum_any_sequence_length_is_allowed() -> None:
    config = {key: value for key, value in CONFIG.items() if key != "max_position_embeddings"}
    assert planned(config, TrainingOptions(seq_length=10**6)).configuration.seq_length == 10**6


def test_the_text_part_limits_the_sequence_length() -> None:
    config = {"model_type": "x", "text_config": {"max_position_embeddings": 100}}
    with pytest.raises(UsageError, match="at most 100"):
        planned(config, TrainingOptions(seq_length=101))


@pytest.mark.parametrize("weights", list(Weights))
@pytest.mark.parametrize(
    ("asked", "bits"), [(None, 4), ("4", 4), ("8", 8), ("none", None), ("mxfp8", 8)]
)
def test_an_unquantized_model_is_quantized_as_requested(
    asked: str | None, bits: int | None, weights: Weights
) -> None:
    found = planned(CONFIG, TrainingOptions(quantize=asked, weights=weights))
    assert (found.request.model.config, found.configuration.quantization_bits) == (CONFIG, bits)


@pytest.mark.parametrize("weights", list(Weights))
@pytest.mark.parametrize("asked", [None, "4"])
def test_a_quantized_model_keeps_its_quantization(asked: str | None, weights: Weights) -> None:
    found = planned(STORED_4, TrainingOptions(quantize=asked, weights=weights))
    assert (found.request.model.config, found.configuration.quantization_bits) == (STORED_4, 4)


@pytest.mark.parametrize(("asked", "bits"), [("8", 8), ("none", None)])
def test_synthetic_weights_can_have_another_quantization(asked: str, bits: int | None) -> None:
    found = planned(STORED_4, TrainingOptions(quantize=asked))
    assert (found.request.model.config, found.configuration.quantization_bits) == (CONFIG, bits)
    assert "quantization" in STORED_4


@pytest.mark.parametrize("asked", ["8", "none", "mxfp4"])
def test_real_weights_cannot_have_another_quantization(asked: str) -> None:
    with pytest.raises(UsageError, match=f"--quantize {asked} is not possible: tiny"):
        planned(STORED_4, TrainingOptions(quantize=asked, weights=Weights.REAL))


FOREIGN = {**CONFIG, "quantization_config": {"quant_method": "gptq", "bits": 8}}


@pytest.mark.parametrize("weights", list(Weights))
def test_a_quantization_in_another_format_is_refused(weights: Weights) -> None:
    with pytest.raises(UsageError, match=r"Convert the model with `mlx_lm\.convert`"):
        planned(FOREIGN, TrainingOptions(weights=weights))


@pytest.mark.parametrize("key", ["quantization", "quantization_config"])
@pytest.mark.parametrize("weights", list(Weights))
def test_a_quantization_of_null_means_none(key: str, weights: Weights) -> None:
    found = planned({**CONFIG, key: None}, TrainingOptions(weights=weights))
    assert found.configuration.quantization_bits == 4


def test_synthetic_weights_do_not_depend_on_the_format_of_the_files() -> None:
    assert planned(FOREIGN, TrainingOptions(quantize="8")).configuration.quantization_bits == 8


def test_larger_models_are_skipped_after_an_oom() -> None:
    larger, reason = trial(3, "large", "70B"), "larger than mid, which ran out of memory"
    assert reason_to_skip(larger, [trial(2, "mid", "8B")]) == reason
    assert reason_to_skip(larger, []) is None


@pytest.mark.parametrize("params", ["8B", "7B", "350M"])
def test_models_that_are_not_larger_still_run(params: str) -> None:
    assert reason_to_skip(trial(2, "other", params), [trial(1, "mid", "8B")]) is None


def test_the_microscaling_formats_of_other_programs_are_kept() -> None:
    """As mlx-lm keeps them, for example in openai/gpt-oss-20b."""
    config = {**CONFIG, "quantization_config": {"quant_method": "mxfp4"}}
    found = planned(config, TrainingOptions()).configuration
    mxfp4 = (4, QuantizationMode.MXFP4, 32)
    assert (found.quantization_bits, found.quantization_mode, found.group_size) == mxfp4


@pytest.mark.parametrize(("layers", "trained"), [(-1, 2), (None, 2), (1, 1)])
def test_minus_one_means_all_layers(layers: int | None, trained: int) -> None:
    assert planned(CONFIG, TrainingOptions(lora_layers=layers)).configuration.lora_layers == trained


FULL = TrainingOptions(fine_tune_type=FineTuneType.FULL)


def test_full_fine_tuning_has_no_adapters_and_no_quantization() -> None:
    found = planned(CONFIG, FULL).configuration
    assert (found.lora_rank, found.lora_keys, found.quantization_bits) == (0, (), None)
    assert found.capacity == found.batch_size * found.lora_layers


def test_full_fine_tuning_of_quantized_weights_is_refused() -> None:
    for config, options in ((STORED_4, FULL), (CONFIG, replace(FULL, quantize="8"))):
        with pytest.raises(UsageError, match="Full fine-tuning cannot train quantized weights"):
            planned(config, options)
    assert planned(STORED_4, replace(FULL, quantize="none")).configuration.quantization_bits is None


STORED_8 = {**CONFIG, "quantization": {"bits": 8, "group_size": 64}}


def test_a_group_size_alone_keeps_the_format() -> None:
    found = planned(STORED_8, TrainingOptions(group_size=32)).configuration
    assert (found.quantization_bits, found.group_size) == (8, 32)
    with pytest.raises(UsageError, match="--group-size has no effect: the weights are unquantized"):
        planned(CONFIG, TrainingOptions(group_size=32, default_quantize="none"))
    with pytest.raises(UsageError, match="--group-size has no effect"):
        planned(CONFIG, replace(FULL, group_size=32))


@pytest.mark.parametrize("name", ["none", "2", "4", "8", "mxfp4", "nvfp4"])
def test_a_preset_has_the_bytes_of_each_quantization(name: str) -> None:
    preset = presets.all_presets()["llama-8b"]
    (only,) = plan([resolve.from_preset(preset)], TrainingOptions(quantize=name), BUDGET)
    assert only.weights_bytes == preset.weights_bytes[name]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("llama-8b", TrainingOptions(group_size=32)),
        ("gpt-oss-20b", TrainingOptions(quantize="4")),
    ],
)
def test_a_preset_does_not_have_the_bytes_of_other_weights(
    name: str, options: TrainingOptions
) -> None:
    preset = resolve.from_preset(presets.all_presets()[name])
    (only,) = plan([preset], options, 1)
    assert (only.weights_bytes, only.is_too_large) == (0, False)
    (probed,) = plan([replace(preset, weights_bytes=99)], options, 1)
    assert (probed.weights_bytes, probed.is_too_large) == (99, True)


def test_weights_of_exactly_the_budget_are_not_too_large() -> None:
    for budget, is_too_large in ((1000, False), (999, True)):
        (only,) = plan([model(weights_bytes=1000)], TrainingOptions(), budget)
        assert only.is_too_large is is_too_large


@pytest.mark.parametrize(("path", "is_too_large"), [(None, True), ("/model", False)])
def test_real_weights_in_a_folder_are_left_to_the_worker(
    path: str | None, is_too_large: bool
) -> None:
    """Their files may differ from the config. Those on the Hub have not been downloaded yet."""
    real = TrainingOptions(weights=Weights.REAL)
    (only,) = plan([model(weights_bytes=1000, path=path)], real, 999)
    assert only.is_too_large is is_too_large
