"""The charts that compare models and the configurations of a search."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from your_ai.report import spec
from your_ai.report.naming import configuration, title
from your_ai.report.spec import Chart, SizeScale, Spec
from your_ai.runs.results import Results
from your_ai.runs.trial_result import OptimalConfig, TrialResult
from your_ai.search.search import Objective
from your_ai.supervision.outcome import OutcomeKind
from your_ai.units import show_size

_MEMORY = (
    "Each mark shows a configuration and its needed memory (if it did not pass: the memory it "
    "reached)."
)


@dataclass(frozen=True, slots=True)
class Figure:
    """The vertical axis of a search's chart.

    Attributes:
        wording: the format of a value in a tooltip.
        value_of: returns a trial's value, or ``None`` if it has none.
        caption: a sentence about the marks.
    """

    label: str
    wording: str
    value_of: Callable[[TrialResult], float | None]
    caption: str


FIGURES = {
    "capacity": Figure(
        "batch × rank × layers", "score {:,.0f}", lambda trial: trial.config.capacity, _MEMORY
    ),
    "length": Figure(
        "tokens per sequence", "{:,.0f} tokens", lambda trial: trial.config.seq_length, _MEMORY
    ),
    "speed": Figure(
        "tokens/s",
        "{:,.0f} tokens/s",
        lambda trial: trial.tokens_per_second,
        "Training speed of the configurations that passed.",
    ),
}
"""What a search's charts can show."""

_SHAPES = {spec.BEST: "diamond", spec.PASSED: "circle", spec.FAILED: "cross"}

_ROW = 48
"""Height of a model's row in pixels: a line of text, and a bar below it."""


def ladder(results: Results) -> Chart:
    """Return the chart of each model's memory: needed and peak, or what it reached."""
    bars = [(title(t), kind, size) for t in results.results for kind, size in _bars(t).items()]
    scale = SizeScale(size for *_, size in bars)
    values = [
        {
            "model": name,
            "kind": kind,
            "size": scale.convert(size),
            "text": f"{name}: {kind} {show_size(size)}",
        }
        for name, kind, size in bars
    ]
    names = list(dict.fromkeys(map(title, results.results)))
    y = {
        "field": "model",
        "type": "nominal",
        "axis": None,
        "scale": {"domain": names, "padding": 0},
    }
    x = {
        **spec.quantity("size"),
        "stack": None,
        "axis": {"grid": False},
        "scale": {"nice": False},
    }
    axes = {"y": y, "x": x, "color": spec.color_by_kind(), **spec.DESCRIBED}
    is_needed = spec.is_kind(spec.NEEDED)
    bar = {"type": "bar", "yOffset": 9, "cornerRadiusEnd": 2}
    layers = [
        spec.layer({**bar, "height": 18}, axes, where=f"!({is_needed})"),
        spec.layer({**bar, "height": 8}, axes, where=is_needed),
        *_row_labels(results, y),
    ]
    if scale.can_show(results.budget_bytes):
        layers += _budget_marks(names, scale, results.budget_bytes, {"x": x, "y": y})
    note = spec.budget_note(scale, results.budget_bytes)
    description = "Memory of each model, and the budget"
    return spec.chart(description, layers, values, _ROW * len(names), scale.unit, note)


def figures(found: OptimalConfig) -> list[str]:
    """Return which of `FIGURES` tell the configurations of a search apart.

    A search for the longest sequence has its own chart instead of the capacity, which is the same
    for all lengths.
    """
    by_length = found.objective is Objective.LENGTH
    varies_length = by_length or "seq_lengths" in found.grid.varied
    shown = {"capacity": not by_length, "length": varies_length, "speed": True}
    return [figure for figure, is_shown in shown.items() if is_shown]


def search(entry: TrialResult, name: str) -> Chart:
    """Return the chart of a search: each configuration's memory and one of `FIGURES`."""
    found = entry.optimal_config
    assert found is not None
    figure = FIGURES[name]
    valued = ((trial, figure.value_of(trial)) for trial in entry.searched)
    points = [(trial, y) for trial, y in valued if y is not None and memory_of(trial)]
    scale = SizeScale(memory_of(trial) for trial, _ in points)
    best = found.best
    values = [_point(trial, y, trial is best, scale, figure.wording) for trial, y in points]
    line = frontier((memory_of(trial), y) for trial, y in points if trial.success)
    axes = {
        "x": {
            **spec.quantity("size", f"memory ({scale.unit})"),
            "scale": {"zero": False, "padding": 12},
        },
        "y": {**spec.quantity("value"), "scale": {"nice": True}},
    }
    steps = [{"size": scale.convert(size), "value": value} for size, value in line]
    stairs = {"type": "line", "interpolate": "step-after", "color": "var(--needed)"}
    dots = {"type": "point", "filled": True, "size": 110, "opacity": 1}
    look = {"color": spec.color_by_kind(_SHAPES), "shape": spec.by_kind(_SHAPES)}
    layers = [
        spec.layer(stairs, axes, steps),
        spec.layer(dots, {**axes, **look, **spec.DESCRIBED}),
    ]
    budget = max((trial.config.budget_bytes for trial in entry.searched), default=0)
    if scale.can_show(budget):
        style = {"align": "right", "baseline": "bottom"}
        label = spec.labeled("budget", budget)
        place = {"y": {"value": -4}}
        layers.append(spec.rule(scale.convert(budget), label, "x", place, style))
    note = spec.budget_note(scale, budget)
    description = f"{entry.preset}: {figure.label} and memory of each configuration"
    return spec.chart(description, layers, values, 240, scale.unit, note)


