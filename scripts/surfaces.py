"""Random memory surfaces to search in, and a brute-force check of what a search says about them.

Every surface is monotone: no configuration needs less than one that it covers. Memory is in units
of 1 GB, of which weights alone take about one, and given in bytes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from worker.protocol.messages import Configuration
from your_ai.search.grid import Grid
from your_ai.search.search import Certificate, Expected, Search, Tried

GB = 2**30
NOISE = 0.03
"""The most that noise moves a needed memory, as a share of it: what repeated trials differ by."""

MARGIN = 0.03
"""How far budgets go beyond the least and the most of a surface, as a share of all between."""

Memory = dict[Configuration, float]
Form = Callable[[Configuration], float]


@dataclass(frozen=True, slots=True)
class Surface:
    """The memory that each configuration of a grid needs, in bytes."""

    grid: Grid
    needed: Mapping[Configuration, int]

    def trial(self, configuration: Configuration, budget_bytes: int) -> Tried:
        """How a trial ends: one that fails says no more than that."""
        needed = self.needed[configuration]
        fits = needed <= budget_bytes
        return Tried(configuration, fits, needed if fits else None)

    def best(self, budget_bytes: int) -> Configuration | None:
        """The answer, by a look at every configuration."""
        fitting = (c for c, needed in self.needed.items() if needed <= budget_bytes)
        return max(fitting, key=preference, default=None)


def linear(grid: Grid, draw: random.Random) -> Memory:
    """Linear in batch, rank × layers and batch × layers."""
    form = _linear(grid, 1, _even_log(draw, 0.06, 3.6), _adapters(draw), _activations(draw))
    return {c: form(c) for c in grid.configurations}


def kinked(grid: Grid, draw: random.Random) -> Memory:
    """The larger or the smaller of two linear ones with the same adapters."""
    adapters = _adapters(draw)
    levels = 1, draw.uniform(0.3, 1.2)
    one, other = (
        _linear(grid, level, _even_log(draw, 0.06, 3.6), adapters, _activations(draw))
        for level in levels
    )
    either = draw.choice((max, min))
    return {c: either(one(c), other(c)) for c in grid.configurations}


def noisy(grid: Grid, draw: random.Random) -> Memory:
    """Linear with noise on each configuration, then made monotone."""
    return _made_monotone(_with_noise(linear(grid, draw), draw))


def power(grid: Grid, draw: random.Random) -> Memory:
    """As the linear ones, but each term has a power: growth that slows down or speeds up."""
    scales = [_even_log(draw, 0.02, 1) for _ in range(3)]
    powers = [draw.uniform(0.4, most) for most in (1.6, 1.3, 1.3)]
    level = draw.random()

    def form(configuration: Configuration) -> float:
        terms = zip(_terms(grid, configuration), scales, powers, strict=True)
        return level + sum(scale * float(term**power) for term, scale, power in terms)

    return {c: form(c) for c in grid.configurations}


def rough(grid: Grid, draw: random.Random) -> Memory:
    """Monotone and otherwise arbitrary: random increments, summed over all that is covered."""
    level = _even_log(draw, 0.1, 30)
    added = {c: draw.expovariate(1) ** 2 for c in grid.configurations}
    return {
        c: level + sum(more for other, more in added.items() if covers(c, other))
        for c in grid.configurations
    }


def stepped(grid: Grid, draw: random.Random) -> Memory:
    """Linear, rounded up to a few steps: many configurations need exactly the same."""
    smooth = linear(grid, draw)
    step = (max(smooth.values()) - min(smooth.values())) / draw.randint(1, 12) or 1.0
    return {c: math.ceil(needed / step) * step for c, needed in smooth.items()}


FAMILIES: Mapping[str, Callable[[Grid, random.Random], Memory]] = {
    form.__name__: form for form in (linear, kinked, noisy, power, rough, stepped)
}


def surface(family: str, grid: Grid, draw: random.Random) -> Surface:
    """A random surface of a family."""
    return _in_bytes(grid, FAMILIES[family](grid, draw))


def estimated_surface(
    grid: Grid, error: float, draw: random.Random
) -> tuple[Surface, Callable[[Configuration], Expected]]:
    """A noisy surface and an estimate of it, each of whose terms is off by about ``error``.

    ``error`` is the standard deviation of the logarithm. The estimate knows the resident memory; it
    does not know that growth with the batch may change its pace somewhere.
    """
    resident = _even_log(draw, 0.3, 40)
    ranges = (0.24, 12), (0.04, 2.4), (0.192, 3.84)
    scales = [resident * _even_log(draw, *limits) for limits in ranges]
    off = [math.exp(draw.gauss(0, error)) for _ in scales]
    bend, pace = draw.choice((1 / 3, 1 / 2, 2 / 3)), draw.choice((1, 1, draw.uniform(0.4, 1.5)))
    estimate = _linear(grid, resident, *scales)
    memory = {}
    for configuration in grid.configurations:
        batch, *others = _terms(grid, configuration)
        bent = min(batch, bend) + pace * max(0.0, batch - bend)
        parts = zip((bent, *others), scales, off, strict=True)
        memory[configuration] = resident + sum(part * scale * by for part, scale, by in parts)
    real = _made_monotone(_with_noise(memory, draw))
    known = {c: Expected(int(resident * GB), int(estimate(c) * GB)) for c in grid.configurations}
    return _in_bytes(grid, real), known.__getitem__


def budget_by_value(surface: Surface, draw: random.Random) -> int:
    """Any between a little under the least and a little over the most memory, evenly."""
    least, most = min(surface.needed.values()), max(surface.needed.values())
    margin = MARGIN * (most - least)
    return max(1, int(draw.uniform(least - margin, most + margin)))


def budget_by_rank(surface: Surface, draw: random.Random) -> int:
    """One in which nothing, everything or any number of configurations fit, evenly.

    The harder case: there are most configurations where memory is least.
    """
    needed = sorted(surface.needed.values())
    last = len(needed) - 1
    place = draw.uniform(-MARGIN, 1 + MARGIN) * last
    if place < 0:
        return int(needed[0] * 0.99)
    if place >= last:
        return int(needed[-1] * 1.01)
    below, above = needed[int(place)], needed[int(place) + 1]
    return below + int(draw.random() * (above - below))


def solve(
    search: Search, trial: Callable[[Configuration], Tried], told: Iterable[Tried] = ()
) -> list[Tried]:
    """Search until nothing is proposed; all trials in their order, those told beforehand first."""
    tried = list(told)
    most = len(tried) + len(search.grid.configurations)
    while (proposed := search.propose(tried)) is not None:
        if len(tried) == most:
            raise AssertionError(f"more trials than configurations: {tried}")
        tried.append(trial(proposed))
    return tried


def covers(one: Configuration, other: Configuration) -> bool:
    """Whether ``one`` is at least as large on every axis; written anew, for the check's sake."""
    return all(a >= b for a, b in zip(_sizes(one), _sizes(other), strict=True))


