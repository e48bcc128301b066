"""The presets: their known facts, and labels that match their shapes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlx_lm.models.switch_layers import QuantizedSwitchLinear

from tests.support.command import ROOT
from worker import weights
from worker.protocol.configuration import Configuration
from worker.protocol.requests import ModelSource
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
CURRENT = {
    # Without the towers for images and audio, and the keys and values that mlx-lm shares.
    "gemma-4-e4b": ("google/gemma-4-E4B-it", "7.5B", 7_463_013_418),
    "qwen3-8b": ("Qwen/Qwen3-8B", "8B", 8_190_735_360),
    "qwen3.5-9b": ("Qwen/Qwen3.5-9B", "9B", 8_953_803_264),
    "gpt-oss-20b": ("openai/gpt-oss-20b", "20B", 20_914_757_184),
    "qwen3.6-27b": ("Qwen/Qwen3.6-27B", "27B", 26_895_998_464),
    "llama-3.3-70b": ("meta-llama/Llama-3.3-70B-Instruct", "70B", 70_553_706_496),
}
SMOKE = ["smoke-tiny", "smoke-small", "smoke-medium", "smoke-large"]


@pytest.mark.parametrize(("name", "expected"), [("default", DEFAULT), ("current", CURRENT)])
def test_a_suite_has_its_presets_in_order(name: str, expected: dict[str, object]) -> None:
    found = {p.name: (p.model_name, p.params, p.parameters) for p in suite(name).presets}
    assert found == expected
    assert list(found) == list(expected)


def test_current_presets_say_where_their_config_was_published() -> None:
    for preset in suite("current").presets:
        assert preset.source == f"https://huggingface.co/{preset.model_name}/blob/main/config.json"


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


def test_the_facts_of_all_presets_are_those_of_the_models_that_mlx_lm_builds(
    tmp_path: Path,
) -> None:
    suites = sorted((ROOT / "your_ai/models/suites").glob("*.json"))
    for path in suites:
        document = json.loads(path.read_text())
        for preset in document["presets"].values():
            preset |= {"parameters": 0, "layers": 0, "weights_bytes": {}}
        (tmp_path / path.name).write_text(json.dumps(document))
    subprocess.run(
        [sys.executable, ROOT / "scripts/make-presets.py", tmp_path],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    for path in suites:
        assert (tmp_path / path.name).read_text() == path.read_text(), (
            "stale; run: .venv/bin/python scripts/make-presets.py"
        )


PUBLISHED = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        *("model.layers.*.self_attn", "model.layers.*.mlp.router"),
        *("model.embed_tokens", "lm_head"),
    ],
}
"""The quantization_config in the config.json of openai/gpt-oss-20b."""


@pytest.mark.parametrize("is_published", [False, True])
def test_gpt_oss_is_planned_as_mlx_lm_loads_it_with_mxfp4_experts_only(is_published: bool) -> None:
    preset = all_presets()["gpt-oss-20b"]
    config = dict(preset.config)
    if is_published:
        del config["quantization"]
        config["quantization_config"] = PUBLISHED
    model = weights.plan(ModelSource(config), Configuration(quantization_bits=4))
    quantized = [m for _, m in model.named_modules() if hasattr(m, "bits")]
    assert {(type(m), m.mode, m.group_size) for m in quantized} == {
        (QuantizedSwitchLinear, "mxfp4", 32)
    }
    assert len(quantized) == 3 * preset.layers
    # The total_size in the published model.safetensors.index.json.
    assert weights.total_bytes(model) == 13_761_264_768
    assert preset.weights_bytes == {"mxfp4": 13_761_264_768}


@pytest.mark.parametrize("preset", all_presets().values(), ids=lambda preset: preset.name)
def test_a_label_is_the_models_size(preset: presets.Preset) -> None:
    # Some publishers round down: 14.8 is called 14, 70.6 is called 70.
    labels = {parameter_label(preset.parameters), f"{preset.parameters // 10**9}B"}
    assert preset.params in {*labels, f"{preset.parameters / 1e9:.0f}B"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("LLAMA 3.3", ["llama-3.3-70b"]),
        ("qwen 27b", ["qwen3.6-27b"]),
        ("nousresearch", ["hermes-mistral-7b", "hermes-70b"]),
        ("smoke tiny", ["smoke-tiny"]),
        ("qwen llama", []),
        ("", list(all_presets())),
    ],
)
def test_presets_are_found_by_the_words_of_their_name_and_hub_id(
    text: str, names: list[str]
) -> None:
    assert [preset.name for preset in presets.matching(text)] == names


def test_presets_use_the_training_options_of_their_suite() -> None:
    assert presets.training_of(["smoke-tiny", "smoke-large"]) == suite("smoke").training
    assert presets.training_of(["smoke-tiny", "hermes-70b"]) == {}
    assert presets.training_of(["a-folder"]) == presets.training_of([]) == {}
