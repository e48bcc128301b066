"""How likely each configuration is to fit, given the trials so far: a small Bayesian model, pure.

Needed memory is close to linear in a few products of the axes: logits grow with the batch, adapters
with rank × layers, saved activations with batch × layers. So the model is a linear regression on
those, in units of the budget, around what is expected beforehand. A pass tells the needed memory
itself; a failure only that it is more than the budget, which expectation propagation turns into
the measurement that says as much (Rasmussen and Williams, Gaussian Processes for Machine Learning,
2006, section 3.6).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

from worker.protocol.messages import Configuration
from your_ai.search.grid import Grid

Vector = Sequence[float]

NOISE = 0.003
"""How far a measured needed memory is off, as a share of the budget (a standard deviation, as all
of these are)."""

MISFIT = 0.02
"""How far the linear form is off, as a share of how much memory grows over the grid."""

SWEEPS = 3
"""Rounds of expectation propagation: more change nothing that matters."""

# Without an estimate: a few guesses of how much memory grows over the grid, in budgets. Which of
# them is right shows after two or three trials.
BLIND_GROWTHS = (0.1, 0.35, 1.2, 4.0)
BLIND_LEVEL = 0.3
_BLIND_MEANS = (0.3, 0.2, 0.2, 0.0, 0.0, 0.0, 0.0)
_BLIND_SPREADS = (0.4, 0.3, 0.3, 0.1, 0.15, 0.1, 0.1)

# With one: by how much it may be wrong about what comes on top of the resident memory, and about
# how that grows on each axis.
ESTIMATE_ERRORS = (0.1, 0.4)
AXIS_ERROR = 0.5
RESIDENT_ERROR = 0.01

DOUBT = 0.01
"""How likely a belief without the estimate is, beside one with it: what trials that refute the
estimate fall back on."""

SURPRISE = -30.0
"""The most standard deviations below a failure that anything is taken to be: further out, its
probability is too small for a float."""

_STANDARD = NormalDist()


@dataclass(frozen=True, slots=True)
class Expected:
    """What an estimate says that a configuration takes, in bytes."""

    resident_bytes: int
    needed_bytes: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What a trial said: the needed memory in bytes, or ``None`` when it is beyond the budget."""

    configuration: Configuration
    needed_bytes: int | None


@dataclass(frozen=True, slots=True)
class _Prior:
    """Needed memory ÷ budget before any trial: ``mean + features · weights + misfit``.

    The weights are standard normal and independent; the features carry their scale.
    """

    mean: float
    features: Vector
    misfit: float


_Belief = Callable[[Configuration], _Prior]


def chances(
    grid: Grid,
    measured: Sequence[Measured],
    budget_bytes: int,
    expected: Callable[[Configuration], Expected] | None,
) -> dict[Configuration, float]:
    """For each configuration of the grid the probability that it fits the budget.

    ``expected`` is asked for those of the grid and of ``measured``; ``None`` where there is no
    estimate to start from.
    """
    beliefs = [_blind(grid, growth) for growth in BLIND_GROWTHS]
    before = [DOUBT] * len(beliefs)
    if expected is not None:
        beliefs += [_informed(grid, budget_bytes, expected, error) for error in ESTIMATE_ERRORS]
        before += [1.0] * len(ESTIMATE_ERRORS)
    learnt = [_learnt(grid, belief, measured, budget_bytes) for belief in beliefs]
    best = max(weights.log_evidence for weights in learnt)
    shares = [b * math.exp(w.log_evidence - best) for b, w in zip(before, learnt, strict=True)]
    return {
        c: sum(
            s * w.chance(belief(c)) for s, w, belief in zip(shares, learnt, beliefs, strict=True)
        )
        / sum(shares)
        for c in grid.configurations
    }


