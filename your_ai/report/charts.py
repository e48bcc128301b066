"""The report's charts as Vega-Lite specifications (https://vega.github.io/vega-lite/docs): pure.

Colours are the page's CSS variables, so that charts follow the light or dark theme; the rest of
their style is in page.js.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from your_ai.report.naming import configuration, title
from your_ai.runs.results import Results
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.outcome import OutcomeKind
from your_ai.units import GB, MB, show_size

Spec = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chart:
    """A specification, its legend (what each colour stands for), and what lies outside of it."""

    spec: Spec
    legend: tuple[tuple[str, str], ...]
    beyond: str | None = None


FIGURES: dict[str, tuple[str, str, Callable[[TrialResult], float | None]]] = {
    "capacity": ("batch × rank × layers", "score {:,.0f}", lambda trial: trial.config.capacity),
    "speed": ("tokens/s", "{:,.0f} tokens/s", lambda trial: trial.tokens_per_second),
}
"""What a search's charts set against memory: label, wording and value, if a trial has one."""

_NEEDED, _PEAK, _REACHED = "needed memory", "peak memory", "reached, then failed"
_ACTIVE, _CACHE, _FOOTPRINT = "active", "cache", "footprint"
_PASSED, _FAILED, _BEST = "passed", "failed", "best"
_COLOURS = {
    _NEEDED: "var(--needed)",
    _PEAK: "var(--peak)",
    _REACHED: "var(--failed)",
    _ACTIVE: "var(--needed)",
    _CACHE: "var(--peak)",
    _FOOTPRINT: "var(--footprint)",
    _BEST: "var(--best)",
    _PASSED: "var(--needed)",
    _FAILED: "var(--failed)",
}
_SHAPES = {_BEST: "diamond", _PASSED: "circle", _FAILED: "cross"}
_SAYS = {"field": "says", "type": "nominal"}
_SAID = {"tooltip": _SAYS, "description": _SAYS}
"""What a mark says to who points at it, and to a screen reader."""

_LEAST_LABELLED = 0.12
"""Of a trial's time: a phase that is shorter has no room for its name."""

_FAR = 3.0
"""A budget so many times beyond the largest figure would leave nothing to be seen of those."""


def ladder(results: Results) -> Chart:
    """Each model's needed and peak memory, or what it reached before it failed."""
    bars = [(title(t), kind, size) for t in results.results for kind, size in _bars_of(t).items()]
    scale = _Scale(size for *_, size in bars)
    values = [
        {
            "model": name,
            "kind": kind,
            "size": scale.of(size),
            "says": f"{name}: {kind} {show_size(size)}",
        }
        for name, kind, size in bars
    ]
    names = list(dict.fromkeys(map(title, results.results)))
    y = {
        "field": "model",
        "type": "nominal",
        "title": None,
        "axis": {"labelLimit": 150, "domain": False, "ticks": False},
        "scale": {"domain": names},
    }
    x = {**_quantity("size", scale.unit), "stack": None}
    axes = {"y": y, "x": x, "color": _colour(), **_SAID}
    layers = [
        _layer({"type": "bar", "height": height, "cornerRadiusEnd": 3}, axes, where=where)
        for where, height in ((_is(_PEAK), 22), (f"!({_is(_PEAK)})", 12))
    ]
    description = "Memory of each model against the budget"
    return _chart(description, layers, values, 34 * len(names), scale, results.budget_bytes, "x")


