"""Random memory surfaces for testing the search, and brute-force checks of its results.

A surface gives the needed memory of each configuration in a grid. Every surface is monotone: a
configuration never needs less memory than one that is smaller or equal in every size.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from worker.protocol.configuration import Configuration
from your_ai.search.forecast import Expected, Tried
from your_ai.search.grid import Grid
from your_ai.search.search import Certificate, Search

GB = 2**30
NOISE = 0.03
"""Maximum relative noise of needed memory. Repeated trials differ by as much."""

MARGIN = 0.03
"""How far budgets may lie outside a surface's range of memory, relative to that range."""

Memory = dict[Configuration, float]
"""Needed memory in GB of each configuration. The weights of most surfaces take about 1 GB."""
Formula = Callable[[Configuration], float]
Preference = Callable[[Configuration], tuple[float, ...]]
"""A sort key of configurations: larger is better."""


@dataclass(frozen=True, slots=True)
class Surface:
    """The memory that each configuration of a grid needs, in bytes."""

    grid: Grid
    needed: Mapping[Configuration, int]

    def trial(self, configuration: Configuration, budget_bytes: int) -> Tried:
        """Return the result of a trial. A failed trial has no needed memory."""
        needed = self.needed[configuration]
        fits = needed <= budget_bytes
        return Tried(configuration, fits, needed if fits else None)

    def fitting(self, budget_bytes: int) -> set[Configuration]:
        """Return all configurations that fit."""
        return {c for c, needed in self.needed.items() if needed <= budget_bytes}

    def best(self, budget_bytes: int, prefer: Preference | None = None) -> Configuration | None:
        """Return the optimum, found by an exhaustive scan; by default that of the capacity."""
        return max(self.fitting(budget_bytes), key=prefer or preference, default=None)


def linear(grid: Grid, draw: random.Random) -> Memory:
    """Return memory that is linear in batch, rank × layers and batch × layers."""
    formula = _linear(grid, 1, _log_uniform(draw, 0.06, 3.6), _adapters(draw), _activations(draw))
    return {c: formula(c) for c in grid.configurations}


def kinked(grid: Grid, draw: random.Random) -> Memory:
    """Return the maximum or the minimum of two linear surfaces with the same adapters."""
    adapters = _adapters(draw)
    levels = 1, draw.uniform(0.3, 1.2)
    one, other = (
        _linear(grid, level, _log_uniform(draw, 0.06, 3.6), adapters, _activations(draw))
        for level in levels
    )
    either = draw.choice((max, min))
    return {c: either(one(c), other(c)) for c in grid.configurations}


def noisy(grid: Grid, draw: random.Random) -> Memory:
    """Return linear memory with noise on each configuration, made monotone."""
    return _made_monotone(_with_noise(linear(grid, draw), draw))


def power(grid: Grid, draw: random.Random) -> Memory:
    """Return memory like `linear`, but with each term raised to a power."""
    scales = [_log_uniform(draw, 0.02, 1) for _ in range(3)]
    powers = [draw.uniform(0.4, most) for most in (1.6, 1.3, 1.3)]
    level = draw.random()

    def formula(configuration: Configuration) -> float:
        terms = zip(_terms(grid, configuration), scales, powers, strict=True)
        return level + sum(scale * float(term**power) for term, scale, power in terms)

    return {c: formula(c) for c in grid.configurations}


def rough(grid: Grid, draw: random.Random) -> Memory:
    """Return arbitrary monotone memory: random increments, summed over covered configurations."""
    level = _log_uniform(draw, 0.1, 30)
    added = {c: draw.expovariate(1) ** 2 for c in grid.configurations}
    return {
        c: level + sum(more for other, more in added.items() if covers(c, other))
        for c in grid.configurations
    }


def stepped(grid: Grid, draw: random.Random) -> Memory:
    """Return linear memory rounded up to a few steps, so that many configurations need the same."""
    smooth = linear(grid, draw)
    step = (max(smooth.values()) - min(smooth.values())) / draw.randint(1, 12) or 1.0
    return {c: math.ceil(needed / step) * step for c, needed in smooth.items()}


FAMILIES: Mapping[str, Callable[[Grid, random.Random], Memory]] = {
    family.__name__: family for family in (linear, kinked, noisy, power, rough, stepped)
}


def surface(family: str, grid: Grid, draw: random.Random) -> Surface:
    """Return a random surface of a family."""
    return _in_bytes(grid, FAMILIES[family](grid, draw))


