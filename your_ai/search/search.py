"""Which configuration to try next, and what proves the best one: pure, it proposes and is told.

What makes a handful of trials enough: under an enforced limit fit is monotone on each axis, so one
failure speaks for every configuration that covers it, and one pass for all that it covers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum

from worker.protocol.messages import Configuration
from your_ai.search.fit_model import Expected, Measured, chances
from your_ai.search.grid import Grid

CAUTION = 0.8
"""How likely to fit by its estimate a configuration must be until one has; else the least of all
is tried: come from below."""

FLOOR = 0.2
"""What settling a configuration counts whose end is as good as known; 1 where it is open."""

EAGERNESS = 1.4
"""The power of what is left after a trial that its cost grows with: above 1, avoid the bad end."""


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
        if self.exhaustive:
            done = {t.configuration for t in tried}
            return next((c for c in self.grid.configurations if c not in done), None)
        unsettled = self._unsettled(tried)
        if not unsettled or self.objective is Objective.TOKENS:
            return min(unsettled, key=_axes, default=None)
        likely = self._likely(tried)
        told = [c for c in likely if c not in unsettled and any(_speaks_for(t, c) for t in tried)]
        candidates = likely.keys() - told
        if self.expected is not None and not any(t.fits for t in tried):
            safe = {c for c in candidates if likely[c] >= CAUTION}
            candidates = safe or {self.grid.configurations[0]}
        return _most_promising(sorted(candidates, key=_axes), unsettled, likely)

    def is_settled(self, tried: Sequence[Tried]) -> bool:
        """Whether nothing is left to try."""
        if self.exhaustive:
            return {t.configuration for t in tried}.issuperset(self.grid.configurations)
        return not self._unsettled(tried)

    def optimum(self, tried: Iterable[Tried]) -> Tried | None:
        """The best of the grid that passed; of equally fast ones the one of larger capacity."""
        fitting = [t for t in tried if t.fits and self._has(t.configuration)]
        if self.objective is Objective.TOKENS:
            return max(
                fitting,
                key=lambda t: (t.tokens_per_second or 0.0, t.configuration.preference),
                default=None,
            )
        return max(fitting, key=lambda t: t.configuration.preference, default=None)

    def certificate(self, tried: Sequence[Tried]) -> Certificate:
        """What proves the optimum so far, or what is still missing."""
        best = self.optimum(tried)
        failed = [t.configuration for t in tried if not t.fits]
        better = self._better(best)
        least = {c for c in failed if not any(c != other and c.covers(other) for other in failed)}
        speaking = [c for c in sorted(least, key=_axes) if any(other.covers(c) for other in better)]
        unsettled = tuple(sorted(self._unsettled(tried), key=_axes))
        return Certificate(best.configuration if best else None, tuple(speaking), unsettled)

    def _has(self, configuration: Configuration) -> bool:
        return configuration in self.grid.configurations

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
            passed = [t.configuration for t in tried if t.fits and self._has(t.configuration)]
            left = [c for c in left if not any(_no_faster(c, than) for than in passed)]
        return {c for c in left if not any(c.covers(other) for other in failed)}

    def _likely(self, tried: Sequence[Tried]) -> dict[Configuration, float]:
        measured = [
            Measured(t.configuration, t.needed_bytes if t.fits else None)
            for t in tried
            if t.too_large or t.needed_bytes is not None
        ]
        return chances(self.grid, measured, self._limit(tried), self.expected)

    def _limit(self, tried: Sequence[Tried]) -> int:
        """What there is to train in: less than the budget when one failed that needs less."""
        most = max((t.needed_bytes or 0 for t in tried if t.fits), default=0)
        failed = [t.needed_bytes or 0 for t in tried if not t.fits]
        return min([self.budget_bytes, *(needed for needed in failed if most < needed)])


def _axes(configuration: Configuration) -> tuple[int, int, int]:
    return configuration.batch_size, configuration.lora_rank, configuration.lora_layers


def _speaks_for(tried: Tried, configuration: Configuration) -> bool:
    """Whether this trial's end tells how that configuration would end."""
    if tried.fits:
        return tried.configuration.covers(configuration)
    return configuration.covers(tried.configuration)


def _no_faster(configuration: Configuration, than: Configuration) -> bool:
    """Whether it has more to do for each token: speed does not rise with rank and layers."""
    return configuration.batch_size == than.batch_size and configuration.covers(than)


def _most_promising(
    candidates: Iterable[Configuration],
    unsettled: Set[Configuration],
    likely: Mapping[Configuration, float],
) -> Configuration:
    """The candidate whose trial should leave least to settle, whichever way it ends."""
    weights = {c: FLOOR + (1 - FLOOR) * 4 * likely[c] * (1 - likely[c]) for c in unsettled}
    everything = sum(weights.values())

    def left(settled: Iterable[Configuration]) -> float:
        return math.pow(1 + everything - sum(weights[c] for c in settled), EAGERNESS)

    def cost(candidate: Configuration) -> float:
        # One that is not among the unsettled is worse than the best so far: no use if it fits.
        worse = [c for c in unsettled if c.preference <= candidate.preference]
        if_it_fits = left(worse if candidate in unsettled else ())
        if_it_fails = left(c for c in unsettled if c.covers(candidate))
        return likely[candidate] * if_it_fits + (1 - likely[candidate]) * if_it_fails

    return min(candidates, key=cost)
