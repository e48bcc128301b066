"""Find the best configuration of a grid with few trials, and prove that it is the best.

Pure: the caller runs the proposals and passes the results back.

A configuration covers another if it is at least as large on every axis. Under an enforced memory
limit it then needs at least as much memory. So a failure rules out all configurations that cover
the failed one, and after a pass all configurations that it covers fit, too. The search follows the
boundary between the two, which takes few trials. A memory estimate decides the order of the trials,
but never the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from worker.protocol.configuration import Configuration
from your_ai.search.grid import Grid

CAUTION = 1.1
"""Until a trial passes, the estimate of what training adds is multiplied by this factor."""


class Objective(StrEnum):
    """What is maximized: the capacity score, or measured tokens per second."""

    CAPACITY = "capacity"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The options of a search."""

    grid: Grid
    objective: Objective
    exhaustive: bool


@dataclass(frozen=True, slots=True)
class Expected:
    """The estimated memory of a configuration, in bytes."""

    resident_bytes: int
    needed_bytes: int


@dataclass(frozen=True, slots=True)
class Tried:
    """How the trial of a configuration ended; ``fits`` is true if it passed.

    If it failed, ``too_large`` says whether memory was the cause. ``needed_bytes`` is known for a
    pass, and for a trial that failed after needed memory had been measured.
    """

    configuration: Configuration
    fits: bool
    needed_bytes: int | None = None
    tokens_per_second: float | None = None
    too_large: bool = True