def frontier(points: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the (memory, value) points that no other point beats, by memory.

    A point beats another if it has at least the same value in at most the same memory.
    """
    best: list[tuple[int, float]] = []
    for size, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or value > best[-1][1]:
            best.append((size, value))
    return best


def memory_of(trial: TrialResult) -> int:
    """Return the needed memory in bytes, or if it is unknown the largest active memory."""
    return trial.needed_memory_bytes or _reached(trial)


def memory_text(trial: TrialResult) -> list[str]:
    """Return ``needs 6.0 GB`` or ``reached 8.0 GB``, or nothing if neither is known."""
    verb = "needs" if trial.needed_memory_bytes else "reached"
    return [f"{verb} {show_size(nbytes)}"] if (nbytes := memory_of(trial)) else []


def _reached(trial: TrialResult) -> int:
    reached = max((active for _, active, _ in trial.memory_timeline), default=0)
    if trial.outcome is OutcomeKind.OVER_BUDGET:
        # The peak may have been between two samples. For too large weights no worker is started.
        return max(reached, trial.config.budget_bytes, trial.weights_bytes or 0)
    return reached


def _bars(trial: TrialResult) -> dict[str, int]:
    if trial.success and trial.needed_memory_bytes and trial.peak_memory_bytes:
        return {spec.PEAK: trial.peak_memory_bytes, spec.NEEDED: trial.needed_memory_bytes}
    reached = _reached(trial)
    return {spec.REACHED: reached} if reached else {}


def _row_labels(results: Results, y: Spec) -> list[Spec]:
    """Return the text above each model's bar: its name on the left, its figures on the right."""
    values = [{"model": title(t), "figures": _row_figures(t)} for t in results.results]
    text = {"type": "text", "dy": -13, "baseline": "middle"}
    name = {**text, "align": "left", "fontSize": 13, "fontWeight": 600}
    # About 6.5 pixels per character of the figures; a longer name is cut.
    name["limit"] = {"expr": "max(80, width - 12 - 6.5 * length(datum.figures))"}
    figures = {**text, "align": "right", "color": "var(--soft)"}
    return [
        spec.layer(name, {"y": y, "x": {"value": 0}, "text": {"field": "model"}}, values),
        spec.layer(
            figures, {"y": y, "x": {"value": "width"}, "text": {"field": "figures"}}, values
        ),
    ]


def _row_figures(trial: TrialResult) -> str:
    bars = _bars(trial)
    if spec.NEEDED in bars:
        needed, peak = show_size(bars[spec.NEEDED]), show_size(bars[spec.PEAK])
        unit = peak[-3:]
        return f"needs {needed.removesuffix(unit)}, peak {peak}"
    verb = "more than" if trial.outcome is OutcomeKind.OVER_BUDGET else "reached"
    return ", ".join([trial.outcome.label, *(f"{verb} {show_size(n)}" for n in bars.values())])


def _budget_marks(names: list[str], scale: SizeScale, budget_bytes: int, axes: Spec) -> list[Spec]:
    """Return a mark across each bar, not one line across all, which would cross the labels."""
    size = scale.convert(budget_bytes)
    tick = {"type": "tick", "thickness": 2, "size": 26, "yOffset": 9, "opacity": 1}
    tick["color"] = "var(--ink)"
    label = {"type": "text", "align": "right", "baseline": "bottom"}
    place = {"x": axes["x"], "y": {"value": -2}, "text": {"field": "label"}}
    top = [{"size": size, "label": spec.labeled("budget", budget_bytes)}]
    return [
        spec.layer(tick, axes, [{"model": name, "size": size} for name in names]),
        spec.layer(label, place, top),
    ]


def _point(trial: TrialResult, value: float, is_best: bool, scale: SizeScale, wording: str) -> Spec:
    kind = spec.BEST if is_best else spec.PASSED if trial.success else spec.FAILED
    facts = ", ".join([trial.outcome.label, *memory_text(trial), wording.format(value)])
    return {
        "size": scale.convert(memory_of(trial)),
        "value": value,
        "kind": kind,
        "text": f"{configuration(trial)}: {facts}",
    }
