"""What is shared of a run, and that nothing else can get in."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import replace
from enum import Enum
from typing import Any

import msgspec
import pytest

from tests.support import builders
from tests.support.command import ROOT
from worker.protocol.configuration import ALL_KEYS, FineTuneType, Optimizer
from your_ai.errors import UsageError
from your_ai.models.presets import all_presets
from your_ai.runs.results import Results
from your_ai.runs.shared_measurements import (
    SharedDevice,
    SharedMeasurements,
    SharedSystem,
    SharedTrial,
    SharedVersions,
    write,
)
from your_ai.runs.sharing import is_plain, select
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.outcome import Outcome, OutcomeKind

SHA = "0123456789abcdef0123456789abcdef01234567"
SECRETS = [
    "/Users/alice/models/secret",
    r"C:\Users\alice",
    "~alice/models",
    "models/alice",
    "alice@example.com",
    "alices-macbook.local",
    "hf_aliceToken0123456789",
    "GPU-alice-3f2a9c1e-0000-4711-8899-aabbccddeeff",
    "alice",
    "Apple /Users/alice",
    "Apple M3 Pro\n/Users/alice",
    "3.11.7+alice",
    "6.8.0-alice-laptop",
    "2026-01-02 by alice",
    SHA + "alice",
]


def poisoned(value: Any, secret: str) -> Any:
    """Return a copy with ``secret`` in place of every text except the members of enums."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        return replace(value, **{name: poisoned(getattr(value, name), secret) for name in names})
    if isinstance(value, dict):
        return dict.fromkeys(value, secret) | {secret: secret}
    if isinstance(value, tuple):
        return tuple(poisoned(item, secret) for item in value)
    if value is None or (isinstance(value, str) and not isinstance(value, Enum)):
        return secret
    return value


def with_free_texts(secret: str) -> Results:
    """A benchmark and a search with ``secret`` wherever a text, or null, can be."""
    trial = builders.result()
    results = builders.results(builders.searched(trial, builders.result(batch(3))))
    wrong: Results = poisoned(results, secret)

    def with_numbers(bad: TrialResult, good: TrialResult) -> TrialResult:
        sizes = {
            field.name: getattr(good, field.name)
            for field in dataclasses.fields(good)
            if field.name.endswith(("_bytes", "_gb", "per_second", "memory"))
        }
        configuration = replace(bad.config, quantization_bits=4, lora_keys=ALL_KEYS)
        return replace(bad, **sizes, config=replace(configuration, optimizer_config=()))

    (bad,), (good,) = wrong.results, results.results
    assert bad.optimal_config is not None
    assert good.optimal_config is not None
    pairs = zip(bad.optimal_config.all_results, good.optimal_config.all_results, strict=True)
    search = replace(bad.optimal_config, all_results=tuple(with_numbers(*each) for each in pairs))
    device = replace(wrong.device, backend="metal", working_set_bytes=27 * 2**30)
    entry = replace(with_numbers(bad, good), optimal_config=search)
    return replace(wrong, device=device, results=(entry,))


def batch(size: int) -> Any:
    return builders.trial(batch_size=size)


@pytest.mark.parametrize("secret", SECRETS)
def test_no_free_text_of_the_results_is_shared(secret: str) -> None:
    results = with_free_texts(secret)
    assert results.run_dir == results.results[0].evidence == results.device.name == secret
    content = write(select(results).document).decode()
    assert "alice" not in content.lower()
    assert len(json.loads(content)["trials"]) == 2


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "settings",
    [
        lambda secret: {"lora_keys": (secret,)},
        lambda secret: {"lora_keys": ("self_attn.q_proj", secret)},
        lambda secret: {"lora_keys": ("attention", secret)},
        lambda secret: {"optimizer_config": (secret,)},
        lambda secret: {"optimizer_config": (f"{secret}=1",)},
        lambda secret: {"optimizer_config": (f'eps="{secret}"',)},
        lambda secret: {"optimizer_config": (f"eps={secret}",)},
    ],
)
def test_a_trial_with_free_text_in_its_settings_is_left_out(settings: Any, secret: str) -> None:
    trial = builders.result()
    private = builders.result(builders.trial(2, "other"))
    private = replace(private, config=replace(private.config, **settings(secret)))
    selection = select(builders.results(trial, private))
    assert (len(selection.document.trials), selection.left_out) == (1, 1)
    assert "alice" not in write(selection.document).decode().lower()
    with pytest.raises(UsageError, match="settings without free text"):
        select(builders.results(private))


