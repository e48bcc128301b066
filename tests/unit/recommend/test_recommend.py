"""Forecasts from hand-made estimates and measurements."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from tests.support import builders
from tests.support.builders import PLAIN, model, request
from worker.protocol.configuration import (
    ATTENTION_KEYS,
    Configuration,
    FineTuneType,
    Optimizer,
    Weights,
)
from your_ai.files import to_json
from your_ai.models import presets
from your_ai.models.resolve import Model
from your_ai.planning.device import Device
from your_ai.planning.memory_estimate import Estimate
from your_ai.planning.plan import Trial
from your_ai.recommend import recommend
from your_ai.recommend.document import Context, document
from your_ai.recommend.history import Measurement
from your_ai.recommend.recommend import Forecast, Source, Unknown, Verdict
from your_ai.system.machine import Machine
from your_ai.units import GB, MB

MACHINE = Machine("Linux", "6.1", "x86_64", 16, 128 * GB, "3.11.7")
DEVICE = Device("cuda", "NVIDIA H200", 140 * GB, None, None, {"mlx": "0.32.4"})
CONTEXT = Context(DEVICE, "as told", 16 * GB, MACHINE, {})

# Every estimate is 4 GB resident, 2 GB for training, and 12 GB without a limit.
GUESS = Estimate(4 * GB, 6 * GB, 12 * GB)
PARAMETERS = model().parameters
CONFIGURATION = replace(PLAIN, quantization_bits=4, lora_layers=2)


UNTRACED = "qwen3.5-9b"
"""The only model without an estimate."""


@pytest.fixture(autouse=True)
def guess(monkeypatch: pytest.MonkeyPatch) -> None:
    def always(model: Model, _configuration: Configuration, _backend: str) -> Estimate | None:
        return GUESS if model.name != UNTRACED else None

    monkeypatch.setattr(recommend, "estimate", always)
    monkeypatch.setattr(recommend, "error_share", lambda _config, _backend: 0.15)


def trial(name: str = "tiny", params: str = "100K", budget: int = 16 * GB, **changed: Any) -> Trial:
    return Trial(1, model(name, params), request(budget_bytes=budget, **changed))


def measured(name: str = "tiny", **changed: Any) -> Measurement:
    """Return a measurement of the tiny model: 4 GB resident, and 1 GB more for training.

    That is half of the estimate for training.

    ``changed`` names fields of the measurement or of its configuration.
    """
    names = Configuration.__dataclass_fields__
    other = {key: changed.pop(key) for key in list(changed) if key in names}
    fields: dict[str, Any] = {
        "model_name": f"org/{name}",
        "configuration": replace(CONFIGURATION, **other),
        "parameters": PARAMETERS,
        "resident_bytes": 4 * GB,
        "needed_bytes": 5 * GB,
        "peak_bytes": 9 * GB,
        "budget_bytes": 16 * GB,
        **changed,
    }
    return Measurement(**fields)


def expected(*measurements: Measurement, budget: int = 16 * GB) -> Forecast:
    (line,) = recommend.forecasts([trial(budget=budget)], measurements, "cuda")
    return line


def test_a_model_is_estimated_without_history() -> None:
    found = expected()
    assert found.source is Source.ESTIMATED
    assert (found.needed_bytes, found.run_ahead_bytes) == (6 * GB, 12 * GB)
    assert (found.least_bytes, found.most_bytes) == (int(5.1 * GB), int(6.9 * GB))


def test_an_earlier_measurement_is_used() -> None:
    assert expected(measured()) == Forecast(
        trial(), Source.MEASURED, 5 * GB, 5 * GB, 5 * GB, run_ahead_bytes=9 * GB
    )


def test_the_newest_measurement_is_used() -> None:
    assert expected(measured(), measured(needed_bytes=7 * GB)).needed_bytes == 5 * GB


@pytest.mark.parametrize(
    "changed",
    [
        {"batch_size": 4},
        {"lora_rank": 32},
        {"lora_layers": 1},
        {"seq_length": 512},
        {"quantization_bits": 8},
        {"quantization_bits": None},
        {"grad_checkpoint": False},
        {"weights": Weights.REAL},
    ],
)
def test_another_configuration_corrects_the_estimate(changed: dict[str, Any]) -> None:
    found = expected(measured(**changed))
    assert found.source is Source.CORRECTED
    assert found.needed_bytes == 5 * GB  # 4 GB resident, and half of the 2 GB for training
    assert found.run_ahead_bytes == 11 * GB  # the 6 GB that MLX queues are not corrected
    assert (found.least_bytes, found.most_bytes) == (int(4.25 * GB), int(5.75 * GB))


def test_a_correction_reduces_the_error_of_an_unchecked_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recommend, "error_share", lambda _config, _backend: 0.3)
    assert expected().error_share == pytest.approx(0.3)
    assert expected(measured(batch_size=1)).error_share == pytest.approx(0.15)


@pytest.mark.parametrize(
    "changed",
    [
        {"lora_keys": ATTENTION_KEYS},
        {"lora_keys": ("self_attn.q_proj",)},
        {"optimizer": Optimizer.ADAMW},
        {"fine_tune_type": FineTuneType.DORA},
        {"grad_accumulation_steps": 2},
        {"lora_dropout": 0.1},
    ],
)
def test_another_kind_of_training_does_not_correct_the_estimate(changed: dict[str, Any]) -> None:
    assert expected(measured(batch_size=1)).source is Source.CORRECTED
    assert expected(measured(batch_size=1, **changed)).source is Source.ESTIMATED


@pytest.mark.parametrize("more", [-PARAMETERS // 2, -1, 1, PARAMETERS])
def test_a_folder_with_a_new_model_is_not_matched(more: int) -> None:
    found = expected(measured(parameters=PARAMETERS + more))
    assert found.source is Source.ESTIMATED


def test_the_correction_is_the_median_of_the_same_models_measurements() -> None:
    past = [
        measured(seq_length=length, needed_bytes=4 * GB + above)
        for length, above in ((128, 1 * GB), (256, 3 * GB), (512, 100 * GB))
    ]
    assert expected(*past).needed_bytes == 7 * GB


def lines_of_two(*measurements: Measurement) -> list[Forecast]:
    """Return the forecasts for the tiny model, and for the same model under another name."""
    return recommend.forecasts([trial(), trial("other")], measurements, "cuda")


def test_another_model_of_comparable_size_corrects_the_estimate() -> None:
    first, second = lines_of_two(measured("other"))
    assert first.source is Source.CORRECTED
    assert first.needed_bytes == 5 * GB
    assert second.source is Source.MEASURED


def test_measurements_of_the_same_model_take_precedence() -> None:
    own = measured(batch_size=1, needed_bytes=8 * GB)
    assert lines_of_two(measured("other"), own)[0].needed_bytes == 8 * GB


@pytest.mark.parametrize("params", ["3K", "3M", "7B"])
def test_a_model_of_a_very_different_size_does_not_correct_the_estimate(params: str) -> None:
    found = recommend.forecasts([trial(params=params), trial("other")], [measured("other")], "cuda")
    assert found[0].source is Source.ESTIMATED


def test_a_measured_preset_corrects_other_models() -> None:
    tiny = presets.all_presets()["smoke-tiny"]
    past = measured(model_name=tiny.model_name, parameters=tiny.parameters)
    assert expected(past).source is Source.CORRECTED


def test_a_measured_preset_that_cannot_be_estimated_corrects_nothing() -> None:
    hybrid = presets.all_presets()[UNTRACED]
    past = measured(model_name=hybrid.model_name, parameters=hybrid.parameters)
    assert expected(past).source is Source.ESTIMATED


def test_only_the_newest_measurement_of_a_trial_corrects() -> None:
    past = [measured(batch_size=n, needed_bytes=(4 + n) * GB) for n in (1, 2, 3)]
    older = [measured(batch_size=1, needed_bytes=40 * GB)] * 5
    assert (
        recommend.forecasts([trial(batch_size=8)], [*past, *older], "cuda")[0].needed_bytes
        == 6 * GB
    )


def test_measurements_of_unknown_models_are_ignored() -> None:
    assert expected(measured("gone")).source is Source.ESTIMATED


def refused(budget: int) -> Measurement:
    return measured(needed_bytes=None, peak_bytes=None, budget_bytes=budget)


def test_a_budget_that_was_exceeded_is_too_small_for_any_estimate() -> None:
    line = expected(refused(5 * GB), refused(7 * GB), refused(6 * GB), budget=7 * GB)
    assert line.verdict is Verdict.DOES_NOT_FIT
    assert line.needed_bytes == 7 * GB + 1
    assert line.source is Source.CORRECTED


def test_a_larger_budget_than_the_exceeded_one_may_suffice() -> None:
    line = expected(refused(5 * GB + 512 * MB), budget=8 * GB)
    assert line.verdict is Verdict.FITS
    assert line.needed_bytes == 6 * GB
    assert line.source is Source.ESTIMATED
    assert line.least_bytes == 5 * GB + 512 * MB + 1


def test_an_over_budget_trial_of_another_configuration_is_ignored() -> None:
    past = measured(needed_bytes=None, peak_bytes=None, budget_bytes=7 * GB, batch_size=8)
    assert expected(past) == expected()


def test_weights_that_are_larger_than_the_budget_never_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"{__name__}.GUESS", Estimate(39 * GB, 40 * GB, 50 * GB))
    for budget, verdict in (39 * GB, Verdict.TIGHT), (39 * GB - 1, Verdict.DOES_NOT_FIT):
        assert expected(budget=budget).verdict is verdict


def line(
    needed: float, budget: float = 100, source: Source = Source.MEASURED, of: Trial | None = None
) -> Forecast:
    return builders.line(of or trial(budget=int(budget * MB)), needed, source)


@pytest.mark.parametrize(
    ("needed", "source", "verdict"),
    [
        (1, Source.MEASURED, Verdict.FITS),
        (90, Source.MEASURED, Verdict.FITS),
        (90.1, Source.MEASURED, Verdict.TIGHT),
        (100, Source.MEASURED, Verdict.TIGHT),
        (100.1, Source.MEASURED, Verdict.DOES_NOT_FIT),
        (86.9, Source.ESTIMATED, Verdict.FITS),
        (87, Source.ESTIMATED, Verdict.TIGHT),
        (100, Source.ESTIMATED, Verdict.TIGHT),
        (117.6, Source.ESTIMATED, Verdict.TIGHT),
        (117.7, Source.ESTIMATED, Verdict.DOES_NOT_FIT),
        (117.6, Source.CORRECTED, Verdict.TIGHT),
    ],
)
def test_the_verdict(needed: float, source: Source, verdict: Verdict) -> None:
    assert line(needed, source=source).verdict is verdict


def test_headroom_is_the_budget_minus_needed_memory() -> None:
    assert line(60).headroom_bytes == 40 * MB
    assert line(130).headroom_bytes == -30 * MB


def test_the_peak_is_limited_by_the_budget() -> None:
    assert line(60).peak_bytes == 100 * MB
    assert line(60, budget=1000).peak_bytes == 500 * MB
    assert line(130).peak_bytes is None


@pytest.mark.parametrize(
    ("past", "budget", "peak"),
    [
        (measured(), 16 * GB, 9 * GB),
        (measured(), 8 * GB, 8 * GB),
        (measured(), 24 * GB, 12 * GB),  # it may run further ahead than within 16 GB
        (measured(peak_bytes=13 * GB), 24 * GB, 13 * GB),
        (measured(peak_bytes=None), 16 * GB, 12 * GB),
    ],
)
def test_a_measured_peak_is_valid_up_to_its_budget(
    past: Measurement, budget: int, peak: int
) -> None:
    assert expected(past, budget=budget).peak_bytes == peak


def sized(name: str, params: str, needed: float) -> Forecast:
    return line(needed, of=trial(name, params, budget=100 * MB))


@pytest.mark.parametrize(
    ("found", "best"),
    [
        ([("a", "1B", 10), ("b", "8B", 50), ("c", "70B", 200)], "b"),
        ([("a", "1B", 10), ("b", "8B", 95), ("c", "70B", 200)], "a"),
        ([("a", "1B", 95), ("b", "8B", 96), ("c", "70B", 200)], "b"),
        ([("a", "8B", 10), ("b", "8B", 20)], "a"),
        ([("a", "8B", 200)], None),
    ],
)
def test_the_largest_that_fits_is_recommended(
    found: list[tuple[str, str, float]], best: str | None
) -> None:
    chosen = recommend.recommended([sized(*each) for each in found])
    assert (chosen and chosen.trial.model.name) == best


def test_a_tight_model_within_the_budget_is_preferred() -> None:
    small, large = trial("a", "1B", budget=100 * MB), trial("b", "8B", budget=100 * MB)
    within, beyond = (
        line(95, source=Source.ESTIMATED, of=small),
        line(104, source=Source.ESTIMATED, of=large),
    )
    assert {within.verdict, beyond.verdict} == {Verdict.TIGHT}
    assert recommend.recommended([within, beyond]) is within
    assert recommend.recommended([beyond]) is beyond


def test_the_document_has_gb_and_exact_bytes() -> None:
    probed = replace(trial(), model=builders.probed(trial().model))
    found = recommend.forecasts([probed], [measured()], "cuda")
    unknown = Unknown(
        *("mamba", "org/mamba", "3B", "mamba: activations not estimated."),
        parameters=3_000_000_000,
        weights_bytes=2 * GB,
    )
    content = orjson.loads(to_json(document(found, [unknown], CONTEXT)))
    assert content["recommended"] == "tiny"
    assert (content["max_memory_gb"], content["budget_bytes"]) == (16.0, 16 * GB)
    assert content["device"]["backend"] == "cuda"
    assert content["device_source"] == "as told"
    assert content["results"] == [
        {
            "preset": "tiny",
            "model_name": "org/tiny",
            "params": "100K",
            "verdict": "fits",
            "source": "measured",
            "needed_memory_gb": 5.0,
            "needed_memory_bytes": 5 * GB,
            "peak_memory_gb": 9.0,
            "peak_memory_bytes": 9 * GB,
            "headroom_gb": 11.0,
            "headroom_bytes": 11 * GB,
            "config": {
                "weights": "synthetic",
                "quantization_bits": 4,
                "batch_size": 2,
                "lora_rank": 64,
                "lora_layers": 2,
                "seq_length": 1024,
                "grad_checkpoint": True,
                "fine_tune_type": "lora",
                "lora_keys": ["all"],
                "lora_dropout": 0.0,
                "optimizer": "adam",
                "optimizer_config": [],
                "grad_accumulation_steps": 1,
                "quantization_mode": "affine",
                "group_size": 64,
            },
            "error": None,
            "parameters": PARAMETERS,
            "weights_bytes": 80_000,
        },
        {
            **dict.fromkeys(content["results"][0]),
            "preset": "mamba",
            "model_name": "org/mamba",
            "params": "3B",
            "error": "mamba: activations not estimated.",
            "parameters": 3_000_000_000,
            "weights_bytes": 2 * GB,
        },
    ]


def test_the_document_for_another_machine_has_no_machine() -> None:
    elsewhere = replace(CONTEXT, machine=None)
    assert document([], [], elsewhere).machine is None
    assert document([], [], CONTEXT).machine == MACHINE


def test_the_document_may_have_a_name_that_is_not_utf8() -> None:
    found = recommend.forecasts([trial("caf\udce9")], [], "cuda")
    content = orjson.loads(to_json(document(found, [], CONTEXT)))
    assert (content["recommended"], content["results"][0]["model_name"]) == ("caf?", "org/caf?")


def trained_in(nbytes: int) -> Measurement:
    return measured(needed_bytes=None, peak_bytes=nbytes)


def test_the_peak_of_a_training_limits_the_forecast() -> None:
    found = expected(trained_in(6 * GB), trained_in(5 * GB))
    assert found.source is Source.CORRECTED
    assert {found.least_bytes, found.needed_bytes, found.most_bytes} == {5 * GB}
    assert expected(trained_in(7 * GB)) == expected()
    assert expected(trained_in(5 * GB), measured()).source is Source.MEASURED
