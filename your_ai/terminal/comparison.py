"""A comparison as text, JSON, or Markdown for a comment on a pull request: pure."""

from __future__ import annotations

import math
from collections.abc import Callable

from your_ai.files import to_json
from your_ai.report.compare import Comparison, Pair
from your_ai.terminal.wording import counted
from your_ai.units import show_size

_FIGURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "needed_memory_bytes": ("needed", lambda nbytes: show_size(round(nbytes))),
    "peak_memory_bytes": ("peak", lambda nbytes: show_size(round(nbytes))),
    "tokens_per_second": ("tokens/s", lambda tokens: f"{tokens:,.0f}"),
}
_HEADS = ("trial", "outcome", *(label for label, _ in _FIGURES.values()), "")
_REGRESSION = "  ← regression"


def as_text(comparison: Comparison, threshold: float) -> str:
    """One paragraph per trial, with its changes; regressions are marked."""
    lines = _differences(comparison)
    for pair in comparison.pairs:
        regressions = pair.regressions(threshold)
        lines.append(f"{_mark(regressions)} {pair.name}")
        shown = {name: f"{_FIGURES[name][0]} {_cell(pair, name)}" for name in pair.changes}
        if pair.outcome_before != pair.outcome_after or not pair.changes:
            shown = {"outcome": f"outcome {_outcome(pair)}", **shown}
        for name, text in shown.items():
            lines.append(f"    {text}{_REGRESSION if name in regressions else ''}")
    return "\n".join([*lines, *_unpaired(comparison), _verdict(comparison, threshold)])


def as_markdown(comparison: Comparison, threshold: float) -> str:
    """A table, with regressions in bold."""
    rows = [_HEADS, ("---",) * len(_HEADS)]
    for pair in comparison.pairs:
        regressions = pair.regressions(threshold)
        cells = {"outcome": _outcome(pair), **{name: _cell(pair, name) for name in _FIGURES}}
        marked = [f"**{cell}**" if name in regressions else cell for name, cell in cells.items()]
        rows.append((pair.name, *marked, _mark(regressions)))
    table = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    notes = [f"- {line}" for line in (*_differences(comparison), *_unpaired(comparison))]
    return "\n".join([f"**{_verdict(comparison, threshold)}**", "", *table, "", *notes]).rstrip()


def as_json(comparison: Comparison, threshold: float) -> str:
    """All values, with full precision."""
    content = {
        "regression": comparison.has_regression(threshold),
        "fail_above": threshold,
        "differences": comparison.differences,
        "only_in_base": comparison.only_before,
        "only_in_new": comparison.only_after,
        "lost": comparison.lost,
        "trials": [
            {
                "trial": pair.name,
                "outcome": {"base": pair.outcome_before, "new": pair.outcome_after},
                "regressions": pair.regressions(threshold),
                **{
                    name: {"base": c.before, "new": c.after, "change": c.share, "noise": c.noise}
                    for name, c in pair.changes.items()
                },
            }
            for pair in comparison.pairs
        ],
    }
    return to_json(content).decode().rstrip()


FORMATS: dict[str, Callable[[Comparison, float], str]] = {
    "text": as_text,
    "json": as_json,
    "markdown": as_markdown,
}


def _mark(regressions: list[str]) -> str:
    return "✗" if regressions else "✓"


def _outcome(pair: Pair) -> str:
    if pair.outcome_before == pair.outcome_after:
        return pair.outcome_after
    return f"{pair.outcome_before} → {pair.outcome_after}"


def _cell(pair: Pair, name: str) -> str:
    change = pair.changes.get(name)
    if change is None:
        return "–"
    show = _FIGURES[name][1]
    noise = f", noise {change.noise:.1%}" if 0.001 <= change.noise < 1 else ""
    if math.isinf(change.noise):  # too few steps, --memory-only, or measured on battery
        noise = ", not compared"
    return f"{show(change.before)} → {show(change.after)} ({change.share:+.1%}{noise})"


def _differences(comparison: Comparison) -> list[str]:
    return [f"Difference: {difference}" for difference in comparison.differences]


def _unpaired(comparison: Comparison) -> list[str]:
    return [
        *(f"Trial only in BASE: {name}" for name in comparison.only_before),
        *(f"Trial only in NEW: {name}" for name in comparison.only_after),
        *(
            f"Model that passed in BASE is missing in NEW: {name}{_REGRESSION}"
            for name in comparison.lost
        ),
    ]


def _verdict(comparison: Comparison, threshold: float) -> str:
    worse = sum(bool(pair.regressions(threshold)) for pair in comparison.pairs)
    if comparison.lost and not worse:
        count = len(comparison.lost)
        verb = "is" if count == 1 else "are"
        return f"{counted(count, 'model')} that passed in BASE {verb} missing in NEW."
    compared = counted(len(comparison.pairs), "compared trial")
    limit = f"by more than {threshold * 100:g}% and by more than the noise"
    if not worse:
        return f"No regression: no compared figure became worse {limit} ({compared})."
    return f"{worse} of {compared} failed or became worse {limit}."