@pytest.mark.parametrize(
    "changed",
    [
        {"lora_keys": ("self_attn.q_proj", "mlp.down_proj")},
        {"lora_keys": (), "fine_tune_type": FineTuneType.FULL, "lora_rank": 0},
        {"optimizer_config": ("betas=[0.9, 0.99]", "eps=1e-08", "bias_correction=true")},
        {"optimizer": Optimizer.ADAFACTOR, "optimizer_config": ("beta_1=null",)},
    ],
)
def test_settings_that_mlx_defines_are_shared(changed: dict[str, Any]) -> None:
    assert is_plain(replace(builders.PLAIN, **changed))


def test_an_unknown_backend_is_not_written() -> None:
    results = builders.results(builders.result())
    results = replace(results, device=replace(results.device, backend="/Users/alice"))
    with pytest.raises(UsageError, match=r"cannot be shared: .*\$\.device\.backend"):
        write(select(results).document)


def test_what_an_estimate_needs_is_shared() -> None:
    trial = builders.result(builders.trial(batch_size=3), weights_bytes=4 * 2**30)
    results = builders.results(trial)
    document = select(results).document
    assert msgspec.json.decode(write(document), type=SharedMeasurements) == document
    assert str(document.date) == "2026-01-02"
    assert document.device == SharedDevice(
        backend="metal", name="Apple M3 Pro", memory_bytes=36 * 2**30, working_set_bytes=27 * 2**30
    )
    assert document.system == SharedSystem(name="macOS", release="26.1")
    assert document.versions == SharedVersions(python=None, mlx="0.32.4", mlx_lm=None)
    assert document.budget_bytes == results.budget_bytes
    (shared,) = document.trials
    assert shared.configuration == trial.config.configuration
    assert shared.configuration.batch_size == 3
    assert shared.parameters == 7_000_000_000
    assert shared.resident_bytes == shared.weights_bytes == 4 * 2**30
    assert (shared.needed_bytes, shared.peak_bytes) == (6 * 2**30, 7 * 2**30)
    assert (shared.needed_limit_bytes, shared.limit_bytes) == (4 * 2**30, 8 * 2**30)
    assert shared.tokens_per_second == trial.tokens_per_second
    assert shared.tokens_per_second_at_needed == trial.tokens_per_second_at_needed_memory


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("0.32.4", "0.32.4"),
        ("0.33.0rc1", "0.33.0rc1"),
        ("0.33.0.dev20261130+abc123", "0.33.0.dev20261130"),
        ("unknown", None),
    ],
)
def test_versions_have_no_local_part(text: str, shared: str | None) -> None:
    results = builders.results(builders.result())
    device = replace(results.device, versions={"python": text, "mlx": text, "mlx-lm": text})
    document = select(replace(results, device=device, your_ai_version=text)).document
    assert document.your_ai_version == shared
    assert document.versions == SharedVersions(python=shared, mlx=shared, mlx_lm=shared)


@pytest.mark.parametrize(
    ("preset", "model_name", "revision", "shared"),
    [
        ("llama-8b", all_presets()["llama-8b"].model_name, None, True),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B", SHA, True),
        ("models/alice", "models/alice", None, False),
        ("alice", "/Users/alice/models/alice", None, False),
        ("llama-8b", "/Users/alice/llama-8b", None, False),
        ("alice", "/Users/alice/models/alice", SHA, False),
    ],
)
def test_only_hub_ids_are_shared(
    preset: str, model_name: str, revision: str | None, shared: bool
) -> None:
    trial = builders.result(preset=preset, model_name=model_name, revision=revision)
    selection = select(builders.results(trial))
    assert selection.document.trials[0].model_name == (model_name if shared else None)
    assert selection.model_names == ([model_name] if shared else [])
    assert selection.unnamed == (not shared)


def test_only_trials_that_loaded_their_model_are_shared() -> None:
    ran = builders.result()
    skipped = builders.result(outcome=Outcome(OutcomeKind.SKIPPED, "too large"))
    interrupted = replace(ran, outcome=OutcomeKind.INTERRUPTED)
    out_of_memory = replace(ran, outcome=OutcomeKind.OOM, needed_memory_bytes=None)
    document = select(builders.results(ran, skipped, interrupted, out_of_memory)).document
    assert [trial.outcome for trial in document.trials] == ["pass", "oom"]
    with pytest.raises(UsageError, match="loaded a model"):
        select(builders.results(skipped, interrupted))


def test_the_trials_of_a_search_are_shared_once() -> None:
    found = builders.searched(builders.result(batch(2)), builders.result(batch(3)))
    trials = select(builders.results(found)).document.trials
    assert [trial.configuration.batch_size for trial in trials] == [2, 3]


def test_every_field_is_documented() -> None:
    text = (ROOT / "docs/measurements/README.md").read_text(encoding="utf-8")
    documented = {name for names in re.findall(r"`([\w.]+)`", text) for name in names.split(".")}
    types = (SharedMeasurements, SharedDevice, SharedSystem, SharedVersions, SharedTrial)
    names = {field.name for each in types for field in dataclasses.fields(each)}
    assert names - documented == set()
