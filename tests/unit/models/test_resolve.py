"""Resolving a model's name: a preset, a folder, or an id whose config is cached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import CONFIG, model, probed
from worker.protocol.configuration import Configuration
from worker.protocol.messages import ModelFacts
from your_ai.errors import UsageError
from your_ai.models import presets, resolve
from your_ai.models.quantization import named

SHA = "0123456789abcdef0123456789abcdef01234567"


def make_folder(folder: Path, config: object = CONFIG) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


@pytest.mark.parametrize("name", list(presets.all_presets()))
def test_a_preset_is_found_by_name(name: str) -> None:
    found = resolve.find(name)
    preset = presets.all_presets()[name]
    assert (found.name, found.model_name, found.params) == (name, preset.model_name, preset.params)
    assert (found.path, found.is_preset) == (None, True)


def test_a_preset_takes_precedence_over_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path / "llama-8b")
    monkeypatch.chdir(tmp_path)
    assert resolve.find("llama-8b").is_preset
    assert resolve.find("./llama-8b").path == str(tmp_path / "llama-8b")


def test_a_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "my model")
    found = resolve.find(str(folder))
    assert found == resolve.Model("my model", str(folder), "", CONFIG, path=str(folder))
    assert found.max_seq_length == 2048
    assert found.stored is None


def test_a_folder_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = make_folder(tmp_path / "model")
    assert resolve.find("~/model").path == str(folder)


def test_a_relative_path_resolves_to_the_folders_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path / "model")
    monkeypatch.chdir(folder)
    assert resolve.find(".").name == "model"


def test_a_symbolic_link_to_a_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model")
    (tmp_path / "link").symlink_to(folder)
    assert resolve.find(str(tmp_path / "link")).path == str(folder)


def test_the_bits_of_a_quantized_model_are_found(tmp_path: Path) -> None:
    config = {**CONFIG, "quantization": {"bits": 8, "group_size": 64}}
    assert resolve.find(str(make_folder(tmp_path / "q8", config))).stored == named("8")


def test_a_config_may_contain_infinity(tmp_path: Path) -> None:
    text = json.dumps({**CONFIG, "time_step_limit": [0.0, float("inf")]})
    assert "Infinity" in text
    config = resolve.find(str(make_folder(tmp_path / "mamba", text))).config
    assert config["time_step_limit"] == [0.0, float("inf")]


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ([], "has no model_type"),
        ("null", "has no model_type"),
        ({}, "has no model_type"),
        ({"vocab_size": 512}, "has no model_type"),
        ({"model_type": "llama"}, "has no valid vocab_size"),
        ({**CONFIG, "vocab_size": 0}, "has no valid vocab_size"),
        ({**CONFIG, "vocab_size": -512}, "has no valid vocab_size"),
        ({**CONFIG, "vocab_size": True}, "has no valid vocab_size"),
        ({**CONFIG, "vocab_size": "512"}, "has no valid vocab_size"),
        ({"model_type": "x", "text_config": "x"}, "has no valid vocab_size"),
        ({**CONFIG, "quantization": {}}, "quantization without valid bits"),
        ({**CONFIG, "quantization": {"bits": 4}}, "quantization without valid bits"),
        ({**CONFIG, "quantization": 4}, "quantization without valid bits"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_invalid_config_is_refused(tmp_path: Path, config: object, complaint: str) -> None:
    folder = make_folder(tmp_path / "model", config)
    with pytest.raises(UsageError, match=complaint) as refused:
        resolve.find(str(folder))
    assert "\n" not in str(refused.value)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = ("model_type", "vocab_size", "text_config", "quantization", "max_position_embeddings")


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_every_config_is_accepted_or_refused(
    tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]
) -> None:
    folder = make_folder(tmp_path_factory.mktemp("model"), {**CONFIG, **config})
    try:
        found = resolve.find(str(folder))
    except UsageError:
        return
    assert found.max_seq_length is None or isinstance(found.max_seq_length, int)


def test_a_model_that_requires_its_own_code_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model", {**CONFIG, "model_file": "model.py"})
    with pytest.raises(UsageError, match=r"requires the model's own code") as no:
        resolve.find(str(folder))
    assert "\n" not in str(no.value)


def test_an_auto_map_that_mlx_lm_does_not_need_is_ignored(tmp_path: Path) -> None:
    """Phi-3 and Qwen have one, for example, and mlx-lm implements these models."""
    own = {"auto_map": {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}}
    folder = make_folder(tmp_path / "model", {**CONFIG, **own, "model_file": None})
    found = resolve.find(str(folder))
    assert resolve.with_facts(found, {found.model_name: FACTS}).layers == FACTS.layers


def test_an_auto_map_that_would_be_needed_is_reported(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model", {**CONFIG, "auto_map": {"AutoModel": "own.Model"}})
    found = resolve.find(str(folder))
    with pytest.raises(
        UsageError, match=r"not supported\. The model's own code \(auto_map\) is never ru"
    ):
        resolve.with_facts(found, {found.model_name: "Model type own not supported."})


def test_local_and_pinned_models_are_not_looked_up(tmp_path: Path) -> None:
    folder = resolve.find(str(make_folder(tmp_path / "model")))
    assert resolve.pinned(folder) is folder
    known = replace(model(), revision=SHA)
    assert resolve.pinned(known) is known


def test_a_multimodal_model_has_the_facts_of_its_text_part(tmp_path: Path) -> None:
    text = {"vocab_size": 100, "max_position_embeddings": 64}
    folder = make_folder(tmp_path / "vlm", {"model_type": "vlm", "text_config": text})
    assert resolve.find(str(folder)).max_seq_length == 64


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(UsageError, match=r"has no config\.json"):
        resolve.find(str(tmp_path))


def test_a_file_is_refused(tmp_path: Path) -> None:
    file = make_folder(tmp_path) / "config.json"
    with pytest.raises(UsageError, match="is a file"):
        resolve.find(str(file))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("hermes-mistral", "hermes-mistral-7b"),
        ("llama8b", "llama-8b"),
        ("Smoke-Tiny", "smoke-tiny"),
        ("hermes70b", "hermes-70b"),
    ],
)
def test_similar_presets_are_suggested_for_an_unknown_name(name: str, near: str) -> None:
    with pytest.raises(
        UsageError, match=rf"Unknown model '{name}'\. Did you mean .*{near}"
    ) as refused:
        resolve.find(name)
    assert sum(preset in str(refused.value) for preset in presets.all_presets()) <= 3


@pytest.mark.parametrize("name", ["zzz", "", "x" * 300, "a b", "\n", "ü"])
def test_no_preset_is_suggested_for_a_dissimilar_name(name: str) -> None:
    with pytest.raises(UsageError, match="Unknown model") as refused:
        resolve.find(name)
    assert not any(preset in str(refused.value) for preset in presets.all_presets())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["/models/llama-8b", "~nosuchuser", "./models/llama-8b", "a/b/c", "a/"]
)
def test_a_missing_folder_gets_no_suggestion(name: str) -> None:
    with pytest.raises(UsageError, match=rf"folder '{name}' does not exist") as refused:
        resolve.find(name)
    assert "Did you mean" not in str(refused.value)


@pytest.mark.parametrize("name", ["a--b/c", "./missing", "-a/b", "ü/ö", "a/" + "b" * 100])
def test_an_invalid_hub_id_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="nor a valid Hub model id") as refused:
        resolve.find(name)
    assert "\n" not in str(refused.value)


FIND = """
import sys
from your_ai.models import resolve
from your_ai.errors import YourAIError
try:
    found = resolve.find(sys.argv[1])
    print(found.name, found.model_name, found.path, found.config["vocab_size"], found.revision)
