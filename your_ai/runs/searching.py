"""The state of a search for one model: what its trials have shown so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from worker.protocol.configuration import Configuration
from your_ai.errors import UsageError
from your_ai.models.quantization import Quantization
from your_ai.models.resolve import Model
from your_ai.planning.memory_estimate import error_share, estimate
from your_ai.planning.plan import Trial
from your_ai.runs.trial_result import TrialResult
from your_ai.search.forecast import Expected, Tried
from your_ai.search.grid import Grid, lengths_up_to
from your_ai.search.search import Search, SearchOptions


@dataclass(frozen=True, slots=True)
class SearchState:
    """A search and its trials, in the order in which they ended."""

    search: Search
    results: tuple[TrialResult, ...]

    @property
    def tried(self) -> list[Tried]:
        """The final results, in the form that the search takes."""
        return [result.tried for result in self.results if result.is_final]

    @property
    def is_finished(self) -> bool:
        """Whether the search is finished."""
        return self.search.is_settled(self.tried)

    @property
    def is_proven(self) -> bool:
        """Whether failures caused by memory are enough to prove the result."""
        sound = [tried for tried in self.tried if tried.fits or tried.too_large]
        return not self.search.certificate(sound).unsettled


def lengths_for(model: Model, options: SearchOptions) -> tuple[int, ...]:
    """Return the sequence lengths to search; none if the length is not varied.

    Raises:
        UsageError: if the model allows none of them.
    """
    longest = model.max_seq_length
    if options.objective.by_length and not options.axes.seq_lengths:
        return lengths_up_to(longest)
    allowed = [n for n in options.axes.seq_lengths if longest is None or n <= longest]
    if options.axes.seq_lengths and not allowed:
        raise UsageError(
            f"All --seq-lengths are too long for {model.name}. Use at most {longest} tokens."
        )
    return tuple(allowed)


def grid_for(trial: Trial, options: SearchOptions) -> Grid:
    """Return the grid that is searched for the trial's model; raise like `lengths_for`."""
    axes = replace(options.axes, seq_lengths=lengths_for(trial.model, options))
    return axes.around(trial.configuration, trial.model.layers, trial.quantizations)


def search_for(trial: Trial, options: SearchOptions, backend: str) -> Search:
    """Return the search for the trial's model within its budget."""
    return Search(
        grid_for(trial, options),
        trial.request.budget_bytes,
        options.objective,
        _expectation(trial, backend),
        options.exhaustive,
        error_share(trial.configuration, backend),
    )


def _expectation(trial: Trial, backend: str) -> Callable[[Configuration], Expected | None]:
    """Return a function that estimates memory, or returns ``None`` if that is not possible."""
    kinds = {Quantization.of(each.configuration): each for each in (trial, *trial.others)}

    @cache
    def expected(configuration: Configuration) -> Expected | None:
        own = kinds.get(Quantization.of(configuration), trial)
        if own.is_too_large:  # its weights alone prove that it does not fit
            return Expected(own.weights_bytes, own.weights_bytes)
        found = estimate(own.model, configuration, backend)
        return Expected(found.resident_bytes, found.needed_bytes) if found else None

    return expected
