"""What is said of each model, from hand-made estimates and measurements."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from tests.support.builders import CONFIG, model, spec
from worker.protocol.messages import TrialRequest, Weights
from your_ai.errors import UsageError
from your_ai.models import presets
from your_ai.models.architecture import parameters
from your_ai.models.resolve import from_preset, with_declared_facts
from your_ai.planning import memory_estimate
from your_ai.planning.device import Device
from your_ai.planning.memory_estimate import Estimate
from your_ai.planning.plan import TrainingOptions, Trial
from your_ai.recommend import recommend
from your_ai.recommend.history import Measurement
from your_ai.recommend.recommend import Expectation, Line, Source, Verdict
from your_ai.system.machine import Machine
from your_ai.terminal.recommendation import recommendation

GB = 2**30
MB = 2**20
MACHINE = Machine("Linux", "6.1", "x86_64", 16, 128 * GB, "3.11.7")
DEVICE = Device("cuda", "NVIDIA H200", 140 * GB, None, None, {"mlx": "0.32.4"})

# Of the tiny model, whatever it is asked: 4 GB resident and 2 GB above, 12 GB if nothing holds it.
GUESS = Estimate(4 * GB, 6 * GB, 12 * GB)
PARAMETERS = parameters(CONFIG)
TRAINING = TrainingOptions(lora_layers=2, quantize=4)


@pytest.fixture(autouse=True)
def guess(monkeypatch: pytest.MonkeyPatch) -> None:
    def always(_spec: TrialRequest, _backend: str) -> Estimate:
        return GUESS

    monkeypatch.setattr(recommend, "estimate", always)
    monkeypatch.setattr(recommend, "error_share", lambda _config, _backend: 0.15)


def trial(name: str = "tiny", params: str = "100K", budget: int = 16 * GB, **changed: Any) -> Trial:
    return Trial(1, model(name, params), spec(budget_bytes=budget, **changed))


def measured(name: str = "tiny", **changed: Any) -> Measurement:
    """The tiny model, which had 4 GB resident and needed 1 above, half of what is estimated."""
    fields: dict[str, Any] = {
        "model_name": f"org/{name}",
        "training": TRAINING,
        "backend": "cuda",
        "parameters": PARAMETERS,
        "resident_bytes": 4 * GB,
        "needed_bytes": 5 * GB,
        "peak_bytes": 9 * GB,
        "budget_bytes": 16 * GB,
        **changed,
    }
    return Measurement(**fields)


def expected(*measurements: Measurement, of: Trial | None = None) -> Expectation:
    (line,) = recommend.lines([of or trial()], measurements, "cuda")
    return line.expected


def test_without_history_it_is_estimated() -> None:
    found = expected()
    assert found.source is Source.ESTIMATED
    assert (found.needed_bytes, found.run_ahead_bytes) == (6 * GB, 12 * GB)
    assert (found.error_share, found.floor_bytes) == (0.15, 4 * GB)
    assert (found.least_bytes, found.most_bytes) == (int(5.1 * GB), int(6.9 * GB))


def test_the_same_measured_before_is_taken_as_it_was() -> None:
    assert expected(measured()) == Expectation(
        Source.MEASURED, 5 * GB, 0.0, 5 * GB, run_ahead_bytes=9 * GB
    )


def test_the_first_of_several_is_the_newest() -> None:
    assert expected(measured(), measured(needed_bytes=7 * GB)).needed_bytes == 5 * GB


@pytest.mark.parametrize(
    "changed",
    [
        {"batch_size": 4},
        {"lora_rank": 32},
        {"lora_layers": 1},
        {"seq_length": 512},
        {"quantize": 8},
        {"quantize": 0},
        {"grad_checkpoint": False},
        {"weights": Weights.REAL},
    ],
)
def test_another_configuration_corrects(changed: dict[str, Any]) -> None:
    found = expected(measured(training=replace(TRAINING, **changed)))
    assert found.source is Source.CORRECTED
    assert found.needed_bytes == 5 * GB  # 4 resident, and half of 2
    assert found.run_ahead_bytes == 11 * GB  # the 6 that MLX queues are another matter
    assert (found.least_bytes, found.most_bytes) == (int(4.25 * GB), int(5.75 * GB))


def test_what_was_never_checked_is_more_doubtful_until_it_is_corrected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recommend, "error_share", lambda _config, _backend: 0.3)
    assert expected().error_share == 0.3
    assert expected(measured(training=replace(TRAINING, batch_size=1))).error_share == 0.15


def test_what_other_backends_measured_says_nothing() -> None:
    assert expected(measured(backend="cpu")).source is Source.ESTIMATED


@pytest.mark.parametrize("factor", [0.5, 0.98, 1.02, 2])
def test_a_folder_whose_model_was_replaced_is_not_matched(factor: float) -> None:
    found = expected(measured(parameters=int(PARAMETERS * factor)))
    assert found.source is Source.ESTIMATED


def test_parameters_that_are_counted_a_little_differently_are_the_same_model() -> None:
    assert expected(measured(parameters=PARAMETERS + 100)).source is Source.MEASURED


def test_the_correction_is_the_median_of_the_same_models_measurements() -> None:
    past = [
        measured(training=replace(TRAINING, seq_length=length), needed_bytes=4 * GB + above)
        for length, above in ((128, 1 * GB), (256, 3 * GB), (512, 100 * GB))
    ]
    assert expected(*past).needed_bytes == 7 * GB


def others(name: str, needed: int, parameters: int) -> Measurement:
    return measured(name, needed_bytes=needed, parameters=parameters)


def lines_of_two(*measurements: Measurement) -> list[Line]:
    """The tiny model, and another of the same contents that differs by its name alone."""
    return recommend.lines([trial(), trial("other")], measurements, "cuda")


def test_another_model_of_comparable_size_corrects() -> None:
    first, second = lines_of_two(measured("other"))
    assert first.expected.source is Source.CORRECTED
    assert first.expected.needed_bytes == 5 * GB
    assert second.expected.source is Source.MEASURED


def test_the_same_models_measurements_come_before_all_others() -> None:
    own = measured(training=replace(TRAINING, batch_size=1), needed_bytes=8 * GB)
    assert lines_of_two(measured("other"), own)[0].expected.needed_bytes == 8 * GB


@pytest.mark.parametrize("params", ["3K", "3M", "7B"])
def test_a_model_of_quite_another_size_does_not_correct(params: str) -> None:
    found = recommend.lines([trial(params=params), trial("other")], [measured("other")], "cuda")
    assert found[0].expected.source is Source.ESTIMATED


def test_a_preset_measured_before_corrects_though_it_is_not_asked_for() -> None:
    tiny = presets.all_presets()["smoke-tiny"]
    past = measured(model_name=tiny.model_name, parameters=parameters(from_preset(tiny).config))
    assert expected(replace(past, model_name=tiny.model_name)).source is Source.CORRECTED


def test_an_unknown_model_measured_before_says_nothing() -> None:
    assert expected(measured("gone")).source is Source.ESTIMATED


def test_a_measurement_that_its_models_config_no_longer_allows_says_nothing() -> None:
    past = measured(training=replace(TRAINING, lora_layers=40))
    assert expected(past).source is Source.ESTIMATED


def refused(budget: int) -> Measurement:
    return measured(needed_bytes=None, peak_bytes=None, budget_bytes=budget)


def test_a_budget_that_it_was_over_is_too_small_whatever_is_estimated() -> None:
    (line,) = recommend.lines([trial(budget=7 * GB)], [refused(7 * GB)], "cuda")
    assert line.verdict is Verdict.DOES_NOT_FIT
    assert line.expected.needed_bytes == 7 * GB + 1
    assert line.expected.source is Source.CORRECTED


def test_a_larger_budget_than_it_was_over_may_do() -> None:
    (line,) = recommend.lines([trial(budget=8 * GB)], [refused(5 * GB + 512 * MB)], "cuda")
    assert line.verdict is Verdict.FITS
    assert line.expected.needed_bytes == 6 * GB
    assert line.expected.source is Source.ESTIMATED
    assert line.expected.least_bytes == 5 * GB + 512 * MB + 1


def test_over_budget_with_another_configuration_says_nothing() -> None:
    past = replace(refused(7 * GB), training=replace(TRAINING, batch_size=8))
    assert expected(past) == expected()


def test_weights_that_are_larger_than_the_budget_never_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"{__name__}.GUESS", Estimate(39 * GB, 40 * GB, 50 * GB))
    for budget, verdict in (39 * GB, Verdict.TIGHT), (39 * GB - 1, Verdict.DOES_NOT_FIT):
        (line,) = recommend.lines([trial(budget=budget)], [], "cuda")
        assert line.verdict is verdict


def line(needed: float, budget: float = 100, source: Source = Source.MEASURED) -> Line:
    """A line about a figure in MB, in whose range only an estimate may lie elsewhere."""
    error = 0.0 if source is Source.MEASURED else 0.15
    expectation = Expectation(source, int(needed * MB), error, 0, 500 * MB)
    return Line(trial(budget=int(budget * MB)), expectation)


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


def test_headroom_is_what_the_budget_leaves() -> None:
    assert line(60).headroom_bytes == 40 * MB
    assert line(130).headroom_bytes == -30 * MB


def test_the_peak_runs_ahead_up_to_the_budget() -> None:
    assert line(60).peak_bytes == 100 * MB
    assert line(60, budget=1000).peak_bytes == 500 * MB
    assert line(130).peak_bytes is None


@pytest.mark.parametrize(
    ("past", "budget", "peak"),
    [
        (measured(), 16 * GB, 9 * GB),
        (measured(), 8 * GB, 8 * GB),
        (measured(), 24 * GB, 12 * GB),  # it may run further ahead than the 16 GB let it
        (measured(peak_bytes=13 * GB), 24 * GB, 13 * GB),
        (measured(peak_bytes=None), 16 * GB, 12 * GB),
    ],
)
def test_a_measured_peak_holds_for_its_budget_and_smaller_ones(
    past: Measurement, budget: int, peak: int
) -> None:
    (found,) = recommend.lines([trial(budget=budget)], [past], "cuda")
    assert found.peak_bytes == peak


def sized(name: str, params: str, needed: float) -> Line:
    return replace(line(needed), trial=trial(name, params, budget=100 * MB))


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


def test_the_document_has_exact_bytes_beside_gb() -> None:
    found = recommend.lines([trial()], [measured()], "cuda")
    content = orjson.loads(recommend.document(found, DEVICE, "as told", MACHINE))
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
            },
        }
    ]


def test_the_document_carries_a_name_that_is_not_utf8() -> None:
    found = recommend.lines([trial("caf\udce9")], [], "cuda")
    content = orjson.loads(recommend.document(found, DEVICE, "", MACHINE))
    assert (content["recommended"], content["results"][0]["model_name"]) == ("caf?", "org/caf?")


def test_a_config_that_says_too_little_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommend, "estimate", memory_estimate.estimate)
    scant = {key: value for key, value in CONFIG.items() if key != "hidden_size"}
    unknown = replace(trial(), spec=spec(model=replace(spec().model, config=scant)))
    with pytest.raises(UsageError, match="hidden_size"):
        recommend.lines([unknown], [], "cuda")


LADDER = [
    sized("hermes-mistral-7b", "7B", 10),
    replace(line(88, source=Source.ESTIMATED), trial=trial("llama-8b", "8B", 100 * MB)),
    replace(line(300, source=Source.CORRECTED), trial=trial("hermes-70b", "70B", 100 * MB)),
]

WIDE = """\
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
Recommendation
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
Device: NVIDIA H200 (cuda), 140.00 GB (as told)
Budget: 100.0 MB, the most that training may use