@dataclass(frozen=True, slots=True)
class Certificate:
    """Why nothing better than ``optimum`` fits.

    ``failures`` are the smallest failed configurations that rule out better ones. ``unsettled`` are
    the configurations that may still be better: they were not tried and are not ruled out. If there
    are none, the optimum is proven. A configuration is ruled out if it covers a failed one or, if
    speed is the objective, if it covers a pass with the same batch size.
    """

    optimum: Configuration | None
    failures: tuple[Configuration, ...]
    unsettled: tuple[Configuration, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """A search in a grid. It has no state: every method takes the trials so far.

    ``expected`` estimates the memory of a configuration; it is ``None`` if no estimate is possible.
    An exhaustive search tries the whole grid.
    """

    grid: Grid
    budget_bytes: int
    objective: Objective = Objective.CAPACITY
    expected: Callable[[Configuration], Expected] | None = None
    exhaustive: bool = False

    def propose(self, tried: Sequence[Tried]) -> Configuration | None:
        """Return the configuration to try next; ``None`` if the best one is proven."""
        left = self._left(tried)
        if not left or self.exhaustive or self.objective is Objective.TOKENS:
            return min(left, key=_preference, default=None)
        fitting = self._expected_to_fit(tried)
        if fitting and (within := left & fitting):
            return max(within, key=_preference)
        if not any(t.fits for t in tried):
            return self.grid.smallest
        return self._most_decisive(tried, left, fitting)

    def is_settled(self, tried: Sequence[Tried]) -> bool:
        """Return whether nothing is left to try."""
        return not self._left(tried)

    def optimum(self, tried: Iterable[Tried]) -> Tried | None:
        """Return the best pass in the grid; of equally fast ones the one with more capacity."""
        by_speed = self.objective is Objective.TOKENS

        def worth(trial: Tried) -> tuple[float, tuple[int, int, int]]:
            speed = trial.tokens_per_second or 0.0
            return speed if by_speed else 0.0, trial.configuration.preference

        return max(self._passed(tried), key=worth, default=None)

    def certificate(self, tried: Sequence[Tried]) -> Certificate:
        """Return the proof of the optimum so far, with what it still lacks."""
        best = self.optimum(tried)
        failed = [t.configuration for t in tried if not t.fits]
        better = self._better(best)
        minimal = {c for c in failed if not any(c != other and c.covers(other) for other in failed)}
        decisive = {c for c in minimal if any(other.covers(c) for other in better)}
        return Certificate(
            best.configuration if best else None,
            tuple(sorted(decisive, key=_preference)),
            tuple(sorted(self._unsettled(tried), key=_preference)),
        )

    def _passed(self, tried: Iterable[Tried]) -> list[Tried]:
        """Return the passes in the grid."""
        return [t for t in tried if t.fits and t.configuration in self.grid.configurations]

    def _better(self, best: Tried | None) -> list[Configuration]:
        """Return the configurations that would be better than ``best`` if they fit."""
        if best is None or self.objective is Objective.TOKENS:
            return list(self.grid.configurations)
        preference = best.configuration.preference
        return [c for c in self.grid.configurations if c.preference > preference]

    def _unsettled(self, tried: Sequence[Tried]) -> set[Configuration]:
        failed = [t.configuration for t in tried if not t.fits]
        left = self._better(self.optimum(tried))
        if self.objective is Objective.TOKENS:
            passed = [t.configuration for t in self._passed(tried)]
            left = [c for c in left if not any(_is_no_faster(c, other) for other in passed)]
        return {c for c in left if not any(c.covers(other) for other in failed)}

    def _left(self, tried: Sequence[Tried]) -> set[Configuration]:
        """Return the configurations whose outcome is still needed."""
        if self.exhaustive:
            return {*self.grid.configurations} - {t.configuration for t in tried}
        return self._unsettled(tried)

    def _most_decisive(
        self, tried: Sequence[Tried], left: set[Configuration], fitting: set[Configuration] | None
    ) -> Configuration:
        """Return the configuration, not expected to fit, whose failure would rule out the most.

        It may be worse than the best so far: if a small one fails, that rules out many at once.
        """
        candidates = left
        if fitting is not None:
            settled = {c for c in self.grid.configurations if any(_settles(t, c) for t in tried)}
            candidates = left | ({*self.grid.configurations} - settled - fitting)
        return max(candidates, key=lambda c: (sum(o.covers(c) for o in left), c.preference))

    def _expected_to_fit(self, tried: Sequence[Tried]) -> set[Configuration] | None:
        """Return the configurations expected to fit; ``None`` if no forecast agrees with trials."""
        passed = [t for t in tried if t.fits]
        failed = [t for t in tried if not t.fits and (t.too_large or t.needed_bytes is not None)]
        needs = self._forecast(passed)
        unbounded = needs(self.grid.largest) if self.expected is None else math.inf
        low = max((needs(t.configuration) for t in passed), default=needs(self.grid.smallest))
        high = min((needs(t.configuration) for t in failed), default=unbounded)
        if failed and low >= high:
            if self.expected is None:
                return None
            return replace(self, expected=None)._expected_to_fit(tried)
        limit, middle = float(self.budget_bytes), (low + high) / 2
        if limit >= high and (failed or not passed):
            limit = middle  # a failure was forecast to fit, or the forecast is not in bytes yet
        if self.expected is None:
            limit = max(limit, middle)  # without resident memory the forecast is too high
        return {c for c in self.grid.configurations if needs(c) <= limit}

    def _forecast(self, passed: Sequence[Tried]) -> Callable[[Configuration], float]:
        """Return a function that forecasts needed memory.

        It is the estimate, corrected by the largest configuration that passed. The correction
        scales what training adds, or everything if the measured memory is less than the estimated
        resident memory.
        """
        by_resident, by_training = 1.0, CAUTION
        if passed:
            largest = max(passed, key=lambda t: sum(self._parts(t.configuration)))
            resident, training = self._parts(largest.configuration)
            measured = largest.needed_bytes or 0
            if training and measured > resident:
                by_training = (measured - resident) / training
            else:
                by_resident = by_training = measured / (resident + training or 1)

        def needs(configuration: Configuration) -> float:
            resident, training = self._parts(configuration)
            return by_resident * resident + by_training * training

        return needs

    def _parts(self, configuration: Configuration) -> tuple[float, float]:
        """Return the estimated resident memory and what training adds to it, in bytes.

        Without an estimate the first is 0, and the second a number without a unit that grows with
        each axis.
        """
        if self.expected is not None:
            known = self.expected(configuration)
            return known.resident_bytes, max(known.needed_bytes - known.resident_bytes, 0)
        top = self.grid.largest
        batch = configuration.batch_size / top.batch_size
        rank = configuration.lora_rank / top.lora_rank
        layers = configuration.lora_layers / top.lora_layers
        return 0, 1.5 * batch + rank * layers + batch * layers


def _settles(tried: Tried, configuration: Configuration) -> bool:
    """Return whether a trial's outcome implies whether ``configuration`` fits."""
    if tried.fits:
        return tried.configuration.covers(configuration)
    return configuration.covers(tried.configuration)


def _is_no_faster(configuration: Configuration, other: Configuration) -> bool:
    """Return whether it computes at least as much per token: more rank or layers add no speed."""
    return configuration.batch_size == other.batch_size and configuration.covers(other)


def _preference(configuration: Configuration) -> tuple[int, int, int]:
    return configuration.preference
