"""The longest sequences that fit: a chart of what was measured and implied, and the table's texts.

All lengths are in tokens.
"""

from __future__ import annotations

import math

from your_ai.planning.distribution import Distribution
from your_ai.report import spec
from your_ai.report.charts import memory_text
from your_ai.report.spec import Chart, Spec
from your_ai.runs.search_result import Column
from your_ai.runs.trial_result import Ceiling, TrialResult

NAMES = {True: "with", False: "without"}
"""With and without gradient checkpointing."""

_HEIGHT = 300
_MARGIN = 0.1
"""Part of the length axis below the shortest and above the longest length."""

_LEAST_MARGIN = 1.2
"""Factor of the margin, if the lengths are equal or close to each other."""

_MOST_TICKS = 6
_LINE_HEIGHT = 14

_DATA_NOTE = (
    "The dashed lines show the data: its longest sample, and the length that 95 % of its samples "
    "do not exceed."
)

_NARROW = "bandwidth('x') < 8 * length(datum.label)"
"""Whether a label has no room in its column: about 8 pixels per character. It is then rotated."""

_LOW = f"{_HEIGHT} - scale('y', datum.at) < 12 + 8 * length(datum.label)"
"""Whether a rotated label has no room below its mark."""


def kinds(ceiling: Ceiling) -> list[bool]:
    """Return whether there is gradient checkpointing, for each of the map's charts."""
    return list(dict.fromkeys(column.grad_checkpoint for column in ceiling.columns))


def rows(ceiling: Ceiling) -> dict[int, list[Column]]:
    """Return the columns of each batch size, in the order of `kinds`."""
    found: dict[int, list[Column]] = {}
    for column in ceiling.columns:
        found.setdefault(column.batch_size, []).append(column)
    return found


def longest(column: Column, ceiling: Ceiling) -> str:
    """Return the longest length, with ``≥`` if longer sequences may fit; none; or unknown."""
    if column.longest is None:
        return "none" if column.complete else "unknown"
    is_last = column.longest == ceiling.grid.seq_lengths[-1]
    return f"{'' if column.complete and not is_last else '≥ '}{column.longest:,}"


def proof(ceiling: Ceiling) -> str:
    """Return a sentence about the trials that the map is based on."""
    count = len(ceiling.all_results)
    trials = f"{count} trial{'' if count == 1 else 's'}"
    if not ceiling.complete:
        return f"Not complete after {trials}: longer sequences may fit."
    if not ceiling.proven:
        return f"Not proven in {trials}: memory may not be the cause of all failures."
    if all(column.longest is None for column in ceiling.columns):
        return f"Proven in {trials}: no length of the map fits."
    if all(column.shortest_failure is None for column in ceiling.columns):
        return f"Proven in {trials}: every length of the map fits."
    return (
        f"Proven in {trials}: every longer sequence failed, or needs at least as much memory as "
        "one that failed."
    )


def chart(entry: TrialResult, grad_checkpoint: bool) -> Chart:
    """Return the chart of an entry's map, with or without gradient checkpointing."""
    found = entry.ceiling
    assert found is not None
    columns = [column for column in found.columns if column.grad_checkpoint == grad_checkpoint]
    trials = [t for t in found.all_results if t.config.grad_checkpoint == grad_checkpoint]
    shown = _shown(found, entry.data_lengths)
    low, high = _domain(shown)
    values = [area for column in columns for area in _areas(column, low, high)]
    values += [_frontier(column, found) for column in columns if column.longest]
    values += [_measured(trial) for trial in trials if trial.is_final]
    axes = _axes([column.batch_size for column in columns], shown)
    present = {value["kind"] for value in values}
    layers = [layer for kind, layer in _layers(axes) if kind in present]
    note = None
    if entry.data_lengths is not None:
        layers += _data_rules(entry.data_lengths)
        note = _DATA_NOTE
    description = (
        f"{entry.preset}: sequence lengths that fit for each batch size, "
        f"{NAMES[grad_checkpoint]} gradient checkpointing"
    )
    return spec.chart(description, layers, values, _HEIGHT, "tokens", note)


def _axes(batch_sizes: list[int], shown: tuple[int, int]) -> Spec:
    x = {
        "field": "batch",
        "type": "ordinal",
        "title": "batch size",
        "scale": {"domain": batch_sizes, "padding": 0.06},
        "axis": {"labelAngle": 0, "ticks": False, "domain": False},
    }
    y = {
        **spec.quantity("at", "tokens per sequence"),
        "scale": {"type": "log", "base": 2, "domain": list(_domain(shown)), "nice": False},
        "axis": {"values": _ticks(*shown), "labelExpr": "format(datum.value, ',')"},
    }
    return {"x": x, "y": y}


def _shown(ceiling: Ceiling, lengths: Distribution | None) -> tuple[int, int]:
    """Return the shortest and the longest length in the charts of both kinds.

    The longest is that of a trial or of the data: a map can have lengths that are many times
    longer.
    """
    shown = [trial.config.seq_length for trial in ceiling.all_results]
    shown += _of_data(lengths).values() if lengths else ()
    return min(*ceiling.grid.seq_lengths, *shown), max(shown)


