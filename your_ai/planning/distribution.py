"""How long the samples of the training data are: pure. Lengths are in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BINS = 16


@dataclass(frozen=True, slots=True)
class Distribution:
    """The lengths of the training samples, in tokens, before they are cut."""

    samples: int
    """Number of samples."""
    shortest: int
    """Tokens of the shortest sample."""
    median: int
    """Half of the samples have at most so many tokens."""
    percentile_95: int
    """95 % of the samples have at most so many tokens."""
    longest: int
    """Tokens of the longest sample."""
    mean: float
    """Average tokens of a sample."""
    max_seq_length: int
    """Longer samples are cut to so many tokens."""
    cut: int
    """Number of samples that are cut."""
    cut_tokens: int
    """Number of tokens that are cut off from all samples."""
    bin_tokens: int
    """Width of the histogram's bins, in tokens; the first starts at 0."""
    histogram: tuple[int, ...]
    """Number of samples in each bin: from more than its start up to its end."""


def distribution(lengths: Sequence[int], max_seq_length: int) -> Distribution:
    """Return the distribution of at least one sample's ``lengths``."""
    ordered = sorted(lengths)
    too_long = [length for length in ordered if length > max_seq_length]
    longest = max(1, ordered[-1])
    bin_tokens = -(-longest // BINS)
    histogram = [0] * -(-longest // bin_tokens)
    for length in ordered:
        histogram[max(0, length - 1) // bin_tokens] += 1
    return Distribution(
        samples=len(ordered),
        shortest=ordered[0],
        median=_percentile(ordered, 50),
        percentile_95=_percentile(ordered, 95),
        longest=ordered[-1],
        mean=sum(ordered) / len(ordered),
        max_seq_length=max_seq_length,
        cut=len(too_long),
        cut_tokens=sum(too_long) - len(too_long) * max_seq_length,
        bin_tokens=bin_tokens,
        histogram=tuple(histogram),
    )


def _percentile(ordered: Sequence[int], percent: int) -> int:
    """Return the smallest length that ``percent`` % of the samples do not exceed."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
