"""What is printed of a recommendation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import builders
from your_ai.planning.device import Device
from your_ai.recommend.recommend import Line, Source
from your_ai.terminal.recommendation import recommendation
from your_ai.units import GB, MB

DEVICE = Device("cuda", "NVIDIA H200", 140 * GB, None, None, {"mlx": "0.32.4"})


def line(
    needed: float,
    source: Source = Source.MEASURED,
    name: str = "tiny",
    params: str = "100K",
    error: float = 0.15,
    **changed: Any,
) -> Line:
    trial = builders.trial(1, name, params, budget_bytes=100 * MB, **changed)
    return builders.line(trial, needed, source, error)


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
Budget: 100.0 MB, the most that training may use

Model              Size    Needed      Peak   Headroom  Verdict       Source
hermes-mistral-7b    7B   10.0 MB  100.0 MB    90.0 MB  fits          measured
llama-8b             8B   88.0 MB  100.0 MB    12.0 MB  tight         estimated
hermes-70b          70B  300.0 MB         –  -200.0 MB  does not fit  corrected

Recommended: hermes-mistral-7b (largest model that fits)
For 4-bit weights, batches of 2 × 1024 tokens, rank 64 in the last 2 layers,
    with gradient checkpointing.
tight: within the estimate's margin of error, or close to the budget.
Estimates may be off by 15 %; `your_ai benchmark` with the same options measures
    it.
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
        (line(95, Source.ESTIMATED), "tiny (largest model that may fit: measure it first)"),
        (line(300), "none (no model fits)"),
    ],
)
def test_the_recommendation_in_words(only: Line, words: str) -> None:
    assert foot(only).startswith(f"Recommended: {words}\n")


def test_the_largest_error_is_told() -> None:
    doubtful = line(10, Source.ESTIMATED, error=0.3)
    assert "may be off by 30 %;" in foot(line(10, Source.ESTIMATED), doubtful)


def test_what_is_measured_needs_no_hint_to_measure_it() -> None:
    assert "may be off" not in foot(line(10))
    assert "may be off" in foot(line(10), line(10, Source.CORRECTED))


def test_what_the_figures_hold_for_where_models_differ() -> None:
    other = line(10, lora_layers=16, quantization_bits=None, grad_checkpoint=False)
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