def _domain(shown: tuple[int, int]) -> tuple[float, float]:
    """Return the limits of the length axis."""
    shortest, longest = shown
    margin = max(_LEAST_MARGIN, (longest / shortest) ** _MARGIN)
    return round(shortest / margin, 3), round(longest * margin, 3)


def _ticks(shortest: int, longest: int) -> list[int]:
    """Return some powers of two; if there are fewer than two, the shortest and longest length."""
    powers = [2**n for n in range(longest.bit_length()) if shortest <= 2**n <= longest]
    if len(powers) < 2:
        return sorted({shortest, longest})
    return powers[:: math.ceil(len(powers) / _MOST_TICKS)]


def _areas(column: Column, low: float, high: float) -> list[Spec]:
    """Return the lengths that are known to fit and not to fit, each as one area."""
    areas: list[Spec] = []
    batch = column.batch_size
    if column.longest:
        text = f"batch {batch}: sequences of up to {column.longest:,} tokens fit"
        areas.append({"kind": spec.FITS, "at": low, "to": column.longest, "text": text})
    if column.shortest_failure:
        text = f"batch {batch}: sequences of {column.shortest_failure:,} tokens or more do not fit"
        area = {"kind": spec.TOO_LONG, "at": column.shortest_failure, "to": high, "text": text}
        areas.append(area)
    return [{"batch": batch, **area} for area in areas]


def _frontier(column: Column, ceiling: Ceiling) -> Spec:
    reason = "measured" if column.measured else "a trial that needs as much memory or more passed"
    length = longest(column, ceiling)
    return {
        "batch": column.batch_size,
        "kind": spec.LONGEST,
        "at": column.longest,
        "label": length,
        "text": f"batch {column.batch_size}: longest sequence {length} tokens ({reason})",
    }


def _measured(trial: TrialResult) -> Spec:
    c, speed = trial.config, trial.tokens_per_second
    figures = [f"{speed:,.0f} tokens/s"] if speed is not None else []
    what = ", ".join([trial.outcome.label, *memory_text(trial), *figures])
    return {
        "batch": c.batch_size,
        "kind": spec.PASSED if trial.success else spec.FAILED,
        "at": c.seq_length,
        "text": f"batch {c.batch_size}, length {c.seq_length:,}: {what}",
    }


def _layers(axes: Spec) -> list[tuple[str, Spec]]:
    """Return each kind's marks; without values, a screen reader would find a mark without a name.

    The trials that passed are drawn beside those that did not. Both are often close together: the
    longest length that fits and the next one.
    """
    tick = {"type": "tick", "thickness": 2, "size": {"expr": "bandwidth('x')"}, "opacity": 1}
    point = {"type": "point", "filled": True, "size": 80, "opacity": 1}
    marks: dict[str, Spec] = {
        spec.FITS: {"type": "rect"},
        spec.TOO_LONG: {"type": "rect"},
        spec.LONGEST: tick,
        spec.PASSED: {**point, "shape": "circle", "xOffset": -7},
        spec.FAILED: {**point, "shape": "cross", "xOffset": 7},
    }
    encoding = {**axes, "color": spec.color_by_kind(), **spec.DESCRIBED}
    area = {**encoding, "y2": {"field": "to"}}
    drawn = []
    for kind, mark in marks.items():
        used = area if mark["type"] == "rect" else encoding
        drawn.append((kind, spec.layer(mark, used, where=spec.is_kind(kind))))
    return [*drawn, (spec.LONGEST, _frontier_labels(axes))]


def _frontier_labels(axes: Spec) -> Spec:
    """Return the longest lengths, below their lines.

    There is rarely room above, because the shortest trial that did not pass is close to the line.
    """
    # A rotated label reads upwards, so that it ends below the line, or starts above it.
    rotated = f"{_NARROW} ? ({_LOW} ? 'left' : 'right') : 'center'"
    text = {
        "type": "text",
        "fontWeight": 600,
        "angle": {"expr": f"{_NARROW} ? -90 : 0"},
        "align": {"expr": rotated},
        "baseline": {"expr": f"{_NARROW} ? 'middle' : 'top'"},
        "dx": {"expr": f"{_NARROW} ? ({_LOW} ? 9 : -9) : 0"},
        "dy": {"expr": f"{_NARROW} ? 0 : 8"},
    }
    encoding = {**axes, "text": {"field": "label"}}
    return spec.layer(text, encoding, where=spec.is_kind(spec.LONGEST))


def _of_data(lengths: Distribution) -> dict[str, int]:
    """Return the data's lengths that are shown, by their labels; a log axis has no length of 0."""
    return {"longest": max(1, lengths.longest), "95 %": max(1, lengths.percentile_95)}


def _data_rules(lengths: Distribution) -> list[Spec]:
    """Return lines at the lengths of the data, with their labels to the right of the chart.

    The label of the longest sample is above its line and the other one is below, because both
    lines may be close together.
    """
    layers = []
    for (name, length), baseline in zip(_of_data(lengths).items(), ("bottom", "top"), strict=True):
        # Vega places only the first line of a text above the line.
        dy = -_LINE_HEIGHT if baseline == "bottom" else 0
        style = {"align": "left", "baseline": baseline, "dx": 6, "dy": dy}
        style["lineHeight"] = _LINE_HEIGHT
        label = [name, f"{length:,}"]
        layers.append(spec.rule(length, label, "y", {"x": {"value": "width"}}, style))
    return layers
