"""A recommendation as text, on wide and narrow terminals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support import builders
from your_ai.planning.device import Device
from your_ai.planning.memory_estimate import CHECKED_VERSIONS
from your_ai.recommend.document import Context
from your_ai.recommend.recommend import Forecast, Source, Unknown
from your_ai.system.machine import Machine
from your_ai.terminal.recommendation import recommendation
from your_ai.units import GB, MB

MACHINE = Machine("Linux", "6.1", "x86_64", 16, 128 * GB, "3.11.7")
DEVICE = Device("cuda", "NVIDIA H200", 140 * GB, None, None, {"mlx": "0.32.4"})
CONTEXT = Context(DEVICE, "as told", 100 * MB, MACHINE, {})


def line(
    needed: float,
    source: Source = Source.MEASURED,
    name: str = "tiny",
    params: str = "100K",
    error: float = 0.15,
    **changed: Any,
) -> Forecast:
    trial = builders.trial(1, name, params, budget_bytes=100 * MB, **changed)
    return builders.line(trial, needed, source, error)


TINY = replace(
    builders.trial(1, "smoke-tiny", "263K", budget_bytes=100 * MB),
    model=builders.model("smoke-tiny", model_name="your_ai/smoke-tiny"),
)

LADDER = [
    line(10, name="hermes-mistral-7b", params="7B"),
    line(88, Source.ESTIMATED, "llama-8b", "8B"),
    line(300, Source.CORRECTED, "hermes-70b", "70B"),
]

WIDE = """\
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
Recommendation
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
Device: NVIDIA H200 (cuda), 140.00 GB (as told)
Budget: 100.0 MB, the most memory that training may use

Model              Size    Needed      Peak   Headroom  Verdict       Source
hermes-mistral-7b    7B   10.0 MB  100.0 MB    90.0 MB  fits          measured
llama-8b             8B   88.0 MB  100.0 MB    12.0 MB  tight         estimated
hermes-70b          70B  300.0 MB         –  -200.0 MB  does not fit  corrected

Recommended: hermes-mistral-7b (largest model that fits)
These figures are for LoRA on all modules, rank 64 in the last 2 layers, batches
    of 2 × 1024 tokens, 4-bit weights, adam, with gradient checkpointing.
tight: too close to the budget to be sure that the model fits.
Estimates may be off by 15%. To measure, run `your_ai benchmark` with the same
    options.
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━"""

NARROW = """\
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
Recommendation
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
Device: NVIDIA H200 (cuda), 140.00 GB
    (as told)
Budget: 100.0 MB, the most memory that
    training may use

hermes-mistral-7b
    7B, needed 10.0 MB, peak 100.0 MB,
    headroom 90.0 MB, fits, measured
llama-8b
    8B, needed 88.0 MB, peak 100.0 MB,
    headroom 12.0 MB, tight, estimated
hermes-70b
    70B, needed 300.0 MB,
    headroom -200.0 MB, does not fit,
    corrected