Model              Size    Needed      Peak   Headroom  Verdict       Source
hermes-mistral-7b    7B   10.0 MB  100.0 MB    90.0 MB  fits          measured
llama-8b             8B   88.0 MB  100.0 MB    12.0 MB  tight         estimated
hermes-70b          70B  300.0 MB         –  -200.0 MB  does not fit  corrected

Recommended: hermes-mistral-7b (largest model that fits)
For 4-bit weights, batches of 2 × 1024 tokens, rank 64 in the last 2 layers,
    with gradient checkpointing.
Tight: so near to the budget that only measuring tells, or with little to spare.
What is not measured may be off by 15 %; `your_ai benchmark` with the same
    options measures it.
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━"""

NARROW = """\
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
Recommendation
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
Device: NVIDIA H200 (cuda), 140.00 GB
    (as told)
Budget: 100.0 MB, the most that training
    may use

hermes-mistral-7b
    size 7B, needed 10.0 MB, peak 100.0
    MB, headroom 90.0 MB, verdict fits,
    source measured
llama-8b
    size 8B, needed 88.0 MB, peak 100.0
    MB, headroom 12.0 MB, verdict tight,
    source estimated
hermes-70b
    size 70B, needed 300.0 MB, headroom
    -200.0 MB, verdict does not fit,
    source corrected
