"""The presets: their known facts, and labels that match their shapes."""

from __future__ import annotations

import math

import pytest

from worker import probe
from worker.protocol.configuration import Configuration
from worker.protocol.requests import PlannedModel
from your_ai.models import presets
from your_ai.models.presets import SUITES, all_presets, suite
from your_ai.units import parameter_label, parameters_of

DEFAULT = {
    "hermes-mistral-7b": ("NousResearch/Hermes-2-Pro-Mistral-7B", "7B", 7_241_994_240),
    "dolphin-8b": ("cognitivecomputations/dolphin-2.9-llama3-8b", "8B", 8_030_277_632),
    "llama-8b": ("mlabonne/Meta-Llama-3.1-8B-Instruct-abliterated", "8B", 8_030_261_248),
    "r1-distill-14b": (
        "huihui-ai/DeepSeek-R1-Distill-Qwen-14B-abliterated-v2",
        "14B",
        14_770_033_664,
    ),
    "hermes-70b": ("NousResearch/Hermes-3-Llama-3.1-70B", "70B", 70_553_706_496),
}
SMOKE = ["smoke-tiny", "smoke-small", "smoke-medium", "smoke-large"]


def test_the_default_suite_has_the_five_presets_in_order() -> None:
    found = {p.name: (p.model_name, p.params) for p in suite("default").presets}
    assert found == {name: facts[:2] for name, facts in DEFAULT.items()}
    assert list(found) == list(DEFAULT)


def test_the_smoke_suite_has_at_least_four_tiny_unquantized_models() -> None:
    smoke = suite("smoke")
    assert [p.name for p in smoke.presets] == SMOKE
    assert smoke.training["quantize"] == "none"
    assert all(parameters_of(p.params) < 10e6 for p in smoke.presets)


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_is_sorted_by_size(name: str) -> None:
    sizes = [parameters_of(p.params) for p in suite(name).presets]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("name", ["", "nonesuch", "../presets/default"])
def test_an_unknown_suite_is_refused(name: str) -> None:
    with pytest.raises(KeyError):
        suite(name)


def test_preset_names_are_unique() -> None:
    assert len(all_presets()) == sum(len(suite(name).presets) for name in SUITES)


@pytest.mark.parametrize("name", [*DEFAULT, *SMOKE])
def test_the_model_that_mlx_lm_builds_has_the_labels_size(name: str) -> None:
    preset = presets.all_presets()[name]
    facts = probe.facts(PlannedModel(preset.config, Configuration()))
    assert facts.layers == preset.config["num_hidden_layers"]
    assert len(facts.lora_keys) == 4
    if name in DEFAULT:
        assert facts.parameters == DEFAULT[name][2]
        # Rounded down like the publishers do: 14.8 is called 14, 70.6 is called 70.
        billions = facts.parameters / 1e9
        assert preset.params in {f"{math.floor(billions)}B", f"{billions:.0f}B"}
    else:
        assert parameter_label(facts.parameters) == preset.params


def test_presets_use_the_training_options_of_their_suite() -> None:
    assert presets.training_of(["smoke-tiny", "smoke-large"]) == suite("smoke").training
    assert presets.training_of(["smoke-tiny", "hermes-70b"]) == {}
    assert presets.training_of(["a-folder"]) == presets.training_of([]) == {}
