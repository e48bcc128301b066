"""Building a training request from a measured trial, and its expected cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import builders
from tests.support.builders import model, probed
from worker.protocol.configuration import FineTuneType, Optimizer, Weights
from worker.protocol.messages import ModelFacts
from worker.protocol.requests import ModelSource, PlannedModel, TrialRequest
from your_ai.errors import MachineError, UsageError
from your_ai.models.presets import all_presets
from your_ai.models.resolve import from_preset
from your_ai.planning.lora_config import LoraConfig, Schedule, read_config
from your_ai.planning.memory_estimate import estimate
from your_ai.planning.plan import TrainingOptions
from your_ai.runs.training_results import Expected
from your_ai.training import request as training_request_module
from your_ai.training.export import SAME_NAMES, as_yaml, lora_config, notes
from your_ai.training.request import (
    check_device,
    check_full,
    expect,
    fit,
    measured_options,
    training_request,
)
from your_ai.units import GB

MEASURED = builders.result()
MODEL = model(path="/model")
ASKED: dict[str, Any] = {
    "data": Path("/data"),
    "adapter_path": Path("/adapters"),
    "iters": 100,
    "seed": 3,
    "learning_rate": 1e-5,
    "mask_prompt": False,
    "val_batches": 25,
    "steps_per_eval": 200,
    "save_every": 100,
}


def fitted(**asked: Any) -> TrialRequest:
    return fit(MEASURED, MODEL, TrainingOptions(**{**measured_options(MEASURED), **asked}))


def test_the_measured_configuration_is_trained_with_real_weights() -> None:
    measured = MEASURED.config.configuration
    assert fitted().configuration == replace(measured, weights=Weights.REAL)


def test_options_override_the_measured_configuration() -> None:
    changed: dict[str, Any] = {"batch_size": 8, "lora_layers": 1, "grad_checkpoint": False}
    assert fitted(**changed).configuration == replace(fitted().configuration, **changed)
    with pytest.raises(UsageError, match="99"):
        fitted(lora_layers=99)


def test_the_request_has_the_measured_limit_and_the_options() -> None:
    request = training_request(MEASURED, fitted(), ASKED)
    assert request.model == ModelSource(MODEL.config, "/model")
    assert (request.limit_bytes, request.budget_bytes) == (8 * GB, 8 * GB)
    assert (request.data, request.adapter_path) == ("/data", "/adapters")
    assert (request.iters, request.seed, request.micro_batches) == (100, 3, 1)


def test_measured_limits_apply_only_to_the_same_device() -> None:
    device = builders.run().device
    check_device(MEASURED, device, device)
    with pytest.raises(UsageError, match=r"were measured on .*, but this machine has Apple M9 "):
        check_device(MEASURED, device, replace(device, name="Apple M9"))
    with pytest.raises(UsageError, match=r"a budget of 8\.0 GB, but .* has only 4\.0 GB"):
        check_device(MEASURED, device, replace(device, memory_bytes=4 * GB))


def test_the_same_configuration_is_expected_to_take_what_was_measured() -> None:
    seconds = 2048 / 2046
    found = expect(MEASURED, fitted(), MODEL, "cpu", 10)
    assert found == Expected(7 * GB, seconds, 10 * seconds, True)


Probe = Callable[[ModelFacts | None], list[PlannedModel]]


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    """Let a probe find these facts, or fail; return what it was asked."""

    def answering(facts: ModelFacts | None) -> list[PlannedModel]:
        asked = list[PlannedModel]()

        def find_facts(kinds: list[dict[str, PlannedModel]]) -> list[dict[str, ModelFacts]]:
            asked.extend(planned for kind in kinds for planned in kind.values())
            if facts is None:
                raise MachineError("MLX does not work.")
            return [dict.fromkeys(kind, facts) for kind in kinds]

        monkeypatch.setattr(training_request_module, "find_facts", find_facts)
        return asked

    return answering


PROBED = probed(MODEL)
FACTS = ModelFacts(139_584, 10, 2, (), False, PROBED.weights_bytes or 0, PROBED.memory)


def test_another_configuration_is_scaled_by_the_estimate(probe: Probe) -> None:
    asked = probe(FACTS)
    more = expect(MEASURED, fitted(batch_size=16), MODEL, "cpu", 10)
    assert not more.is_measured
    assert more.seconds_per_iteration == pytest.approx(8 * 2048 / 2046)
    before, after = (
        estimate(PROBED, fitted(batch_size=size).configuration, "cpu") for size in (2, 16)
    )
    assert before is not None
    assert after is not None
    assert more.peak_bytes == 6 * GB * after.needed_bytes // before.needed_bytes > 7 * GB
    assert expect(MEASURED, fitted(batch_size=1), MODEL, "cpu", 10).peak_bytes == 7 * GB
    assert [(each.config, each.memory_on) for each in asked] == [(MODEL.config, "cpu")] * 2


def test_another_kind_of_training_is_expected_to_take_what_is_estimated(probe: Probe) -> None:
    probe(FACTS)
    dora = fitted(fine_tune_type=FineTuneType.DORA, batch_size=1)
    guess = estimate(PROBED, dora.configuration, "cpu")
    assert guess is not None
    # 30% more than the estimate, which was not compared with measurements of DoRA.
    most = max(round(guess.needed_bytes * 1.3), guess.run_ahead_bytes)
    assert expect(MEASURED, dora, MODEL, "cpu", 10).peak_bytes == most


@pytest.mark.parametrize("facts", [None, replace(FACTS, memory=None)], ids=["failed", "untraced"])
def test_without_an_estimate_another_configuration_is_expected_to_take_up_to_the_budget(
    facts: ModelFacts | None, probe: Probe
) -> None:
    probe(facts)
    assert expect(MEASURED, fitted(batch_size=16), MODEL, "cpu", 10).peak_bytes == 8 * GB


def test_the_measured_configuration_and_presets_need_no_probe(probe: Probe) -> None:
    asked = probe(FACTS)
    expect(MEASURED, fitted(), MODEL, "cpu", 10)
    preset = from_preset(all_presets()["llama-8b"])
    expect(MEASURED, fitted(batch_size=16), preset, "cpu", 10)
    assert asked == []


def test_the_yaml_has_the_whole_configuration() -> None:
    import yaml

    request = training_request(MEASURED, fitted(), ASKED)
    config = lora_config(request, "org/a model: #1", 10, ["self_attn.q_proj"])
    text = as_yaml(config, ["a note"])
    assert text.startswith("# a note\n")
    assert yaml.safe_load(text) == config


def test_the_comments_say_what_the_yaml_cannot_express() -> None:
    request = training_request(MEASURED, fitted(), ASKED)
    said = "\n".join(notes(request, "org/tiny", "abc"))
    assert "set_memory_limit(8589934592)" in said
    assert "revision abc" in said
    assert "mlx_lm.convert --hf-path org/tiny -q --q-bits 4" in said
    stored = {**MODEL.config, "quantization": {"bits": 4, "group_size": 64}}
    quantized = replace(request, model=ModelSource(stored, "/model"))
    assert "mlx_lm.convert" not in "\n".join(notes(quantized, "org/tiny", None))


CONFIGS = [
    LoraConfig(),
    LoraConfig(lora_scale=10.0, lora_dropout=0.5, lora_rank=4, lora_keys=("a", "self_attn.q_proj")),
    LoraConfig(lr_schedule=Schedule("cosine_decay", (1e-5, 100, 1e-7), 10, 1e-6)),
    LoraConfig(optimizer=Optimizer.ADAMW, optimizer_config=("betas=[0.9, 0.98]", "eps=1e-06")),
    LoraConfig(fine_tune_type=FineTuneType.DORA, grad_checkpoint=True, grad_accumulation_steps=3),
    LoraConfig(fine_tune_type=FineTuneType.FULL, optimizer=Optimizer.ADAFACTOR, batch_size=2),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_an_exported_config_means_the_same_training(config: LoraConfig, tmp_path: Path) -> None:
    keys = config.lora_keys if config.lora_keys != ("all",) else ("mlp.up_proj",)
    asked = {**ASKED, "content": config}
    training = replace(config, num_layers=2, max_seq_length=64).training()
    plain = replace(MEASURED.config, quantization_bits=None)
    measured = replace(MEASURED, config=plain)
    options = TrainingOptions(**{**measured_options(measured), **training})
    request = training_request(measured, fit(measured, MODEL, options), asked)
    file = tmp_path / "lora.yaml"
    file.write_text(as_yaml(lora_config(request, "org/tiny", 10, keys), notes(request, "x", None)))
    found = read_config(file)
    c, is_full = request.configuration, config.fine_tune_type is FineTuneType.FULL
    assert replace(found.configuration(), lora_layers=2, weights=c.weights) == replace(
        c, lora_keys=() if is_full else tuple(sorted(keys))
    )
    assert (found.schedule(), found.model, found.data) == (config.schedule(), "org/tiny", "/data")
    if not is_full:
        assert found.lora_scale == request.lora_scale == config.lora_scale
    assert {name: getattr(found, name) for name in SAME_NAMES} == {n: ASKED[n] for n in SAME_NAMES}
    assert found.adapter_path == "/adapters"


def test_full_fine_tuning_of_what_was_measured_quantized_says_what_to_do() -> None:
    quantized = builders.result(builders.trial(quantization_bits=4))
    full = TrainingOptions(fine_tune_type=FineTuneType.FULL)
    with pytest.raises(UsageError, match=r"measured with 4-bit weights.*--fine-tune-type full"):
        check_full(quantized, full, MODEL)
    check_full(quantized, TrainingOptions(), MODEL)
