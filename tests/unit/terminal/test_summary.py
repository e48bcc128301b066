"""Results as text, on wide and narrow terminals; tests/unit/report has the whole of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.builders import ON_BATTERY, ON_MAINS, searched
from tests.support.ladder import LADDER, run
from your_ai.runs.assembly import assemble
from your_ai.terminal.summary import summary

RESULTS = assemble(run(), LADDER)


@pytest.mark.parametrize("width", [40, 80, 100])
def test_lines_of_the_table_fit_the_terminal(width: int) -> None:
    table = summary(RESULTS, width).split("\n\n")[1].splitlines()
    assert max(map(len, table)) <= width


def test_a_configuration_that_all_trials_share_makes_the_table_fit_80_columns() -> None:
    lines = summary(RESULTS, 80).splitlines()
    assert lines[3] == "Configuration: batch 2, rank 64, layers 2, length 1024, 4-bit"
    assert lines[4].split() == ["Model", "Size", "Outcome", "Needed", "Peak", "Tokens/s", "Seconds"]


def test_a_narrow_terminal_keeps_values_and_units_together() -> None:
    assert (
        "hermes-mistral-7b\n    7B, Pass, needed 6.0 GB,\n    peak 12.4 GB, 2,046 tokens/s, 31 s\n"
    ) in summary(RESULTS, 40)


def test_an_unfinished_run_recommends_so_far() -> None:
    complete, unfinished = (replace(RESULTS, complete=value) for value in (True, False))
    assert summary(complete).endswith("\nRecommended: dolphin-8b (largest model that fits)")
    assert summary(unfinished).endswith(
        "\nRecommended so far: dolphin-8b (largest model that fits)"
    )
    assert "unfinished" in summary(unfinished)
    assert "unfinished" not in summary(complete)


def test_speeds_that_are_not_comparable_take_one_line_for_each_reason() -> None:
    trials = [replace(LADDER[0], config=replace(LADDER[0].config, batch_size=n)) for n in (1, 2, 4)]
    first, *others = (replace(each, conditions_after=ON_BATTERY) for each in trials)
    hot = replace(ON_MAINS, low_power_mode=True)
    slow = replace(LADDER[1], conditions_after=hot)
    lines = summary(assemble(run(), [first])).splitlines()
    note = "the speed is not comparable"
    name = "hermes-mistral-7b (batch 1, rank 64, layers 2, length 1024, 4-bit)"
    assert f"{name}: measured on battery; {note}" in lines
    found = replace(RESULTS, results=(searched(first, *others), slow))
    assert [line for line in summary(found).splitlines() if note in line] == [
        f"3 trials: measured on battery; {note}",
        "dolphin-8b (batch 2, rank 64, layers 2, length 1024, 4-bit): "
        f"measured in low power mode; {note}",
    ]


def test_failures_of_a_search_have_no_advice() -> None:
    """They are part of its proof."""
    failed = replace(RESULTS.results[-1], success=False, advice="--batch-size 1")
    alone = replace(RESULTS, results=(failed,))
    assert f"try: {failed.advice}" in summary(alone)
    assert "try: " not in summary(replace(alone, results=(searched(failed),)))
