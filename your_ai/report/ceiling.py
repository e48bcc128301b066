"""The longest sequences that fit: a chart of what was measured and implied, and the table's texts.

All lengths are in tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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

_NARROW = "bandwidth('x') < 8 * length(datum.label)"
"""Whether a label has no room in its column: about 8 pixels per character. It is then rotated."""

_LOW = f"scale('y', datum.at) > {_HEIGHT - 70}"
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
    low, high = _domain(found, entry.data_lengths)
    values = [area for column in columns for area in _areas(column, low, high)]
    values += [_frontier(column, found) for column in columns if column.longest]
    values += [_measured(trial) for trial in trials if trial.is_final]
    x = {
        "field": "batch",
        "type": "ordinal",
        "title": "batch size",
        "scale": {"domain": [column.batch_size for column in columns], "padding": 0.06},
        "axis": {"labelAngle": 0, "ticks": False, "domain": False},
    }
    y = {
        **spec.quantity("at", "tokens per sequence"),
        "scale": {"type": "log", "base": 2, "domain": [low, high], "nice": False},
        "axis": {"values": _ticks(low, high), "labelExpr": "format(datum.value, ',')"},
    }
    layers = [*_area_layers(x, y), *_frontier_layers(x, y), *_trial_layers(x, y)]
    if entry.data_lengths is not None:
        layers += _data_rules(entry.data_lengths, columns)
    description = (
        f"{entry.preset}: sequence lengths that fit for each batch size, "
        f"{NAMES[grad_checkpoint]} gradient checkpointing"
    )
    return spec.chart(description, layers, values, _HEIGHT, "tokens")


def _domain(ceiling: Ceiling, lengths: Distribution | None) -> tuple[float, float]:
    """Return the limits of the length axis, which are the same for both kinds."""
    shown = [*ceiling.grid.seq_lengths, *(_of_data(lengths).values() if lengths else ())]
    low, high = min(shown), max(shown)
    margin = max(_LEAST_MARGIN, (high / low) ** _MARGIN)
    return round(low / margin, 3), round(high * margin, 3)


def _ticks(low: float, high: float) -> list[int]:
    """Return powers of two between the limits; other lengths if there are fewer than two."""
    powers = [2**n for n in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]
    if len(powers) < 2:
        return [math.ceil(low), math.floor(high)]
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


def _area_layers(x: Spec, y: Spec) -> list[Spec]:
    kinds = (spec.FITS, spec.TOO_LONG)
    axes = {"x": x, "y": y, "y2": {"field": "to"}, "color": spec.color_by_kind(), **spec.DESCRIBED}
    return [spec.layer({"type": "rect"}, axes, where=spec.is_kind(kind)) for kind in kinds]


def _frontier_layers(x: Spec, y: Spec) -> list[Spec]:
    """Return a line across the column, and the length below it.

    There is rarely room above it, because the shortest trial that did not pass is close to it.
    """
    tick = {"type": "tick", "thickness": 2, "size": {"expr": "bandwidth('x')"}, "opacity": 1}
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
    where = spec.is_kind(spec.LONGEST)
    axes = {"x": x, "y": y}
    color = spec.color_by_kind()
    return [
        spec.layer(tick, {**axes, "color": color, **spec.DESCRIBED}, where=where),
        spec.layer(text, {**axes, "text": {"field": "label"}}, where=where),
    ]


def _trial_layers(x: Spec, y: Spec) -> list[Spec]:
    """Return the marks of the trials that passed, and beside them of those that did not.

    Both are often close together: the longest length that fits and the next one.
    """
    mark = {"type": "point", "filled": True, "size": 80, "opacity": 1}
    outline = {"stroke": "var(--paper)", "strokeWidth": 1}
    axes = {"x": x, "y": y, "color": spec.color_by_kind(), **spec.DESCRIBED}
    places = {spec.PASSED: ("circle", -7), spec.FAILED: ("cross", 7)}
    return [
        spec.layer(
            {**mark, **outline, "shape": shape, "xOffset": offset}, axes, where=spec.is_kind(kind)
        )
        for kind, (shape, offset) in places.items()
    ]


def _of_data(lengths: Distribution) -> dict[str, int]:
    """Return the data's lengths that are shown, by their labels; an axis has no length of 0."""
    longest, most = max(1, lengths.longest), max(1, lengths.percentile_95)
    if longest == most:
        return {"longest sample, 95th percentile": longest}
    return {"95th percentile": most, "longest sample": longest}


def _data_rules(lengths: Distribution, columns: Sequence[Column]) -> list[Spec]:
    """Return lines at the lengths of the data, the longest with its label above the line."""
    *below, above = _of_data(lengths).items()
    layers = []
    for name, length in (*below, above):
        is_above = (name, length) == above
        style = {"baseline": "bottom", "dy": -3} if is_above else {"baseline": "top", "dy": 4}
        on_left = _distance(length, columns[: -(-len(columns) // 2)]) > _distance(
            length, columns[len(columns) // 2 :]
        )
        style |= {"align": "left", "dx": 4} if on_left else {"align": "right", "dx": -4}
        place = {"x": {"value": 0 if on_left else "width"}}
        layers.append(spec.rule(length, f"{name} {length:,}", "y", place, style))
    return layers


def _distance(length: int, columns: Sequence[Column]) -> float:
    """Return how far a length is from the columns' longest, as a logarithm."""
    known = (column.longest for column in columns if column.longest)
    return min((abs(math.log2(each / length)) for each in known), default=math.inf)
