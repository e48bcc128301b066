"""Which configuration to try next, and what proves the best one.

Pure: the caller runs the proposals and passes the results back. A handful of trials is enough
because fit is monotone on each axis under an enforced limit: a failure speaks for every
configuration that covers it, a pass for all that it covers. The search walks along the staircase
between the two, guided by an estimate, which decides the order of the trials and never the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from worker.protocol.messages import Configuration
from your_ai.search.grid import Grid

CAUTION = 1.1
"""Until a trial passes, training is expected to need this many times what is estimated."""


class Objective(StrEnum):
    """What makes one configuration better than another."""

    CAPACITY = "capacity"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What a search looks for, and where."""

    grid: Grid
    objective: Objective
    exhaustive: bool


@dataclass(frozen=True, slots=True)
class Expected:
    """The memory that a configuration is estimated to take, in bytes."""

    resident_bytes: int
    needed_bytes: int


@dataclass(frozen=True, slots=True)
class Tried:
    """How the trial of a configuration ended: ``fits`` when it passed.

    One that did not was ``too_large``, or failed in a way that says nothing of its memory.
    ``needed_bytes`` is known of a pass, and of a trial that failed later than when it measured it.
    """

    configuration: Configuration
    fits: bool
    needed_bytes: int | None = None
    tokens_per_second: float | None = None
    too_large: bool = True


@dataclass(frozen=True, slots=True)
class Certificate:
    """Why nothing better fits.

    ``failures`` are the least of the failed configurations that speak for others. ``unsettled`` are
    the configurations that may be better and are neither tried nor spoken for: by a failure that
    they cover or, where speed is the objective, by a pass with the same batch and less to compute.
    When there are none, nothing better is left.
    """

    optimum: Configuration | None
    failures: tuple[Configuration, ...]
    unsettled: tuple[Configuration, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """One search: it knows only what it is told, and answers the same each time.

    ``expected`` estimates what a configuration takes; ``None`` where nothing is known beforehand.
    An exhaustive search tries the whole grid.
    """

    grid: Grid
    budget_bytes: int
    objective: Objective = Objective.CAPACITY
    expected: Callable[[Configuration], Expected] | None = None
    exhaustive: bool = False

    def propose(self, tried: Sequence[Tried]) -> Configuration | None:
        """The configuration to try next; ``None`` when the best one is proven."""
        left = self._left(tried)
        if not left or self.exhaustive or self.objective is Objective.TOKENS:
            return min(left, key=_preference, default=None)
        fitting = self._expected_to_fit(tried)
        if fitting and (within := left & fitting):
            return max(within, key=_preference)
        if not any(t.fits for t in tried):
            return self.grid.smallest
        return self._best_to_fail(tried, left, fitting)

    def is_settled(self, tried: Sequence[Tried]) -> bool:
        """Whether nothing is left to try."""
        return not self._left(tried)

    def optimum(self, tried: Iterable[Tried]) -> Tried | None:
        """The best of the grid that passed; of equally fast ones the one of larger capacity."""
        by_speed = self.objective is Objective.TOKENS

        def worth(trial: Tried) -> tuple[float, tuple[int, int, int]]:
            speed = trial.tokens_per_second or 0.0
            return speed if by_speed else 0.0, trial.configuration.preference

        return max(self._passed(tried), key=worth, default=None)

    def certificate(self, tried: Sequence[Tried]) -> Certificate:
        """What proves the optimum so far, or what is still missing."""
        best = self.optimum(tried)
        failed = [t.configuration for t in tried if not t.fits]
        better = self._better(best)
        least = {c for c in failed if not any(c != other and c.covers(other) for other in failed)}
        speaking = {c for c in least if any(other.covers(c) for other in better)}
        return Certificate(
            best.configuration if best else None,
            tuple(sorted(speaking, key=_preference)),
            tuple(sorted(self._unsettled(tried), key=_preference)),
        )

    def _passed(self, tried: Iterable[Tried]) -> list[Tried]:
        """The passes within the grid."""
        return [t for t in tried if t.fits and t.configuration in self.grid.configurations]

    def _better(self, best: Tried | None) -> list[Configuration]:
        """The configurations that would be preferred if they fitted."""
        if best is None or self.objective is Objective.TOKENS:
            return list(self.grid.configurations)
        than = best.configuration.preference
        return [c for c in self.grid.configurations if c.preference > than]

    def _unsettled(self, tried: Sequence[Tried]) -> set[Configuration]:
        failed = [t.configuration for t in tried if not t.fits]
        left = self._better(self.optimum(tried))
        if self.objective is Objective.TOKENS:
            passed = [t.configuration for t in self._passed(tried)]
            left = [c for c in left if not any(_no_faster(c, than) for than in passed)]
        return {c for c in left if not any(c.covers(other) for other in failed)}

    def _left(self, tried: Sequence[Tried]) -> set[Configuration]:
        """The configurations whose outcome is still needed."""
        if self.exhaustive:
            return {*self.grid.configurations} - {t.configuration for t in tried}
        return self._unsettled(tried)

    def _best_to_fail(
        self, tried: Sequence[Tried], left: set[Configuration], fitting: set[Configuration] | None
    ) -> Configuration:
        """The configuration not expected to fit whose failure would settle most.

        It may be worse than the best so far: a small one that fails can settle many at once.
        """
        candidates = left
        if fitting is not None:
            known = {c for c in self.grid.configurations if any(_speaks_for(t, c) for t in tried)}
            candidates = left | ({*self.grid.configurations} - known - fitting)
        return max(candidates, key=lambda c: (sum(o.covers(c) for o in left), c.preference))

    def _expected_to_fit(self, tried: Sequence[Tried]) -> set[Configuration] | None:
        """The configurations expected to fit; ``None`` if the trials contradict every forecast."""
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
            limit = middle  # A failure was forecast to fit, or the forecast is not in bytes yet.
        if self.expected is None:
            limit = max(limit, middle)  # Without resident memory the forecast is too high.
        return {c for c in self.grid.configurations if needs(c) <= limit}

    def _forecast(self, passed: Sequence[Tried]) -> Callable[[Configuration], float]:
        """The estimate of needed memory, corrected by the largest configuration that passed.

        The correction applies to what training adds, or to everything if less was measured than is
        estimated to be resident.
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
        """The resident memory and what training adds to it, as estimated, in bytes.

        Without an estimate: nothing resident, and a sum of the terms of training without a unit.
        """
        if self.expected is not None:
            known = self.expected(configuration)
            return known.resident_bytes, max(known.needed_bytes - known.resident_bytes, 0)
        top = self.grid.largest
        batch = configuration.batch_size / top.batch_size
        rank = configuration.lora_rank / top.lora_rank
        layers = configuration.lora_layers / top.lora_layers
        return 0, 1.5 * batch + rank * layers + batch * layers


def _speaks_for(tried: Tried, configuration: Configuration) -> bool:
    """Whether this trial's end tells how that configuration would end."""
    if tried.fits:
        return tried.configuration.covers(configuration)
    return configuration.covers(tried.configuration)


def _no_faster(configuration: Configuration, than: Configuration) -> bool:
    """Whether it has more to do for each token: speed does not rise with rank and layers."""
    return configuration.batch_size == than.batch_size and configuration.covers(than)


def _preference(configuration: Configuration) -> tuple[int, int, int]:
    return configuration.preference