def timeline(trial: TrialResult) -> Chart:
    """A trial's memory over time, its phases behind it."""
    memory, footprint = trial.memory_timeline, trial.footprint_timeline
    scale = _Scale([*(active + cache for _, active, cache in memory), *(n for _, n in footprint)])
    values: list[Spec] = []
    for at, active, cache in memory:
        values.append({"at": at, "kind": _ACTIVE, "size": scale.of(active), "order": 0})
        values.append({"at": at, "kind": _CACHE, "size": scale.of(cache), "order": 1})
    values += [{"at": at, "kind": _FOOTPRINT, "size": scale.of(size)} for at, size in footprint]
    axes = {"x": _seconds("at"), "y": _quantity("size", scale.unit), "color": _colour()}
    stacked = {**axes, "y": {**axes["y"], "stack": "zero"}, "order": {"field": "order"}}
    area = {"type": "area", "opacity": 0.85, "interpolate": "step-after"}
    layers = [
        *_phases(trial),
        _layer(area, stacked, where=f"!({_is(_FOOTPRINT)})"),
        _layer({"type": "line", "strokeWidth": 2}, axes, where=_is(_FOOTPRINT)),
    ]
    if trial.needed_memory_bytes:
        # At the other end than the budget, to which it may be close.
        layers.append(_rule(scale, trial.needed_memory_bytes, "needed", "y", left=True))
    description = f"Memory of {title(trial)}, {configuration(trial)}, over time"
    return _chart(description, layers, values, 220, scale, trial.config.budget_bytes, "y")


def phase_spans(trial: TrialResult) -> list[Spec]:
    """Each phase's name, beginning and end, in seconds since the worker started."""
    heard = [at for at, *_ in trial.memory_timeline[-1:]]
    heard += [event.at for event in (*trial.steps[-1:], *trial.phases[-1:])]
    ends = [*(phase.at for phase in trial.phases[1:]), max(heard, default=0.0)]
    return [
        {"from": phase.at, "to": end, "phase": phase.phase}
        for phase, end in zip(trial.phases, ends, strict=False)
    ]


def search(entry: TrialResult, figure: str) -> Chart:
    """The configurations of a model's search: memory against one of `FIGURES`, the frontier."""
    found = entry.optimal_config
    assert found is not None
    label, wording, value_of = FIGURES[figure]
    points = [(t, y) for t in found.all_results if (y := value_of(t)) is not None]
    scale = _Scale(memory_of(trial) for trial, _ in points)
    best = found.best
    values = [_point(trial, y, trial is best, scale, wording) for trial, y in points]
    line = frontier((memory_of(trial), y) for trial, y in points if trial.success)
    axes = {
        "x": {**_quantity("size", scale.unit), "scale": {"zero": False, "padding": 12}},
        "y": {**_quantity("value", label), "scale": {"nice": True}},
    }
    steps = [{"size": scale.of(size), "value": value} for size, value in line]
    stairs = {"type": "line", "interpolate": "step-after", "color": "var(--needed)"}
    dots = {"type": "point", "filled": True, "size": 110, "opacity": 1}
    layers = [
        _layer(stairs, axes, steps),
        _layer(dots, {**axes, "color": _colour(_SHAPES), "shape": _by_kind(_SHAPES), **_SAID}),
    ]
    budget = max((trial.config.budget_bytes for trial, _ in points), default=0)
    description = f"{entry.preset}: memory against {label}"
    return _chart(description, layers, values, 260, scale, budget, "x")