def estimated_surface(
    grid: Grid, error: float, draw: random.Random
) -> tuple[Surface, Callable[[Configuration], Expected]]:
    """Return a noisy surface and an estimate of it.

    Each term of the estimate has a log-normal error with the standard deviation ``error``. The
    estimate has the exact resident memory and assumes linear growth with the batch size, while the
    surface may grow faster or slower above some batch size.
    """
    resident = _log_uniform(draw, 0.3, 40)
    ranges = (0.24, 12), (0.04, 2.4), (0.192, 3.84)
    scales = [resident * _log_uniform(draw, *limits) for limits in ranges]
    errors = [math.exp(draw.gauss(0, error)) for _ in scales]
    bend, slope = draw.choice((1 / 3, 1 / 2, 2 / 3)), draw.choice((1, 1, draw.uniform(0.4, 1.5)))
    estimate = _linear(grid, resident, *scales)
    memory = {}
    for configuration in grid.configurations:
        batch, *others = _terms(grid, configuration)
        bent = min(batch, bend) + slope * max(0.0, batch - bend)
        parts = zip((bent, *others), scales, errors, strict=True)
        memory[configuration] = resident + sum(term * scale * off for term, scale, off in parts)
    real = _made_monotone(_with_noise(memory, draw))
    known = {c: Expected(int(resident * GB), int(estimate(c) * GB)) for c in grid.configurations}
    return _in_bytes(grid, real), known.__getitem__


def length_surface(
    grid: Grid, error: float, draw: random.Random
) -> tuple[Surface, Callable[[Configuration], Expected]]:
    """Return a noisy surface that grows with the sequence length, and an estimate of it.

    Without gradient checkpointing the activations take several times as much. Each term of the
    estimate has a log-normal error with the standard deviation ``error``, and so has the power of
    the length: to 1.3 where attention stores its scores.
    """
    resident, scale = _log_uniform(draw, 0.3, 40), _log_uniform(draw, 0.5, 30)
    base, per_token = scale * draw.uniform(0, 0.1), scale * draw.uniform(0.2, 1)
    stored, power = scale * draw.uniform(1, 8), draw.choice((1, 1, draw.uniform(1, 1.3)))
    top = grid.largest

    def training(c: Configuration, errors: Sequence[float]) -> float:
        tokens = c.batch_size / top.batch_size * (c.seq_length / top.seq_length) ** power
        more = 0 if c.grad_checkpoint else stored
        terms = zip((base, per_token * tokens, more * tokens), errors, strict=True)
        return sum(term * off for term, off in terms)

    errors = [math.exp(draw.gauss(0, error)) for _ in range(3)]
    memory = {c: resident + training(c, errors) for c in grid.configurations}
    estimate = {c: resident + training(c, (1, 1, 1)) for c in grid.configurations}
    real = _made_monotone(_with_noise(memory, draw))
    known = {c: Expected(int(resident * GB), int(n * GB)) for c, n in estimate.items()}
    return _in_bytes(grid, real), known.__getitem__


def budget_by_value(surface: Surface, draw: random.Random) -> int:
    """Return a budget, uniform between just below the minimum and just above the maximum memory."""
    least, most = min(surface.needed.values()), max(surface.needed.values())
    margin = MARGIN * (most - least)
    return max(1, int(draw.uniform(least - margin, most + margin)))


def budget_by_rank(surface: Surface, draw: random.Random) -> int:
    """Return a budget in which a uniformly drawn number of configurations fit.

    This is harder for the search, because most configurations need little memory.
    """
    needed = sorted(surface.needed.values())
    last = len(needed) - 1
    rank = draw.uniform(-MARGIN, 1 + MARGIN) * last
    if rank < 0:
        return int(needed[0] * 0.99)
    if rank >= last:
        return int(needed[-1] * 1.01)
    below, above = needed[int(rank)], needed[int(rank) + 1]
    return below + int(draw.random() * (above - below))


def solve(
    search: Search, trial: Callable[[Configuration], Tried], known: Iterable[Tried] = ()
) -> list[Tried]:
    """Search until there is no proposal. Return the ``known`` trials, then the others in order."""
    tried = list(known)
    maximum = len(tried) + len(search.grid.configurations)
    while (proposed := search.propose(tried)) is not None:
        if len(tried) == maximum:
            raise AssertionError(f"more trials than configurations: {tried}")
        tried.append(trial(proposed))
    return tried