def _blind(grid: Grid, growth: float) -> _Belief:
    """Nothing is known but that memory grows: around the grid's middle it is about the budget."""
    axes = (grid.batch_sizes, grid.lora_ranks, grid.lora_layers)
    middle = _shape(grid, grid.at(*(axis[(len(axis) - 1) // 2] for axis in axes)))

    def prior(configuration: Configuration) -> _Prior:
        shape = [f - m for f, m in zip(_shape(grid, configuration), middle, strict=True)]
        mean = 1 + growth * _dot(shape, _BLIND_MEANS)
        scaled = [f * spread * growth for f, spread in zip(shape, _BLIND_SPREADS, strict=True)]
        return _Prior(mean, [BLIND_LEVEL, *scaled], MISFIT * growth)

    return prior


def _informed(
    grid: Grid, budget_bytes: int, expected: Callable[[Configuration], Expected], error: float
) -> _Belief:
    """An estimate is known, and how wrong it may be about what comes on top of the weights."""
    shapes = [_shape(grid, c) for c in grid.configurations]
    middle = [fmean(column) for column in zip(*shapes, strict=True)]

    def prior(configuration: Configuration) -> _Prior:
        known = expected(configuration)
        training = (known.needed_bytes - known.resident_bytes) / budget_bytes
        shape = zip(_shape(grid, configuration), middle, strict=True)
        tilts = [AXIS_ERROR * (f - m) for f, m in shape]
        features = [error * training * f for f in (1.0, *tilts)]
        mean = known.needed_bytes / budget_bytes
        return _Prior(mean, [RESIDENT_ERROR, *features], MISFIT * training)

    return prior


def _shape(grid: Grid, configuration: Configuration) -> Vector:
    """The products on which needed memory depends, each as a share of its largest in the grid."""
    top = grid.largest
    batch = configuration.batch_size / top.batch_size
    rank = configuration.lora_rank / top.lora_rank
    layers = configuration.lora_layers / top.lora_layers
    return [batch, rank * layers, batch * layers, layers, batch**2, rank**2, layers**2]


class _Weights:
    """The regression's weights: a normal distribution that each trial narrows."""

    def __init__(self, size: int) -> None:
        self._mean = [0.0] * size
        self._covariance = [[float(i == j) for j in range(size)] for i in range(size)]
        self.log_evidence = 0.0

    def chance(self, prior: _Prior) -> float:
        """The probability that a configuration fits."""
        mean, variance = self._predict(prior)
        return _STANDARD.cdf((1 - mean) / math.sqrt(variance + prior.misfit**2))

    def passed(self, prior: _Prior, needed: float) -> None:
        """Learn that a configuration needs so much, as a share of the budget."""
        noise = prior.misfit**2 + NOISE**2
        mean, variance = self._predict(prior)
        spread = variance + noise
        self.log_evidence -= ((needed - mean) ** 2 / spread + math.log(spread)) / 2
        self._add(prior.features, 1 / noise, (needed - prior.mean) / noise)

    def failed(self, priors: Sequence[_Prior]) -> None:
        """Learn that each of these needs more than the budget."""
        sites = [(0.0, 0.0)] * len(priors)
        for sweep in range(SWEEPS):
            for index, prior in enumerate(priors):
                sites[index] = self._refine(prior, *sites[index], first=sweep == 0)

    def _refine(
        self, prior: _Prior, precision: float, shift: float, *, first: bool
    ) -> tuple[float, float]:
        """Replace one failure's share of what is known by a better one; that share."""
        mean, variance = self._predict(prior)
        variance = max(variance, 1e-12)
        # What is known without this failure, then what it adds: the part beyond the budget.
        others = 1 / variance - precision
        mean_without = ((mean - prior.mean) / variance - shift) / others + prior.mean
        spread = math.sqrt(1 / others + prior.misfit**2 + NOISE**2)
        z = max((mean_without - 1) / spread, SURPRISE)
        chance = math.erfc(-z / math.sqrt(2)) / 2  # exact where NormalDist.cdf rounds to nothing
        ratio = _STANDARD.pdf(z) / chance
        if first:
            self.log_evidence += math.log(chance)
        new_mean = mean_without + ratio / spread / others
        new_variance = 1 / others - ratio * (z + ratio) / (spread * others) ** 2
        new_precision = max(1 / new_variance - others, 0.0)
        new_shift = (new_mean - prior.mean) / new_variance - (mean_without - prior.mean) * others
        self._add(prior.features, new_precision - precision, new_shift - shift)
        return new_precision, new_shift

    def _predict(self, prior: _Prior) -> tuple[float, float]:
        """Mean and variance of a configuration's needed memory, but for the misfit."""
        spread = [_dot(row, prior.features) for row in self._covariance]
        return prior.mean + _dot(self._mean, prior.features), _dot(spread, prior.features)

    def _add(self, features: Vector, precision: float, shift: float) -> None:
        """Add what a measurement tells: the Sherman-Morrison formula."""
        spread = [_dot(row, features) for row in self._covariance]
        scale = 1 + precision * _dot(spread, features)
        gain = (shift - precision * _dot(self._mean, features)) / scale
        self._mean = [m + s * gain for m, s in zip(self._mean, spread, strict=True)]
        self._covariance = [
            [c - s * t * precision / scale for c, t in zip(row, spread, strict=True)]
            for row, s in zip(self._covariance, spread, strict=True)
        ]


def _learnt(
    grid: Grid, belief: _Belief, measured: Sequence[Measured], budget_bytes: int
) -> _Weights:
    weights = _Weights(len(belief(grid.largest).features))
    priors = [belief(m.configuration) for m in measured]
    for prior, trial in zip(priors, measured, strict=True):
        if trial.needed_bytes is not None:
            weights.passed(prior, trial.needed_bytes / budget_bytes)
    weights.failed(
        [p for p, trial in zip(priors, measured, strict=True) if trial.needed_bytes is None]
    )
    return weights


def _dot(left: Vector, right: Vector) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
