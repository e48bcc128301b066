"""The batches that mlx-lm makes of data with samples of several lengths: pure.

As `iterate_batches` in mlx_lm/tuner/trainer.py (0.32.2) does it. Lengths are in tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_PAD_TO = 32

_QUANTILES = (0.0, 1 / 3, 2 / 3)
"""Shares of the batches; their longest lengths are typical."""


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches of an epoch, by the number of tokens that their sequences are padded to.

    ``counts`` has pairs of a length and the number of batches with it, shortest first.
    """

    batch_size: int
    counts: tuple[tuple[int, int], ...]

    @property
    def number(self) -> int:
        """The number of batches per epoch."""
        return sum(count for _, count in self.counts)

    @property
    def longest(self) -> int:
        """The longest padded length; 0 if there are no batches."""
        return self.counts[-1][0] if self.counts else 0

    @property
    def typical(self) -> tuple[int, ...]:
        """The longest and up to three shorter lengths, which represent all of them."""
        if not self.counts:
            return ()
        chosen = {self._quantile(share) for share in _QUANTILES} | {self.longest}
        return tuple(sorted(chosen))

    def _quantile(self, share: float) -> int:
        """Return the length that this ``share`` of the batches does not exceed."""
        seen = 0
        for length, count in self.counts:
            seen += count
            if seen > share * self.number:
                return length
        return self.longest


def padded(tokens: int, max_seq_length: int) -> int:
    """Return the length of a batch whose longest sample has so many ``tokens``."""
    return min(1 + -(-tokens // _PAD_TO) * _PAD_TO, max_seq_length)


def batches(lengths: Sequence[int], batch_size: int, max_seq_length: int) -> Batches:
    """Return the batches of samples with these ``lengths``, which are in mlx-lm's order.

    Samples that do not fill a batch are left out, as in mlx-lm.
    """
    starts = range(0, len(lengths) - batch_size + 1, batch_size)
    longest = (max(lengths[start : start + batch_size]) for start in starts)
    counts = Counter(padded(tokens, max_seq_length) for tokens in longest)
    return Batches(batch_size, tuple(sorted(counts.items())))
