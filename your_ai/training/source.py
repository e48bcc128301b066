"""Choose the measured trial that a training starts from: pure."""

from __future__ import annotations

from typing import TypeVar

from your_ai.errors import UsageError
from your_ai.runs.results import Results
from your_ai.runs.trial_result import TrialResult
from your_ai.units import parameters_of

T = TypeVar("T")


def choose(results: Results, name: str | None) -> TrialResult:
    """The best trial of the model called ``name``, by default of the recommended one.

    Raises:
        UsageError: if the results do not contain it, or it did not pass.
    """
    wanted = name if name is not None else results.recommended
    if wanted is None:
        raise UsageError("No model passed in these results, so there is nothing to train.")
    found = [entry for entry in results.results if wanted in (entry.preset, entry.model_name)]
    if not found:
        available = ", ".join(f"{entry.preset} ({entry.model_name})" for entry in results.results)
        raise UsageError(f"The results do not contain {wanted}. Available: {available or 'none'}.")
    # Two folders may have the same name; the recommended one is the larger of those that passed.
    entry = max(found, key=lambda each: (each.success, parameters_of(each.params)))
    best = (entry.optimal_config and entry.optimal_config.best) or entry
    if not best.success:
        raise UsageError(f"{best.preset} did not pass in these results: {best.error}.")
    return best


def known(figure: T | None) -> T:
    """A figure that every trial that passed has; raises UsageError if it is missing."""
    if figure is None:
        raise UsageError("The results lack a figure of a trial that passed; run it again.")
    return figure
