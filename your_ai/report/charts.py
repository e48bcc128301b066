"""The report's charts as Vega-Lite specifications (https://vega.github.io/vega-lite/docs): pure.

Colours are the page's own CSS variables, so that a chart follows the reader's light or dark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from your_ai.report.document import Phase, Searched, Shown
from your_ai.units import GB, MB, show_size

Spec = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chart:
    """A specification, its legend (what each colour stands for), and what lies outside of it."""

    spec: Spec
    legend: tuple[tuple[str, str], ...]
    beyond: str | None = None


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
_LEAST_LABELLED = 0.12
"""Of a trial's time: a phase that is shorter has no room for its name."""

_FAR = 3.0
"""A budget so many times beyond the largest figure would leave nothing to be seen of those."""

_CONFIG: Spec = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "gridColor": "var(--line)",
    },
    "axisX": {"tickCount": 6},
    "axisY": {"tickCount": 5},
    "text": {"color": "currentColor", "fontSize": 12},
}


def ladder(models: Sequence[Shown], budget_bytes: int) -> Chart:
    """Each model's needed and peak memory, or what it reached before it failed."""
    scale = _Scale(size for model in models for size in _sizes(model).values())
    bars = [
        {
            "model": model.name,
            "kind": kind,
            "size": scale.of(size),
            "says": f"{model.name}: {kind} {show_size(size)}",
        }
        for model in models
        for kind, size in _sizes(model).items()
    ]
    names = list(dict.fromkeys(model.name for model in models))
    y = {
        "field": "model",
        "type": "nominal",
        "title": None,
        "axis": {"labelLimit": 150, "domain": False, "ticks": False},
        "scale": {"domain": names},
    }
    layers = [
        _bars(_is(_PEAK), 22, y, scale),
        _bars(f"!({_is(_PEAK)})", 12, y, scale),
        *_budget(scale, budget_bytes, "x"),
    ]
    title = "Memory of each model against the budget"
    return _chart(title, layers, bars, 34 * len(names), _beyond(scale, budget_bytes))


def timeline(trial: Shown) -> Chart:
    """A trial's memory over time, its phases behind it."""
    used = [active + cache for _, active, cache in trial.memory]
    scale = _Scale([*used, *(size for _, size in trial.footprint)])
    values: list[Spec] = []
    for at, active, cache in trial.memory:
        values.append({"at": at, "kind": _ACTIVE, "size": scale.of(active), "order": 0})
        values.append({"at": at, "kind": _CACHE, "size": scale.of(cache), "order": 1})
    values += [{"at": t, "kind": _FOOTPRINT, "size": scale.of(size)} for t, size in trial.footprint]
    x, y = _seconds("at"), {"field": "size", "type": "quantitative", "title": scale.unit}
    stacked = {"x": x, "y": {**y, "stack": "zero"}, "color": _colour(), "order": {"field": "order"}}
    layers: list[Spec] = [
        *_phases(trial),
        {
            "transform": [{"filter": f"!({_is(_FOOTPRINT)})"}],
            "mark": {"type": "area", "opacity": 0.85, "interpolate": "step-after"},
            "encoding": stacked,
        },
        {
            "transform": [{"filter": _is(_FOOTPRINT)}],
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {"x": x, "y": y, "color": _colour()},
        },
        # At the other end than the budget, to which it may be close.
        *(
            [_rule(scale, trial.needed_bytes, "needed", "y", left=True)]
            if trial.needed_bytes
            else []
        ),
        *_budget(scale, trial.budget_bytes, "y"),
    ]
    title = f"Memory of {trial.name}, {trial.configuration}, over time"
    return _chart(title, layers, values, 220, _beyond(scale, trial.budget_bytes))


def search(searched: Searched, figure: str) -> Chart:
    """The configurations that were tried: memory against ``figure``, with the frontier.

    ``figure`` is "capacity", which a failed trial has too, or "speed", which only a pass has.
    """
    value: Callable[[Shown], float | None] = (
        (lambda trial: trial.capacity) if figure == "capacity" else (lambda t: t.tokens_per_second)
    )
    points = [(trial, y) for trial in searched.trials if (y := value(trial)) is not None]
    scale = _Scale(trial.size_bytes for trial, _ in points)
    values = [_point(trial, y, searched.best, scale, figure) for trial, y in points]
    line = frontier((trial.size_bytes, y) for trial, y in points if trial.passed)
    title = "batch × rank × layers" if figure == "capacity" else "tokens/s"
    axes = {
        "x": {**_quantity("size", scale.unit), "scale": {"zero": False, "padding": 12}},
        "y": {**_quantity("value", title), "scale": {"nice": True}},
    }
    shape = {"field": "kind", "type": "nominal", "scale": _scaled(_SHAPES), "legend": None}
    layers: list[Spec] = [
        {
            "data": {"values": [{"size": scale.of(size), "value": best} for size, best in line]},
            "mark": {"type": "line", "interpolate": "step-after", "color": "var(--needed)"},
            "encoding": axes,
        },
        {
            "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1},
            "encoding": {**axes, "color": _colour(_SHAPES), "shape": shape, **_said()},
        },
    ]
    budget = max((trial.budget_bytes for trial, _ in points), default=0)
    layers += _budget(scale, budget, "x")
    name = f"{searched.model}: memory against {title}"
    return _chart(name, layers, values, 260, _beyond(scale, budget))