"""


def test_at_80_columns() -> None:
    assert recommendation(LADDER, [], CONTEXT, 80) == WIDE


def test_a_pipe_gets_the_same_without_wrapping() -> None:
    piped = recommendation(LADDER, [], CONTEXT, None)
    assert piped.splitlines() == WIDE.replace("\n    ", " ").splitlines()


def test_rows_are_paragraphs_on_a_narrow_terminal() -> None:
    assert recommendation(LADDER, [], CONTEXT, 40).startswith(NARROW)


def test_negative_headroom_is_shown_in_gb() -> None:
    row = recommendation([line(25 * 1024)], [], CONTEXT, None).splitlines()[7]
    assert " ".join(row.split()) == "tiny 100K 25.0 GB – -24.9 GB does not fit measured"


def test_a_model_that_cannot_be_estimated_has_a_row_and_a_reason() -> None:
    unknown = Unknown("mamba", "org/mamba", "", "mamba: activations not estimated.")
    shown = recommendation(LADDER, [unknown], CONTEXT, None).splitlines()
    assert " ".join(shown[10].split()) == "mamba – – – – unknown –"
    assert shown[-2] == unknown.reason
    assert "Recommended: hermes-mistral-7b (largest model that fits)" in shown


@pytest.mark.parametrize("columns", [79, 60, 40])
def test_lines_fit_the_terminal(columns: int) -> None:
    shown = recommendation(LADDER, [], CONTEXT, columns)
    assert max(map(len, shown.splitlines())) <= columns


def foot(*found: Forecast) -> str:
    return recommendation(found, [], CONTEXT, 200).rpartition("\n\n")[2]


@pytest.mark.parametrize(
    ("only", "words"),
    [
        (line(10), "tiny (largest model that fits)"),
        (line(95), "tiny (largest model that fits, with little to spare)"),
        (line(95, Source.ESTIMATED), "tiny (largest model that may fit; measure it first)"),
        (line(300), "none (no model fits)"),
    ],
)
def test_the_recommendation_in_words(only: Forecast, words: str) -> None:
    assert foot(only).startswith(f"Recommended: {words}\n")


def test_the_largest_error_is_shown() -> None:
    doubtful = line(10, Source.ESTIMATED, error=0.3)
    assert "may be off by 30%." in foot(line(10, Source.ESTIMATED), doubtful)


def test_measured_figures_have_no_hint_to_measure() -> None:
    assert "may be off" not in foot(line(10))
    assert "may be off" in foot(line(10), line(10, Source.CORRECTED))


def test_the_configuration_if_models_differ() -> None:
    other = line(10, lora_layers=16, quantization_bits=None, grad_checkpoint=False)
    assert (
        "rank 64 in the last 16 layers, batches of 2 × 1024 tokens, unquantized weights, adam, "
        "without gradient checkpointing.\n"
    ) in foot(other)
    assert "4-bit or unquantized weights" in foot(line(10), other)
    assert "in the last 2 to 16 layers" in foot(line(10), other)


ON_CPU = replace(CONTEXT, device=Device("cpu", "AMD EPYC", 24 * GB, None, None, {}))


def test_a_note_that_training_on_a_cpu_takes_hours() -> None:
    assert "on a CPU takes hours" in recommendation([line(10)], [], ON_CPU, None)


def test_on_a_cpu_the_hint_is_to_run_tiny_models_unless_the_models_are_tiny() -> None:
    shown = recommendation(LADDER, [], ON_CPU, 400)
    assert "`your_ai benchmark --suite smoke`" in shown
    assert "with the same options" not in shown
    tiny = builders.line(TINY, 10, Source.ESTIMATED)
    assert "`your_ai benchmark` with the same options" in recommendation([tiny], [], ON_CPU, 400)


def test_for_another_machine_the_hint_is_to_measure_there() -> None:
    unknown = Unknown("mamba", "org/mamba", "", "mamba: run `your_ai benchmark`.")
    for found, context in ((LADDER, CONTEXT), ([line(10, Source.ESTIMATED)], ON_CPU)):
        shown = recommendation(found, [unknown], replace(context, machine=None), None)
        *_, estimate, reason, hint, _ = shown.splitlines()
        assert estimate == "Estimates may be off by 15%."
        assert reason == unknown.reason
        assert "with the same training options on that machine." in hint


def test_if_none_of_the_estimated_models_fits_another_may() -> None:
    unknown = Unknown("mamba", "org/mamba", "", "mamba: run `your_ai benchmark`.")
    shown = recommendation([line(300)], [unknown], CONTEXT, None)
    assert "Recommended: none (none of the estimated models fits)" in shown


@pytest.mark.parametrize("machine", [MACHINE, None])
def test_on_macs_it_says_what_estimates_were_compared_with(machine: Machine | None) -> None:
    mac = Device("metal", "Apple M3 Pro", 36 * GB, 27 * GB, None, {})
    context = replace(CONTEXT, device=mac, machine=machine)
    shown = recommendation([line(10, Source.ESTIMATED, error=0.3)], [], context, None)
    assert "Estimates may be off by 30%." in shown
    assert "only compared with public reports for MLX 0.31 and 0.32." in shown
    assert ("Your first benchmark on this Mac replaces them." in shown) is (machine is not None)
    measured = recommendation([line(10)], [], context, None)
    assert "public reports" not in measured


def test_versions_that_were_not_checked_are_shown() -> None:
    assert "Estimates were checked with" not in recommendation(LADDER, [], CONTEXT, None)
    context = replace(CONTEXT, unchecked_versions={"mlx": "0.99.0"})
    shown = recommendation(LADDER, [], context, None)
    checked = ", ".join(f"{name} {version}" for name, version in CHECKED_VERSIONS.items())
    assert f"Estimates were checked with {checked}; installed: mlx 0.99.0." in shown
    assert "Estimates were checked with" not in recommendation([line(10)], [], context, None)
