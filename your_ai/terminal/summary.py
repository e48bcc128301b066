"""A results document as a table in the terminal: pure."""

from __future__ import annotations

from collections.abc import Iterator

from your_ai.report.document import Document, Shown
from your_ai.terminal.tables import Row, table
from your_ai.terminal.wording import counted
from your_ai.units import show_size

_HEADS = ("Model", "Size", "Configuration", "Outcome", "Needed", "Peak", "Tokens/s", "Seconds")
_NUMBERS = frozenset({"Size", "Needed", "Peak", "Tokens/s", "Seconds"})


def summary(document: Document, columns: int | None = None) -> str:
    """The answer, the machine and every trial, for a terminal so wide."""
    trials = table(_HEADS, [_row(trial) for trial in document.trials], _NUMBERS, columns)
    return "\n".join([*_head(document), "", trials, "", *_foot(document)])


def _head(document: Document) -> Iterator[str]:
    yield f"Device: {document.device}, budget {show_size(document.budget_bytes)}"
    ending = "" if document.complete else "; it did not come to its end"
    yield f"Run of {document.started_at}{ending}"


def _row(trial: Shown) -> Row:
    return (
        trial.model,
        trial.params,
        trial.configuration,
        trial.verdict,
        _size(trial.needed_bytes),
        _size(trial.peak_bytes),
        _number(trial.tokens_per_second),
        _number(trial.wall_seconds),
    )


def _size(nbytes: int | None) -> str | None:
    return None if nbytes is None else show_size(nbytes)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}"


def _foot(document: Document) -> Iterator[str]:
    for trial in document.trials:
        if not trial.passed:
            yield f"{trial.model} ({trial.configuration}): {trial.reason}"
            if trial.advice:
                yield f"    try: {trial.advice}"
    for searched in document.searches:
        found = searched.best.configuration if searched.best else "none passed"
        proof = "proven" if searched.proven else "not proven"
        trials = counted(len(searched.trials), "trial")
        yield f"Optimal for {searched.model}: {found} ({proof}, {trials})"
    if document.recommended:
        yield f"Recommended: {document.recommended} (largest model that fits)"
    else:
        yield "Recommended: none (no model passed)"
