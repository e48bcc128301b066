"""The data of a training, as far as it changes its memory and time: pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from your_ai.planning.batches import Batches, batches
from your_ai.planning.distribution import Distribution, distribution
from your_ai.planning.duration import Schedule


@dataclass(frozen=True, slots=True)
class Cut:
    """How many samples and tokens are cut off at a length."""

    seq_length: int
    samples: int
    tokens: int


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The data in ``folder``, tokenized for a model, and the ``schedule`` of its training.

    ``folder`` and ``lengths`` are ``None`` if every sequence is taken to have full length.
    ``train`` and ``valid`` have the batches of each batch size in question; none if sequence
    lengths are searched. ``seconds_per_sample`` is the time for tokenizing a sample. ``cuts`` says
    what each of the searched lengths would cut off.
    """

    folder: str | None
    lengths: Distribution | None
    train: tuple[Batches, ...]
    valid: tuple[Batches, ...]
    seconds_per_sample: float
    schedule: Schedule
    cuts: tuple[Cut, ...] = ()

    def lengths_at(self, seq_length: int) -> Distribution | None:
        """Return the lengths of the samples, and how many are cut at a searched length."""
        cut = next((each for each in self.cuts if each.seq_length == seq_length), None)
        if self.lengths is None or cut is None:
            return self.lengths
        return replace(
            self.lengths, max_seq_length=seq_length, cut=cut.samples, cut_tokens=cut.tokens
        )

    @property
    def seq_length(self) -> int:
        """The longest length of a training batch, in tokens."""
        return max(each.longest for each in self.train)

    def train_of(self, batch_size: int) -> Batches | None:
        """Return the batches to train on; ``None`` if there are none of that size."""
        return _of(self.train, batch_size)

    def valid_of(self, batch_size: int) -> Batches | None:
        """Return the batches to validate on; ``None`` if there are none of that size."""
        return _of(self.valid, batch_size)


def training_data(
    folder: str,
    train: Sequence[int],
    valid: Sequence[int],
    seconds_per_sample: float,
    *,
    batch_sizes: Iterable[int],
    max_seq_length: int,
    schedule: Schedule,
) -> TrainingData:
    """Return the data whose training and validation samples have these lengths.

    There must be a batch of at least one of the sizes. Longer samples than ``max_seq_length`` are
    cut.
    """
    sizes = sorted({*batch_sizes})
    return TrainingData(
        folder,
        distribution(train, max_seq_length),
        tuple(batches(train, size, max_seq_length) for size in sizes),
        tuple(batches(valid, size, max_seq_length) for size in sizes),
        seconds_per_sample,
        schedule,
    )


def searched_data(
    folder: str | None, train: Sequence[int], seq_lengths: Sequence[int], schedule: Schedule
) -> TrainingData:
    """Return data of which only the lengths matter, because ``seq_lengths`` are searched.

    Without samples in ``train``, their lengths are not known.
    """
    if not train:
        return TrainingData(None, None, (), (), 0.0, schedule)
    known = distribution(train, max(seq_lengths))
    return TrainingData(folder, known, (), (), 0.0, schedule, tuple(_cuts(train, seq_lengths)))


def _cuts(train: Sequence[int], seq_lengths: Iterable[int]) -> Iterator[Cut]:
    ordered = sorted(train)
    up_to = [0, *accumulate(ordered)]
    for length in seq_lengths:
        kept = bisect_right(ordered, length)
        longer = len(ordered) - kept
        yield Cut(length, longer, up_to[-1] - up_to[kept] - longer * length)


def of_full_length(
    batch_sizes: Iterable[int], max_seq_length: int, schedule: Schedule
) -> TrainingData:
    """Return data that is not known, as if every sequence had full length.

    The validation set is taken to have as many batches as are evaluated.
    """
    sizes = sorted({*batch_sizes})
    most = schedule.val_batches if schedule.val_batches >= 0 else Schedule().val_batches
    return TrainingData(
        None,
        None,
        tuple(batches([max_seq_length] * size, size, max_seq_length) for size in sizes),
        tuple(batches([max_seq_length] * size * most, size, max_seq_length) for size in sizes),
        0.0,
        schedule,
    )


def _of(known: Iterable[Batches], batch_size: int) -> Batches | None:
    return next((each for each in known if each.batch_size == batch_size and each.counts), None)
