"""Forecast which configurations of a grid fit, from an estimate and the trials so far: pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from worker.protocol.configuration import Configuration
from your_ai.search.grid import Grid, Kind

_MANY = 4
"""From so many trials of a length on, the middle is tried: the forecast has not helped."""


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


Estimate = Callable[[Configuration], Expected | None]
"""Estimates the memory of a configuration; ``None`` if that is not possible."""


@dataclass(frozen=True, slots=True)
class KindForecast:
    """Which configurations of a kind are expected to fit.

    ``fitting`` is ``None`` if no forecast agrees with the trials. ``is_estimated`` says whether it
    rests on an estimate in bytes.
    """

    fitting: frozenset[Configuration] | None
    is_estimated: bool


@dataclass(frozen=True, slots=True)
class Forecaster:
    """Forecasts needed memory in a grid.

    Until a trial passes, what training adds is multiplied by ``1 + error``.
    """

    grid: Grid
    budget_bytes: int
    expected: Estimate | None
    error: float

    def forecasts(self, tried: Sequence[Tried]) -> dict[Kind, KindForecast]:
        """Return the forecast for each kind of configuration.

        Quantized weights or stored activations may be estimated too low, and others too high, so
        each kind has its own forecast.
        """
        return {kind: self._forecast(kind, tried) for kind in self.grid.kinds}

    def _forecast(self, kind: Kind, tried: Sequence[Tried]) -> KindForecast:
        """Return the forecast for a kind; without a usable estimate, from its trials alone."""
        members = self.grid.kinds[kind]
        plain = replace(self, expected=None)
        if self.expected is not None and self.expected(members[0]) is not None:
            fitting = self._fitting(kind, tried)
            if fitting is not None:
                return KindForecast(fitting, is_estimated=True)
        return KindForecast(plain._fitting(kind, tried), is_estimated=False)

    def _fitting(self, kind: Kind, tried: Sequence[Tried]) -> frozenset[Configuration] | None:
        """Return what is expected to fit; ``None`` if the forecast contradicts a trial."""
        members = self.grid.kinds[kind]
        own = [t for t in tried if self.grid.kind(t.configuration) == kind]
        passed = [t for t in own if t.fits]
        failed = [t for t in own if not t.fits and (t.too_large or t.needed_bytes is not None)]
        known = passed or self._comparable(kind, tried)
        needs = self._needs(known)
        unbounded = needs(members[-1]) if self.expected is None else math.inf
        low = max((needs(t.configuration) for t in passed), default=needs(members[0]))
        high = min((needs(t.configuration) for t in failed), default=unbounded)
        if failed and low >= high:
            return None
        limit, middle = float(self.budget_bytes), (low + high) / 2
        if limit >= high and (failed or not known):
            limit = middle  # a failure was forecast to fit, or the forecast is not in bytes yet
        if len(own) >= _MANY and len(self.grid.seq_lengths) > 1:
            limit = (low + min(high, needs(members[-1]))) / 2
        if self.expected is None:
            limit = max(limit, middle)  # without resident memory the forecast is too high
        return frozenset(c for c in members if needs(c) <= limit)

    def _comparable(self, kind: Kind, tried: Sequence[Tried]) -> list[Tried]:
        """Return the passes whose memory says something about another kind."""
        if self.expected is None:
            same = [t for t in tried if self.grid.kind(t.configuration)[-2:] == kind[-2:]]
            return [t for t in same if t.fits]
        return [t for t in tried if t.fits and self.expected(t.configuration) is not None]

    def _needs(self, passed: Sequence[Tried]) -> Callable[[Configuration], float]:
        """Return a function that forecasts needed memory.

        It is the estimate, corrected by the largest configuration that passed. The correction
        scales what training adds, or everything if the measured memory is less than the estimated
        resident memory.
        """
        by_resident, by_training = 1.0, 1 + self.error
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
        each axis of sizes.
        """
        known = None if self.expected is None else self.expected(configuration)
        if known is not None:
            return known.resident_bytes, max(known.needed_bytes - known.resident_bytes, 0)
        sizes, largest = map(self.grid.place, (configuration, self.grid.largest))
        relative = [size / (most or 1) for size, most in zip(sizes, largest, strict=True)]
        batch, rank, layers, length, *_ = relative
        tokens = batch * length
        return 0, 1.5 * tokens + rank * layers + tokens * layers
