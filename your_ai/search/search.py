"""Find what a search looks for with few trials, and prove that nothing better fits.

Pure: the caller runs the proposals and passes the results back.

A configuration covers another if it is at least as large on every axis. Under an enforced memory
limit it then needs at least as much memory. So a failure rules out all configurations that cover
the failed one, and after a pass all configurations that it covers fit, too. The search follows the
boundary between the two, which takes few trials. A memory estimate decides the order of the trials,
but never the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from worker.protocol.configuration import Configuration
from your_ai.planning.describe import SIZES
from your_ai.search.forecast import Estimate, Forecaster, KindForecast, Tried
from your_ai.search.grid import Axes, Grid, Kind

ERROR = 0.1
"""Relative error of an estimate, if it is not known."""


class Objective(StrEnum):
    """What is looked for.

    The largest capacity score, the most measured tokens per second, the longest sequence, or the
    longest sequence of every combination of the other axes.
    """

    CAPACITY = "capacity"
    TOKENS = "tokens"
    LENGTH = "length"
    CEILING = "ceiling"

    @property
    def by_length(self) -> bool:
        """Whether longer sequences are better."""
        return self in (Objective.LENGTH, Objective.CEILING)


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The options of a search.

    If no lengths are given, a search for the length uses those that the model allows.
    """

    axes: Axes
    objective: Objective
    exhaustive: bool

    @property
    def varies_length(self) -> bool:
        """Whether sequence lengths are searched."""
        return self.objective.by_length or bool(self.axes.seq_lengths)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Why nothing better than ``optimum`` fits.

    ``failures`` are the smallest failed configurations that rule out better ones. ``unsettled`` are
    the configurations that may still be better: they were not tried and are not ruled out. If there
    are none, the optimum is proven. A configuration is ruled out if it covers a failed one or, if
    speed is the objective, if it covers a pass and differs from it only in rank and layers.
    """

    optimum: Configuration | None
    failures: tuple[Configuration, ...]
    unsettled: tuple[Configuration, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """A search in a grid. It has no state: every method takes the trials so far.

    ``expected`` estimates the memory of a configuration with a relative ``error``; it is ``None``
    if no estimate is possible. An exhaustive search tries the whole grid.
    """

    grid: Grid
    budget_bytes: int
    objective: Objective = Objective.CAPACITY
    expected: Estimate | None = None
    exhaustive: bool = False
    error: float = ERROR

    @property
    def varies_length(self) -> bool:
        """Whether several sequence lengths are searched."""
        return len(self.grid.seq_lengths) > 1

    @property
    def shown_axes(self) -> tuple[str, ...]:
        """The names of the axes that tell its configurations apart."""
        shown = ("seq_lengths",) if self.objective.by_length else SIZES
        return tuple(dict.fromkeys([*shown, *self.grid.axes.varied]))

    def propose(self, tried: Sequence[Tried]) -> Configuration | None:
        """Return the configuration to try next; ``None`` if nothing is left to find out."""
        left = self._left(tried)
        if not left or self.exhaustive or self.objective is Objective.TOKENS:
            return min(left, key=self.preference, default=None)
        forecaster = Forecaster(self.grid, self.budget_bytes, self.expected, self.error)
        forecasts = forecaster.forecasts(tried)
        fitting = _fitting(forecasts)
        reach = self._within_reach(tried, forecasts)
        if fitting and (within := left & fitting & reach):
            return max(within, key=self.preference)
        if not any(t.fits for t in tried):
            return self.grid.smallest
        return self._most_decisive(tried, left, fitting, reach)

    def is_settled(self, tried: Sequence[Tried]) -> bool:
        """Return whether nothing is left to try."""
        return not self._left(tried)

    def optimum(self, tried: Iterable[Tried]) -> Tried | None:
        """Return the best pass in the grid; of equally fast ones the one with more capacity."""
        by_speed = self.objective is Objective.TOKENS

        def worth(trial: Tried) -> tuple[float, tuple[int, ...]]:
            speed = trial.tokens_per_second or 0.0
            return speed if by_speed else 0.0, self.preference(trial.configuration)

        return max(self._passed(tried), key=worth, default=None)

    def certificate(self, tried: Sequence[Tried]) -> Certificate:
        """Return the proof of the optimum so far, with what it still lacks."""
        best = self.optimum(tried)
        failed = {t.configuration: t for t in tried if not t.fits}
        better = self._better(tried)
        minimal = [
            trial
            for own, trial in failed.items()
            if not any(self._settles(t, own) for other, t in failed.items() if other != own)
        ]
        decisive = {t.configuration for t in minimal if any(self._settles(t, c) for c in better)}
        return Certificate(
            best.configuration if best else None,
            tuple(sorted(decisive, key=self.preference)),
            tuple(sorted(self._unsettled(tried), key=self.preference)),
        )

    def preference(self, configuration: Configuration) -> tuple[int, ...]:
        """Sort key; larger is better. No ties within a grid: search and exhaustive scan agree."""
        batch, rank, layers, length, *kind = self.grid.place(configuration)
        capacity = batch * (rank or 1) * layers
        if self.objective.by_length:
            return length, capacity, rank, layers, *kind
        return capacity, rank, layers, length, *kind

    def _passed(self, tried: Iterable[Tried]) -> list[Tried]:
        """Return the passes in the grid."""
        return [t for t in tried if t.fits and t.configuration in self.grid.sizes]

    def _better(self, tried: Sequence[Tried]) -> list[Configuration]:
        """Return the configurations that would be better than what passed if they fit."""
        best = self.optimum(tried)
        if best is None or self.objective is Objective.TOKENS:
            return list(self.grid.configurations)
        if self.objective is Objective.CEILING:
            passed = [t.configuration for t in self._passed(tried)]
            covers = self.grid.covers
            return [c for c in self.grid.configurations if not any(covers(p, c) for p in passed)]
        least = self.preference(best.configuration)
        return [c for c in self.grid.configurations if self.preference(c) > least]

    def _unsettled(self, tried: Sequence[Tried]) -> set[Configuration]:
        failed, left = [t for t in tried if not t.fits], self._better(tried)
        if self.objective is Objective.TOKENS:
            passed = [t.configuration for t in self._passed(tried)]
            left = [c for c in left if not any(self._is_no_faster(c, other) for other in passed)]
        return {c for c in left if not any(self._settles(t, c) for t in failed)}

    def _left(self, tried: Sequence[Tried]) -> set[Configuration]:
        """Return the configurations whose outcome is still needed."""
        if self.exhaustive:
            return {*self.grid.configurations} - {t.configuration for t in tried}
        return self._unsettled(tried)

    def _most_decisive(
        self,
        tried: Sequence[Tried],
        left: set[Configuration],
        fitting: set[Configuration] | None,
        reach: set[Configuration],
    ) -> Configuration:
        """Return the configuration, not expected to fit, whose failure would rule out the most.

        It may be worse than the best so far: if a small one fails, that rules out many at once.
        """
        configurations = self.grid.configurations
        ruled_out = dict(zip(configurations, self.grid.covering(left), strict=True))
        unknown = {c for c in reach if not any(self._settles(t, c) for t in tried)}
        decisive = {c for c in unknown if ruled_out[c]}
        near = left & reach if fitting is None else decisive - fitting
        # What is out of reach is approached by what is expected to fit.
        near = near or decisive or {min(left, key=lambda c: (_tokens(c), self.preference(c)))}
        return max(near, key=lambda c: (ruled_out[c], self.preference(c)))

    def _within_reach(
        self, tried: Sequence[Tried], forecasts: Mapping[Kind, KindForecast]
    ) -> set[Configuration]:
        """Return the configurations that may be tried next.

        One step of a far too long sequence can take far more than the budget before it ends. So
        without a usable estimate, a trial has at most twice the length and tokens of one that
        passed and needed at least as much memory otherwise, or the least length.
        """
        if not self.varies_length:
            return {*self.grid.configurations}
        found = set[Configuration]()
        for kind, members in self.grid.kinds.items():
            if forecasts[kind].is_estimated:
                found |= {*members}
                continue
            same = [t.configuration for t in tried if t.fits and self._is_as_hard(t, kind)]
            longest = max((c.seq_length for c in same), default=0)
            most = max(map(_tokens, same), default=0)
            near = (c for c in members if c.seq_length <= 2 * longest and _tokens(c) <= 2 * most)
            found |= {members[0], *near}
        return found

    def _is_as_hard(self, trial: Tried, kind: Kind) -> bool:
        pairs = zip(self.grid.kind(trial.configuration)[-2:], kind[-2:], strict=True)
        return all(ours >= theirs for ours, theirs in pairs)

    def _settles(self, tried: Tried, configuration: Configuration) -> bool:
        """Return whether a trial's outcome implies whether ``configuration`` fits."""
        if tried.fits:
            return self.grid.covers(tried.configuration, configuration)
        # Without quantization a training may work that fails for another reason than memory.
        is_alike = self.grid.place(configuration)[4] == self.grid.place(tried.configuration)[4]
        return (tried.too_large or is_alike) and self.grid.covers(
            configuration, tried.configuration
        )

    def _is_no_faster(self, configuration: Configuration, other: Configuration) -> bool:
        """Return whether it differs only in more rank or layers, which add no speed."""
        batch, _, _, *others = self.grid.place(configuration)
        other_batch, _, _, *same = self.grid.place(other)
        return (batch, others) == (other_batch, same) and self.grid.covers(configuration, other)


def _fitting(forecasts: Mapping[Kind, KindForecast]) -> set[Configuration] | None:
    """Return all configurations expected to fit; ``None`` if there is no forecast at all."""
    known = [each.fitting for each in forecasts.values() if each.fitting is not None]
    return {*frozenset().union(*known)} if known else None


def _tokens(configuration: Configuration) -> int:
    return configuration.batch_size * configuration.seq_length