def frontier(points: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """Those of (memory, figure) that no other has more of in no more memory, by memory."""
    best: list[tuple[int, float]] = []
    for size, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or value > best[-1][1]:
            best.append((size, value))
    return best


def memory_of(trial: TrialResult) -> int:
    """Needed memory in bytes, or if that is unknown the most active memory it reached."""
    return trial.needed_memory_bytes or _reached(trial)


def _reached(trial: TrialResult) -> int:
    reached = max((active for _, active, _ in trial.memory_timeline), default=0)
    if trial.outcome is OutcomeKind.OVER_BUDGET:  # maybe between two samples
        return max(reached, trial.config.budget_bytes)
    return reached


class _Scale:
    """Bytes in the unit that suits the largest of them."""

    def __init__(self, sizes: Iterable[int]) -> None:
        self.most = max(sizes, default=1)
        self._size, self.unit = (GB, "GB") if self.most >= GB else (MB, "MB")

    def of(self, nbytes: int) -> float:
        """``nbytes`` in that unit, as finely as it can be seen."""
        return round(nbytes / self._size, 3)


def _bars_of(trial: TrialResult) -> dict[str, int]:
    if trial.success and trial.needed_memory_bytes and trial.peak_memory_bytes:
        return {_PEAK: trial.peak_memory_bytes, _NEEDED: trial.needed_memory_bytes}
    reached = _reached(trial)
    return {_REACHED: reached} if reached else {}


def _point(trial: TrialResult, value: float, is_best: bool, scale: _Scale, wording: str) -> Spec:
    kind = _BEST if is_best else _PASSED if trial.success else _FAILED
    size = f"{'needs' if trial.needed_memory_bytes else 'reached'} {show_size(memory_of(trial))}"
    return {
        "size": scale.of(memory_of(trial)),
        "value": value,
        "kind": kind,
        "says": f"{configuration(trial)}: {trial.outcome.label}, {size}, {wording.format(value)}",
    }


def _phases(trial: TrialResult) -> list[Spec]:
    spans = [span for span in phase_spans(trial) if span["to"] > span["from"]]
    least = _LEAST_LABELLED * max((span["to"] for span in spans), default=0.0)
    wide = [span for span in spans if span["to"] - span["from"] > least]
    band = {"type": "rect", "fill": "var(--band)", "stroke": "var(--line)"}
    label = {"type": "text", "align": "left", "dx": 4, "baseline": "top"}
    x, top = _seconds("from"), {"value": 4}
    return [
        _layer(band, {"x": x, "x2": {"field": "to"}}, spans),
        _layer(label, {"x": x, "y": top, "text": {"field": "phase"}}, wide),
    ]


def _rule(scale: _Scale, nbytes: int, label: str, axis: str, *, left: bool = False) -> Spec:
    """A dashed line across the chart at ``nbytes`` on ``axis``, and at one end what it is."""
    at = {axis: {"field": "size", "type": "quantitative"}}
    place: Spec = {"y": {"value": -3}} if axis == "x" else {"x": {"value": 0 if left else "width"}}
    align = {"align": "left", "dx": 4} if left else {"align": "right", "dx": -4}
    line = {"type": "rule", "color": "var(--ink)", "strokeDash": [5, 4]}
    text = {"type": "text", **align, "baseline": "bottom"}
    return {
        "data": {"values": [{"size": scale.of(nbytes), "label": f"{label} {show_size(nbytes)}"}]},
        "layer": [_layer(line, at), _layer(text, {**at, **place, "text": {"field": "label"}})],
    }


def _layer(
    mark: Spec, encoding: Spec, values: list[Spec] | None = None, where: str | None = None
) -> Spec:
    """Marks for ``values``, by default for those of the chart ``where`` something holds."""
    data = {} if values is None else {"data": {"values": values}}
    transform = {} if where is None else {"transform": [{"filter": where}]}
    return {**data, **transform, "mark": mark, "encoding": encoding}


def _seconds(field: str) -> Spec:
    scale, axis = {"nice": False}, {"grid": False}
    return {**_quantity(field, "seconds"), "scale": scale, "axis": axis}


def _quantity(field: str, title: str) -> Spec:
    return {"field": field, "type": "quantitative", "title": title}


def _colour(kinds: Iterable[str] = _COLOURS) -> Spec:
    return _by_kind({kind: _COLOURS[kind] for kind in kinds})


def _by_kind(values: Mapping[str, str]) -> Spec:
    scale = {"domain": list(values), "range": list(values.values())}
    return {"field": "kind", "type": "nominal", "scale": scale, "legend": None}


def _is(kind: str) -> str:
    return f"datum.kind === '{kind}'"


def _chart(
    description: str,
    layers: list[Spec],
    values: list[Spec],
    height: int,
    scale: _Scale,
    budget_bytes: int,
    axis: str,
) -> Chart:
    """The layers, and the budget as a line across ``axis`` unless that lies far beyond."""
    beyond = None
    if budget_bytes <= _FAR * scale.most:
        layers.append(_rule(scale, budget_bytes, "budget", axis))
    else:
        beyond = f"The budget of {show_size(budget_bytes)} lies far beyond the chart."
    spec = {
        "description": description,
        "width": "container",
        "height": height,
        "data": {"values": values},
        "layer": layers,
    }
    kinds = {value["kind"] for value in values}
    return Chart(spec, tuple((k, c) for k, c in _COLOURS.items() if k in kinds), beyond)