def preference(configuration: Configuration) -> tuple[int, int, int]:
    """The order of capacity, then rank, then layers; written anew, for the check's sake."""
    batch, rank, layers = _sizes(configuration)
    return batch * rank * layers, rank, layers


def objection(grid: Grid, certificate: Certificate, tried: Sequence[Tried]) -> str | None:
    """What is wrong with a certificate of capacity, given the trials; ``None`` when it is valid."""
    optimum, failures = certificate.optimum, certificate.failures
    passed = [t.configuration for t in tried if t.fits and t.configuration in grid.configurations]
    failed = [t.configuration for t in tried if not t.fits]
    if optimum != max(passed, key=preference, default=None):
        return f"{optimum} is not the best that passed"
    better = [
        c for c in grid.configurations if optimum is None or preference(c) > preference(optimum)
    ]
    for configuration in better:
        if not any(covers(configuration, failure) for failure in failures):
            return f"{configuration} is better, and nothing speaks against it"
    for failure in failures:
        if failure not in failed:
            return f"{failure} did not fail"
        if any(covers(failure, other) for other in failures if other != failure):
            return f"{failure} is not needed: a smaller one failed"
        if not any(covers(configuration, failure) for configuration in better):
            return f"{failure} speaks for none"
    return f"unsettled: {certificate.unsettled}" if certificate.unsettled else None


def _sizes(configuration: Configuration) -> tuple[int, int, int]:
    return configuration.batch_size, configuration.lora_rank, configuration.lora_layers


def _even_log(draw: random.Random, low: float, high: float) -> float:
    """A number whose logarithm is even between those of ``low`` and ``high``."""
    return math.exp(draw.uniform(math.log(low), math.log(high)))


def _adapters(draw: random.Random) -> float:
    return _even_log(draw, 0.04, 1.6)


def _activations(draw: random.Random) -> float:
    return _even_log(draw, 0.08, 3.8)


def _terms(grid: Grid, configuration: Configuration) -> tuple[float, float, float]:
    """Batch, rank × layers and batch × layers, as shares of the largest."""
    batch, rank, layers = (
        size / most for size, most in zip(_sizes(configuration), _sizes(grid.largest), strict=True)
    )
    return batch, rank * layers, batch * layers


def _linear(grid: Grid, level: float, batch: float, adapters: float, activations: float) -> Form:
    def form(configuration: Configuration) -> float:
        terms = zip(_terms(grid, configuration), (batch, adapters, activations), strict=True)
        return level + sum(term * scale for term, scale in terms)

    return form


def _with_noise(memory: Memory, draw: random.Random) -> Memory:
    return {c: needed * (1 + draw.uniform(-NOISE, NOISE)) for c, needed in memory.items()}


def _made_monotone(memory: Memory) -> Memory:
    """Each configuration needs the most of all that it covers."""
    return {c: max(needed for other, needed in memory.items() if covers(c, other)) for c in memory}


def _in_bytes(grid: Grid, memory: Memory) -> Surface:
    return Surface(grid, {c: int(needed * GB) for c, needed in memory.items()})