except YourAIError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def find_in_cache(cache: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Run `resolve.find` in a new process, because the location of the cache is fixed at import."""
    environment = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    return subprocess.run(
        [sys.executable, "-c", FIND, name],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_cached_model_is_found_offline(tmp_path: Path) -> None:
    make_folder(tmp_path / "hub" / "models--org--name" / "snapshots" / SHA)
    found = find_in_cache(tmp_path, "org/name")
    assert found.returncode == 0, found.stderr
    assert found.stdout == f"org/name org/name None 512 {SHA}\n"


def test_a_model_that_is_not_cached_cannot_be_found_offline(tmp_path: Path) -> None:
    answer = find_in_cache(tmp_path, "org/name")
    assert answer.returncode == 3
    assert answer.stdout.startswith("Cannot get org/name from the Hub (HF_HUB_OFFLINE is set)")
    assert answer.stdout.count("\n") == 1
    assert answer.stderr == ""


FACTS = ModelFacts(1_543_714_304, 1000, 28, ("q", "k", "v", "o"), False, 868_628_480)


def test_a_probe_completes_a_model() -> None:
    unprobed = model(params="", layers=0)
    probed = resolve.with_facts(unprobed, {unprobed.model_name: FACTS})
    assert (probed.params, probed.layers, probed.note) == ("1.5B", 28, None)
    assert probed.weights_bytes == FACTS.weights_bytes


@pytest.mark.parametrize("note", [None, "The cache may be outdated."])
def test_a_note_says_what_is_trained_without_attention(note: str | None) -> None:
    facts = ModelFacts(1000, 10, 2, ("mixer.in_proj",), lacks_attention=True, weights_bytes=99)
    found = resolve.with_facts(model(note=note), {"org/tiny": facts}).note
    trained = "tiny has no attention, so LoRA trains its other linear layers."
    assert found == (f"{note} {trained}" if note else trained)


def test_mlx_lms_error_is_quoted_in_one_line() -> None:
    problem = "Model type nonesuch not supported. Choose another model\nand a second line"
    with pytest.raises(UsageError) as refused:
        resolve.with_facts(model(), {"org/tiny": problem})
    assert str(refused.value) == (
        "mlx-lm cannot train tiny: Model type nonesuch not supported. Choose another model."
    )


def test_a_probe_of_the_memory_completes_a_model() -> None:
    memory = probed(model()).memory
    facts = {"org/tiny": replace(FACTS, memory=memory)}
    found = resolve.with_facts(model(layers=0, parameters=0), facts)
    assert (found.memory, found.parameters) == (memory, FACTS.parameters)
    assert resolve.with_facts(model(), {"org/tiny": FACTS}).memory is None


def test_a_preset_needs_no_probe() -> None:
    published = presets.all_presets()["hermes-70b"]
    preset = resolve.from_preset(published)
    assert (preset.layers, preset.parameters) == (80, published.parameters)
    assert resolve.with_facts(preset, {}) == preset


def test_the_weights_are_those_of_the_probe_or_of_the_presets_quantization() -> None:
    four_bits = Configuration(quantization_bits=4)
    published = presets.all_presets()["hermes-70b"]
    preset = resolve.from_preset(published)
    assert preset.weights_in(four_bits) == published.weights_bytes["4"]
    assert preset.weights_in(replace(four_bits, group_size=32)) == 0
    assert model().weights_in(four_bits) == 0
    assert replace(preset, weights_bytes=99).weights_in(four_bits) == 99
