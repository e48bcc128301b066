"""A recommendation as plain text: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from your_ai.models import presets
from your_ai.planning import describe
from your_ai.planning.device import Device
from your_ai.planning.memory_estimate import CHECKED_VERSIONS
from your_ai.recommend.document import Context
from your_ai.recommend.recommend import Forecast, Source, Unknown, Verdict, recommended
from your_ai.terminal.output import wrap
from your_ai.terminal.screen import WIDTH
from your_ai.terminal.tables import Column, Row, table
from your_ai.units import GB, show_size

_COLUMNS = (
    Column("Model"),
    Column("Size", is_number=True),
    Column("Needed", "needed {}", is_number=True),
    Column("Peak", "peak {}", is_number=True),
    Column("Headroom", "headroom {}", is_number=True),
    Column("Verdict"),
    Column("Source"),
)

_ELSEWHERE = (
    "No measurements of this machine were used. To measure, run `your_ai benchmark` with the same "
    "training options on that machine."
)


def recommendation(
    found: Sequence[Forecast], unknown: Sequence[Unknown], context: Context, width: int | None
) -> str:
    """All lines, for a terminal of this ``width``; ``None`` means a pipe or file."""
    rule = "━" * min(WIDTH, width or WIDTH)
    above = [rule, "Recommendation", rule, *_head(context), ""]
    rows = [*map(_row, found), *map(_row_without_forecast, unknown)]
    models = table(_COLUMNS, rows, width)
    reasons = [model.reason for model in unknown]
    elsewhere = [] if context.is_this_machine else [_ELSEWHERE]
    below = ["", *_foot(found, unknown, context), *reasons, *elsewhere, rule]
    head, foot = (wrap("\n".join(part), width) for part in (above, below))
    return f"{head}\n{models}\n{foot}"


def _head(context: Context) -> Iterator[str]:
    device = context.device
    memory = f"{device.memory_bytes / GB:.2f} GB"
    yield f"Device: {device.name} ({device.backend}), {memory} ({context.device_source})"
    yield f"Budget: {show_size(context.budget_bytes)}, the most memory that training may use"
    if device.backend == "cpu":
        yield "Note: this is about memory only. Training real models on a CPU takes hours."


def _row(forecast: Forecast) -> Row:
    sign = "-" if forecast.headroom_bytes < 0 else ""
    return (
        forecast.trial.model.name,
        forecast.trial.model.params,
        show_size(forecast.needed_bytes),
        None if forecast.peak_bytes is None else show_size(forecast.peak_bytes),
        sign + show_size(abs(forecast.headroom_bytes)),
        forecast.verdict,
        forecast.source,
    )


def _row_without_forecast(model: Unknown) -> Row:
    return (model.name, model.params or None, None, None, None, model.verdict or "unknown", None)


def _foot(found: Sequence[Forecast], unknown: Sequence[Unknown], context: Context) -> Iterator[str]:
    best = recommended(found)
    none = "none of the estimated models fits" if unknown else "no model fits"
    if not found:
        none = "no model could be estimated"
    yield f"Recommended: {_recommended(best) if best else f'none ({none})'}"
    if found:
        configurations = [forecast.trial.configuration for forecast in found]
        yield f"These figures are for {describe.configuration(configurations)}."
    if any(forecast.verdict is Verdict.TIGHT for forecast in found):
        yield "tight: too close to the budget to be sure that the model fits."
    if any(forecast.source is not Source.MEASURED for forecast in found):
        yield from _accuracy(found, context)


def _accuracy(found: Sequence[Forecast], context: Context) -> Iterator[str]:
    """Yield how accurate the estimates are, what that rests on, and how to measure instead."""
    error = max(forecast.error_share for forecast in found)
    how = f" {_how_to_measure(found, context.device)}" if context.is_this_machine else ""
    yield f"Estimates may be off by {error:.0%}.{how}"
    if context.device.backend == "metal":
        first = " Your first benchmark on this Mac replaces them." if how else ""
        yield f"On Macs they were only compared with public reports for MLX 0.31 and 0.32.{first}"
    if context.unchecked_versions:
        installed, checked = (
            ", ".join(f"{name} {version}" for name, version in versions.items())
            for versions in (context.unchecked_versions, CHECKED_VERSIONS)
        )
        yield f"Estimates were checked with {checked}; installed: {installed}."


def _how_to_measure(found: Sequence[Forecast], device: Device) -> str:
    is_real = any(not presets.is_synthetic(forecast.trial.model.model_name) for forecast in found)
    if device.backend == "cpu" and is_real:
        return (
            "Measuring these models on a CPU takes hours; `your_ai benchmark --suite smoke` only "
            "checks that training works."
        )
    return "To measure, run `your_ai benchmark` with the same options."


def _recommended(best: Forecast) -> str:
    how = "fits"
    if best.verdict is not Verdict.FITS:
        is_sure = best.source is Source.MEASURED
        how = "fits, with little to spare" if is_sure else "may fit; measure it first"
    return f"{best.trial.model.name} (largest model that {how})"