def covers(one: Configuration, other: Configuration) -> bool:
    """Return whether ``one`` is at least as large on every axis. Does not use the tested code."""
    return all(a >= b for a, b in zip(_sizes(one), _sizes(other), strict=True))


def preference(configuration: Configuration) -> tuple[float, ...]:
    """Return the sort key: capacity, then rank, layers, length, bits and stored activations.

    Does not use the tested code.
    """
    batch, rank, layers, *others = _sizes(configuration)
    return batch * rank * layers, rank, layers, *others


def by_length(configuration: Configuration) -> tuple[float, ...]:
    """Return the sort key: length, then capacity, rank, layers, bits and stored activations."""
    capacity, rank, layers, length, *others = preference(configuration)
    return length, capacity, rank, layers, *others


def map_error(grid: Grid, tried: Sequence[Tried], fitting: set[Configuration]) -> str | None:
    """Return the error in a ceiling map, or ``None``: trials must imply exactly what fits."""
    passed = [t.configuration for t in tried if t.fits]
    failed = [t.configuration for t in tried if not t.fits]
    for configuration in grid.configurations:
        fits = any(covers(one, configuration) for one in passed)
        fails = any(covers(configuration, one) for one in failed)
        if (fits, fails) != (configuration in fitting, configuration not in fitting):
            return f"{configuration}: implied to fit {fits} and to fail {fails}"
    return None


def certificate_error(
    grid: Grid, certificate: Certificate, tried: Sequence[Tried], prefer: Preference = preference
) -> str | None:
    """Return the error in a certificate, given the trials, or ``None`` if it is valid."""
    optimum, failures = certificate.optimum, certificate.failures
    passed = [t.configuration for t in tried if t.fits and t.configuration in grid.configurations]
    failed = [t.configuration for t in tried if not t.fits]
    if optimum != max(passed, key=prefer, default=None):
        return f"{optimum} is not the best configuration that passed"
    better = [c for c in grid.configurations if optimum is None or prefer(c) > prefer(optimum)]
    for configuration in better:
        if not any(covers(configuration, failure) for failure in failures):
            return f"{configuration} is better, and no failure excludes it"
    for failure in failures:
        if failure not in failed:
            return f"{failure} did not fail"
        if any(covers(failure, other) for other in failures if other != failure):
            return f"{failure} is redundant, because a smaller configuration failed"
        if not any(covers(configuration, failure) for configuration in better):
            return f"{failure} excludes no better configuration"
    return f"unsettled: {certificate.unsettled}" if certificate.unsettled else None


def _sizes(c: Configuration) -> tuple[float, ...]:
    bits = c.quantization_bits or math.inf
    return c.batch_size, c.lora_rank, c.lora_layers, c.seq_length, bits, not c.grad_checkpoint


def _log_uniform(draw: random.Random, low: float, high: float) -> float:
    """Return a number whose logarithm is uniform between those of ``low`` and ``high``."""
    return math.exp(draw.uniform(math.log(low), math.log(high)))


def _adapters(draw: random.Random) -> float:
    return _log_uniform(draw, 0.04, 1.6)


def _activations(draw: random.Random) -> float:
    return _log_uniform(draw, 0.08, 3.8)


def _terms(grid: Grid, configuration: Configuration) -> tuple[float, float, float]:
    """Return batch, rank × layers and batch × layers, relative to the largest configuration."""
    sizes = zip(_sizes(configuration)[:3], _sizes(grid.largest)[:3], strict=True)
    batch, rank, layers = (size / largest for size, largest in sizes)
    return batch, rank * layers, batch * layers


def _linear(grid: Grid, level: float, batch: float, adapters: float, activations: float) -> Formula:
    def formula(configuration: Configuration) -> float:
        terms = zip(_terms(grid, configuration), (batch, adapters, activations), strict=True)
        return level + sum(term * scale for term, scale in terms)

    return formula


def _with_noise(memory: Memory, draw: random.Random) -> Memory:
    return {c: needed * (1 + draw.uniform(-NOISE, NOISE)) for c, needed in memory.items()}


def _made_monotone(memory: Memory) -> Memory:
    """Raise each configuration's memory to the maximum of all that it covers."""
    return {c: max(needed for other, needed in memory.items() if covers(c, other)) for c in memory}


def _in_bytes(grid: Grid, memory: Memory) -> Surface:
    return Surface(grid, {c: int(needed * GB) for c, needed in memory.items()})
