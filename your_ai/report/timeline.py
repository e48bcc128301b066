"""The charts of a trial's memory over time: MLX's memory, and the footprint of the process.

They are two charts with the same time axis and separate size axes, because the footprint of a small
model's worker is many times larger than its MLX memory.
"""

from __future__ import annotations

from your_ai.report import spec
from your_ai.report.naming import configuration, title
from your_ai.report.spec import Chart, SizeScale, Spec
from your_ai.runs.trial_result import TrialResult

_AXIS_WIDTH = 44
"""Width of the size axes in pixels, equal so that the time axes of both charts are aligned."""

_LABEL_ROOM = 1.1
"""Height of the memory chart relative to its highest line, so that the line's label fits."""


def memory(trial: TrialResult) -> Chart:
    """Return the chart of MLX's active memory and cache over time."""
    needed, budget = trial.needed_memory_bytes or 0, trial.config.budget_bytes
    scale = SizeScale([needed, *(active + cache for _, active, cache in trial.memory_timeline)])
    shows_budget = scale.can_show(budget)
    top = max(scale.largest, _LABEL_ROOM * max(needed, budget if shows_budget else 0))
    values: list[Spec] = []
    for at, active, cache in trial.memory_timeline:
        values.append({"at": at, "kind": spec.ACTIVE, "size": scale.convert(active), "order": 0})
        values.append({"at": at, "kind": spec.CACHE, "size": scale.convert(cache), "order": 1})
    axes = {
        "x": _seconds(trial, labels=not trial.footprint_timeline),
        "y": {**_size(scale, top, ticks=5), "stack": "zero"},
        "order": {"field": "order"},
        "color": spec.color_by_kind(),
    }
    area = {"type": "area", "interpolate": "step-after"}
    layers = [*_phases(trial, axes["x"]), spec.layer(area, axes)]
    if needed:
        layers.append(_needed_line(scale, needed, top))
    if shows_budget:
        layers.append(_budget_line(scale, budget))
    note = spec.budget_note(scale, budget)
    return spec.chart(_description("MLX memory", trial), layers, values, 200, scale.unit, note)


def footprint(trial: TrialResult) -> Chart:
    """Return the chart of the worker's footprint over time."""
    scale = SizeScale(size for _, size in trial.footprint_timeline)
    values = [
        {"at": at, "kind": spec.FOOTPRINT, "size": scale.convert(size)}
        for at, size in trial.footprint_timeline
    ]
    axes = {
        "x": _seconds(trial),
        "y": _size(scale, 1.05 * scale.largest, ticks=3),
        "color": spec.color_by_kind(),
    }
    # The first sample may be from before the worker's clock starts.
    area = {"type": "area", "line": {"strokeWidth": 2}, "fillOpacity": 0.2, "clip": True}
    layers = [
        *_phases(trial, axes["x"], labels=not trial.memory_timeline),
        spec.layer(area, axes),
    ]
    return spec.chart(_description("Footprint", trial), layers, values, 80, scale.unit)


def phase_spans(trial: TrialResult) -> list[Spec]:
    """Return each phase's name, start and end, in seconds since the worker started."""
    last = [at for at, *_ in trial.memory_timeline[-1:]]
    last += [event.at for event in (*trial.steps[-1:], *trial.phases[-1:])]
    ends = [*(phase.at for phase in trial.phases[1:]), max(last, default=0.0)]
    return [
        {"from": phase.at, "to": end, "phase": phase.phase}
        for phase, end in zip(trial.phases, ends, strict=False)
    ]


def _end(trial: TrialResult) -> float:
    """Return when the last sample or event of a trial was, in seconds."""
    samples = [at for at, *_ in (*trial.memory_timeline[-1:], *trial.footprint_timeline[-1:])]
    return max([*samples, *(span["to"] for span in phase_spans(trial))], default=0.0)


def _phases(trial: TrialResult, x: Spec, *, labels: bool = True) -> list[Spec]:
    """Return a band behind every other phase, and the phases' names above the chart."""
    spans = [span for span in phase_spans(trial) if span["to"] > span["from"]]
    band = {"type": "rect", "fill": "var(--band)"}
    start = {**x, "field": "from"}
    layers = [spec.layer(band, {"x": start, "x2": {"field": "to"}}, spans[::2])]
    if labels:
        text = {"type": "text", "align": "left", "baseline": "bottom", "color": "var(--soft)"}
        # About 7 pixels per character; a name with less room is left out.
        fits = f"(datum.to - datum.from) / {_end(trial)} * width > 7 * length(datum.phase)"
        place = {"x": start, "y": {"value": -4}, "text": {"field": "phase"}}
        layers.append(spec.layer(text, place, spans, fits))
    return layers


def _needed_line(scale: SizeScale, needed: int, top: float) -> Spec:
    """Return the line of needed memory, with its label on the left, below it if there is room.

    The budget's line, which may be close above it, has its label on the right.
    """
    below = {"baseline": "top", "dy": 4}
    above = {"baseline": "bottom", "dy": -2}
    style = {"align": "left", "dx": 4, **(below if needed > top / 5 else above)}
    label = spec.labeled("needed", needed)
    return spec.rule(scale.convert(needed), label, "y", {"x": {"value": 0}}, style)


def _budget_line(scale: SizeScale, budget: int) -> Spec:
    style = {"align": "right", "dx": -4, "baseline": "bottom", "dy": -2}
    label = spec.labeled("budget", budget)
    return spec.rule(scale.convert(budget), label, "y", {"x": {"value": "width"}}, style)


def _seconds(trial: TrialResult, *, labels: bool = True) -> Spec:
    """Return the encoding of the time, which both charts draw at the same scale."""
    scale = {"nice": False, "domain": [0, _end(trial)]}
    axis = {"grid": False, "labels": labels, "ticks": labels, "labelBound": True}
    return {**spec.quantity("at", "seconds" if labels else None), "scale": scale, "axis": axis}


def _size(scale: SizeScale, top: float, ticks: int) -> Spec:
    """Return the encoding of a size on an axis from 0 to ``top`` bytes."""
    axis = {"tickCount": ticks, "minExtent": _AXIS_WIDTH, "maxExtent": _AXIS_WIDTH}
    domain = [0, scale.convert(int(top))]
    return {**spec.quantity("size"), "axis": axis, "scale": {"domain": domain, "nice": False}}


def _description(what: str, trial: TrialResult) -> str:
    return f"{what} of {title(trial)}, {configuration(trial)}, over time"