def frontier(points: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """Those of (memory, figure) that no other has more of in no more memory, by memory."""
    best: list[tuple[int, float]] = []
    for size, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or value > best[-1][1]:
            best.append((size, value))
    return best


class _Scale:
    """Bytes in the unit that suits the largest of them."""

    def __init__(self, sizes: Iterable[int]) -> None:
        self.most = max(sizes, default=1)
        self._size, self.unit = (GB, "GB") if self.most >= GB else (MB, "MB")

    def of(self, nbytes: int) -> float:
        """``nbytes`` in that unit, as finely as it can be seen."""
        return round(nbytes / self._size, 3)

    def shows(self, nbytes: int) -> bool:
        """Whether it is near enough to the others to be shown with them."""
        return nbytes <= _FAR * self.most


def _sizes(model: Shown) -> dict[str, int]:
    if model.passed and model.needed_bytes and model.peak_bytes:
        return {_PEAK: model.peak_bytes, _NEEDED: model.needed_bytes}
    return {_REACHED: model.reached_bytes} if model.reached_bytes else {}


def _point(trial: Shown, value: float, best: Shown | None, scale: _Scale, figure: str) -> Spec:
    kind = _BEST if trial == best else _PASSED if trial.passed else _FAILED
    what = f"score {value:,.0f}" if figure == "capacity" else f"{value:,.0f} tokens/s"
    size = f"{'needs' if trial.needed_bytes else 'reached'} {show_size(trial.size_bytes)}"
    return {
        "size": scale.of(trial.size_bytes),
        "value": value,
        "kind": kind,
        "says": f"{trial.configuration}: {trial.verdict}, {size}, {what}",
    }


def _phases(trial: Shown) -> list[Spec]:
    length = max((phase.ended for phase in trial.phases), default=0.0)
    lasting = [phase for phase in trial.phases if phase.ended > phase.began]
    wide = [phase for phase in lasting if phase.ended - phase.began > _LEAST_LABELLED * length]
    return [
        {
            "data": {"values": [_band(phase) for phase in lasting]},
            "mark": {"type": "rect", "fill": "var(--band)", "stroke": "var(--line)"},
            "encoding": {"x": _seconds("from"), "x2": {"field": "to"}},
        },
        {
            "data": {"values": [_band(phase) for phase in wide]},
            "mark": {"type": "text", "align": "left", "dx": 4, "baseline": "top"},
            "encoding": {"x": _seconds("from"), "y": {"value": 4}, "text": {"field": "phase"}},
        },
    ]


def _band(phase: Phase) -> Spec:
    return {"from": phase.began, "to": phase.ended, "phase": phase.name}


def _bars(where: str, height: int, y: Spec, scale: _Scale) -> Spec:
    return {
        "transform": [{"filter": where}],
        "mark": {"type": "bar", "height": height, "cornerRadiusEnd": 3},
        "encoding": {
            "y": y,
            "x": {**_quantity("size", scale.unit), "stack": None},
            "color": _colour(),
            **_said(),
        },
    }


def _budget(scale: _Scale, nbytes: int, axis: str) -> list[Spec]:
    return [_rule(scale, nbytes, "budget", axis)] if scale.shows(nbytes) else []


def _beyond(scale: _Scale, budget_bytes: int) -> str | None:
    if scale.shows(budget_bytes):
        return None
    return f"The budget of {show_size(budget_bytes)} lies far beyond the chart."


def _rule(scale: _Scale, nbytes: int, label: str, axis: str, *, left: bool = False) -> Spec:
    """A dashed line across the chart at ``nbytes`` on ``axis``, and at one end what it is."""
    encoding = {axis: {"field": "size", "type": "quantitative"}}
    upright = axis == "x"
    align = {"align": "left", "dx": 4} if left else {"align": "right", "dx": -4}
    text = {**align, "baseline": "bottom"}
    place: Spec = {"y": {"value": -3}} if upright else {"x": {"value": 0 if left else "width"}}
    return {
        "data": {"values": [{"size": scale.of(nbytes), "label": f"{label} {show_size(nbytes)}"}]},
        "layer": [
            {
                "mark": {"type": "rule", "color": "var(--ink)", "strokeDash": [5, 4]},
                "encoding": encoding,
            },
            {
                "mark": {"type": "text", **text},
                "encoding": {**encoding, **place, "text": {"field": "label"}},
            },
        ],
    }


def _seconds(field: str) -> Spec:
    scale, axis = {"nice": False}, {"grid": False}
    return {**_quantity(field, "seconds"), "scale": scale, "axis": axis}


def _quantity(field: str, title: str) -> Spec:
    return {"field": field, "type": "quantitative", "title": title}


def _colour(kinds: Iterable[str] = _COLOURS) -> Spec:
    scale = _scaled({kind: _COLOURS[kind] for kind in kinds})
    return {"field": "kind", "type": "nominal", "scale": scale, "legend": None}


def _scaled(values: Mapping[str, str]) -> Spec:
    return {"domain": list(values), "range": list(values.values())}


def _said() -> Spec:
    """What a mark says to who points at it, and to a screen reader."""
    field = {"field": "says", "type": "nominal"}
    return {"tooltip": field, "description": field}


def _is(kind: str) -> str:
    return f"datum.kind === '{kind}'"


def _chart(
    description: str, layers: list[Spec], values: list[Spec], height: int, beyond: str | None
) -> Chart:
    spec = {
        "description": description,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": _CONFIG,
        "data": {"values": values},
        "layer": layers,
    }
    kinds = {value["kind"] for value in values}
    return Chart(spec, tuple((k, c) for k, c in _COLOURS.items() if k in kinds), beyond)