"""


@pytest.mark.parametrize("columns", [None, 80])
def test_what_is_printed(columns: int | None) -> None:
    assert recommendation(LADDER, DEVICE, "as told", columns) == WIDE


def test_what_is_printed_where_rows_do_not_fit() -> None:
    assert recommendation(LADDER, DEVICE, "as told", 40).startswith(NARROW)


def test_what_is_lacking_is_shown_in_the_unit_that_fits_it() -> None:
    row = recommendation([line(25 * 1024)], DEVICE, "as told", None).splitlines()[7]
    assert " ".join(row.split()) == "tiny 100K 25.0 GB – -24.9 GB does not fit measured"


@pytest.mark.parametrize("columns", [79, 60, 40])
def test_no_line_is_longer_than_the_terminal_is_wide(columns: int) -> None:
    shown = recommendation(LADDER, DEVICE, "as told", columns)
    assert max(map(len, shown.splitlines())) <= columns


def foot(*found: Line) -> str:
    return recommendation(found, DEVICE, "as told", 200).rpartition("\n\n")[2]


@pytest.mark.parametrize(
    ("only", "words"),
    [
        (line(10), "tiny (largest model that fits)"),
        (line(95), "tiny (largest model that fits, with little to spare)"),
        (line(95, source=Source.ESTIMATED), "tiny (largest model that may fit: measure it first)"),
        (line(300), "none (no model fits)"),
    ],
)
def test_the_recommendation_in_words(only: Line, words: str) -> None:
    assert foot(only).startswith(f"Recommended: {words}\n")


def test_the_largest_error_is_told() -> None:
    doubtful = line(10, source=Source.ESTIMATED)
    doubtful = replace(doubtful, expected=replace(doubtful.expected, error_share=0.3))
    assert "may be off by 30 %;" in foot(line(10, source=Source.ESTIMATED), doubtful)
    assert replace(doubtful, trial=trial(budget=int(12.9 * MB))).verdict is Verdict.TIGHT
    assert replace(doubtful, trial=trial(budget=int(13.1 * MB))).verdict is Verdict.FITS


def test_what_is_measured_needs_no_hint_to_measure_it() -> None:
    assert "may be off" not in foot(line(10))
    assert "may be off" in foot(line(10), line(10, source=Source.CORRECTED))


def test_what_the_figures_hold_for_where_models_differ() -> None:
    other = replace(line(10), trial=trial(lora_layers=16, quantization=None, grad_checkpoint=False))
    assert (
        "For unquantized weights, batches of 2 × 1024 tokens, rank 64 in the last 16 layers, "
        "without gradient checkpointing.\n"
    ) in foot(other)
    assert "For 4-bit or unquantized weights" in foot(line(10), other)
    assert "in the last 2 to 16 layers" in foot(line(10), other)


def test_a_cpu_is_not_recommended_silently() -> None:
    cpu = Device("cpu", "AMD EPYC", 24 * GB, None, None, {})
    assert "on a CPU, training real models takes hours" in recommendation(
        LADDER, cpu, "as told", None
    )


@pytest.mark.parametrize("config", [CONFIG, {"model_type": "mistral3", "text_config": CONFIG}])
def test_a_models_size_and_layers_are_read_from_its_config(config: dict[str, Any]) -> None:
    found = with_declared_facts(model(params="", layers=0, config=config))
    assert (found.params, found.layers) == ("140K", 2)


def test_what_a_preset_says_of_itself_stays() -> None:
    preset = from_preset(presets.all_presets()["hermes-70b"])
    assert with_declared_facts(preset) == preset


@pytest.mark.parametrize(
    "changed",
    [
        {"hidden_size": float("inf")},
        {"hidden_size": 1e300},
        {"hidden_size": -64},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": "2"},
        {"hidden_size": None},
    ],
)
def test_sizes_that_no_model_has_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="absurd"):
        with_declared_facts(model("absurd", params="", layers=0, config={**CONFIG, **changed}))


def trained_in(nbytes: int) -> Measurement:
    return measured(needed_bytes=None, peak_bytes=nbytes, enough_bytes=nbytes)


def test_a_real_training_shows_how_much_is_enough() -> None:
    found = expected(trained_in(5 * GB))
    assert (found.source, found.needed_bytes, found.most_bytes) == (
        Source.CORRECTED,
        5 * GB,
        5 * GB,
    )
    assert expected(trained_in(7 * GB)) == expected()
    assert expected(trained_in(5 * GB), measured()).source is Source.MEASURED
