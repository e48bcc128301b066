"""Building blocks of the report's Vega-Lite specifications.

See https://vega.github.io/vega-lite/docs. Colors are CSS variables of the page, so that the charts
follow its light or dark theme. `page.js` sets the fonts and the style of the axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from your_ai.units import GB, MB, show_size

Spec = dict[str, Any]

NEEDED, PEAK, REACHED = "needed memory", "peak memory", "memory reached or needed (did not pass)"
ACTIVE, CACHE, FOOTPRINT = "active", "cache", "footprint"
BEST, PASSED, FAILED = "best", "passed", "did not pass"
LONGEST, FITS, TOO_LONG = "longest that fits", "implied to fit", "implied not to fit"
COLORS = {
    NEEDED: "var(--needed)",
    PEAK: "var(--peak)",
    REACHED: "var(--failed)",
    ACTIVE: "var(--needed)",
    CACHE: "var(--peak)",
    FOOTPRINT: "var(--footprint)",
    BEST: "var(--best)",
    PASSED: "var(--needed)",
    FAILED: "var(--failed)",
    LONGEST: "var(--ink)",
    FITS: "var(--fits)",
    TOO_LONG: "var(--too-long)",
}
"""The color of each kind of mark."""

_TEXT = {"field": "text", "type": "nominal"}
DESCRIBED = {"tooltip": _TEXT, "description": _TEXT}
"""Encoding of marks whose ``text`` is their tooltip and their description for screen readers."""

_FAR = 3.0
"""A budget this many times the largest size is not drawn, because it would flatten the rest."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A Vega-Lite specification with its legend.

    Attributes:
        unit: of the sizes or lengths.
        legend: name and color of each kind of mark.
        note: says that the budget is outside the chart, if it is.
    """

    spec: Spec
    unit: str
    legend: tuple[tuple[str, str], ...]
    note: str | None = None


class SizeScale:
    """Convert bytes to GB, or to MB if all sizes are below one GB."""

    def __init__(self, sizes: Iterable[int]) -> None:
        self.largest = max(sizes, default=1)
        self._bytes, self.unit = (GB, "GB") if self.largest >= GB else (MB, "MB")

    def convert(self, nbytes: int) -> float:
        """Return ``nbytes`` in the scale's unit, rounded to three decimals."""
        return round(nbytes / self._bytes, 3)

    def can_show(self, nbytes: int) -> bool:
        """Return whether a line at ``nbytes`` leaves enough room for the largest size."""
        return nbytes <= _FAR * self.largest


def chart(
    description: str,
    layers: list[Spec],
    values: list[Spec],
    height: int,
    unit: str,
    note: str | None = None,
) -> Chart:
    """Return a chart as wide as its container; each of ``values`` has a ``kind``."""
    spec = {
        "description": description,
        "width": "container",
        "height": height,
        "data": {"values": values},
        "layer": layers,
    }
    kinds = {value["kind"] for value in values}
    legend = tuple((kind, color) for kind, color in COLORS.items() if kind in kinds)
    return Chart(spec, unit, legend, note)


def budget_note(scale: SizeScale, budget_bytes: int) -> str | None:
    """Return a sentence about a budget that is too far away to be drawn, else ``None``."""
    if scale.can_show(budget_bytes):
        return None
    return f"The budget ({show_size(budget_bytes)}) is far beyond this chart."


def layer(
    mark: Spec, encoding: Spec, values: list[Spec] | None = None, where: str | None = None
) -> Spec:
    """Return marks for ``values``, by default for those of the chart; ``where`` filters them."""
    data = {} if values is None else {"data": {"values": values}}
    transform = {} if where is None else {"transform": [{"filter": where}]}
    return {**data, **transform, "mark": mark, "encoding": encoding}


def rule(at: float, label: str | list[str], axis: str, place: Spec, text_style: Spec) -> Spec:
    """Return a dashed line at a value of ``axis``; ``place`` is its label's other coordinate.

    A label can have several lines.
    """
    encoding = {axis: {"field": "at", "type": "quantitative"}}
    line = {"type": "rule", "color": "var(--ink)", "strokeDash": [5, 4]}
    text = {"type": "text", **text_style}
    return {
        "data": {"values": [{"at": at, "label": label}]},
        "layer": [
            layer(line, encoding),
            layer(text, {**encoding, **place, "text": {"field": "label"}}),
        ],
    }


def labeled(label: str, nbytes: int) -> str:
    """Return ``budget 12.4 GB``."""
    return f"{label} {show_size(nbytes)}"


def quantity(field: str, title: str | None = None) -> Spec:
    """Return the encoding of a number."""
    return {"field": field, "type": "quantitative", "title": title}


def color_by_kind(kinds: Iterable[str] = COLORS) -> Spec:
    """Return the encoding of a mark's kind as its color."""
    return by_kind({kind: COLORS[kind] for kind in kinds})


def by_kind(values: Mapping[str, str]) -> Spec:
    """Return the encoding of a mark's kind as one of ``values``; the page has its own legends."""
    scale = {"domain": list(values), "range": list(values.values())}
    return {"field": "kind", "type": "nominal", "scale": scale, "legend": None}


def is_kind(kind: str) -> str:
    """Return a Vega expression that selects the marks of one kind."""
    return f"datum.kind === '{kind}'"
