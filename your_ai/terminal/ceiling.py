"""The longest sequences that fit, as tables and in words: pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from your_ai.planning.distribution import Distribution
from your_ai.runs.search_result import Column as Found
from your_ai.runs.trial_result import Ceiling, TrialResult
from your_ai.terminal.tables import Column, table

_UNKNOWN = "unknown"


def map_of(ceiling: Ceiling, width: int | None) -> list[str]:
    """A model's map: a row for each batch size, with the speed where it was measured."""
    kinds = sorted({each.grad_checkpoint for each in ceiling.columns}, reverse=True)
    columns = [Column("")]
    for kind in kinds:
        head = "With" if kind else "Without"
        columns += [Column(head, f"{_kind(kind)} {{}}", is_number=True)]
        columns += [Column("Tokens/s", "at {} tokens/s", is_number=True)]
    rows = []
    for batch in dict.fromkeys(each.batch_size for each in ceiling.columns):
        found = {c.grad_checkpoint: c for c in ceiling.columns if c.batch_size == batch}
        row: list[str | None] = [f"batch {batch}"]
        for kind in kinds:
            speed = found[kind].tokens_per_second
            row += [longest(found[kind], ceiling), None if speed is None else f"{speed:,.0f}"]
        rows.append(row)
    title = "Longest sequence that fits, with or without gradient checkpointing, in tokens:"
    return [title, table(columns, rows, width)]


def answer(
    maps: Sequence[tuple[TrialResult, Ceiling]], models: int, width: int | None
) -> Iterator[str]:
    """The map of the only model, or those of several together."""
    if models > 1:
        yield from _together(maps, width)
        return
    for entry, ceiling in maps:
        yield from lines(ceiling, entry.data_lengths, width)


def lines(ceiling: Ceiling, lengths: Distribution | None, width: int | None) -> Iterator[str]:
    """A model's map, what it rests on, and which samples of the data fit."""
    yield from map_of(ceiling, width)
    yield proof(ceiling)
    if lengths is not None:
        yield from samples(ceiling, lengths)


def _together(maps: Sequence[tuple[TrialResult, Ceiling]], width: int | None) -> Iterator[str]:
    """The maps of several models: a row for each, with and without checkpointing."""
    keys = dict.fromkeys(
        (each.grad_checkpoint, each.batch_size) for _, found in maps for each in found.columns
    )
    for kind in dict.fromkeys(kind for kind, _ in keys):
        batches = [batch for each, batch in keys if each == kind]
        columns = [Column("Model"), Column("Size", is_number=True)]
        columns += [Column(f"Batch {n}", f"batch {n}: {{}}", is_number=True) for n in batches]
        rows = [
            [entry.preset, entry.params, *(_cell(found, kind, batch) for batch in batches)]
            for entry, found in maps
        ]
        yield f"Longest sequence {_kind(kind)}, in tokens:"
        yield table(columns, rows, width)


def longest(column: Found, ceiling: Ceiling) -> str:
    """The longest length of a column, ``≥`` if it is the longest of the map, or ``none``."""
    if column.longest is None:
        return "none" if column.complete else _UNKNOWN
    is_last = column.longest == ceiling.grid.seq_lengths[-1]
    return f"{'' if column.complete and not is_last else '≥ '}{column.longest:,}"


def samples(ceiling: Ceiling, lengths: Distribution) -> Iterator[str]:
    """With which batch sizes the longest and the 95th-percentile sample of the data fit."""
    for name, length in (
        ("The longest sample", lengths.longest),
        ("95 % of the samples", lengths.percentile_95),
    ):
        fits = ", ".join(_up_to(ceiling.columns, length))
        size = "has" if length == lengths.longest and name.startswith("The") else "have at most"
        yield f"{name} {size} {length:,} tokens: {fits}."


def proof(ceiling: Ceiling) -> str:
    """What the map rests on."""
    trials = len(ceiling.all_results)
    counted = f"{trials} trial{'' if trials == 1 else 's'}"
    if not ceiling.complete:
        return f"Not complete after {counted}: longer sequences may fit."
    if not ceiling.proven:
        return f"Not proven in {counted}: memory may not be the cause of all failures."
    return (
        f"Proven in {counted}: every longer sequence failed, or needs at least as much memory as "
        "one that failed."
    )


def _up_to(columns: Iterable[Found], length: int) -> Iterator[str]:
    known = list(columns)
    for kind in dict.fromkeys(each.grad_checkpoint for each in known):
        batches = [
            each.batch_size
            for each in known
            if each.grad_checkpoint == kind and (each.longest or 0) >= length
        ]
        if batches:
            yield f"fits {_kind(kind)} up to batch {max(batches)}"
        else:
            yield f"does not fit {_kind(kind)}"


def _cell(ceiling: Ceiling, kind: bool, batch: int) -> str | None:
    for column in ceiling.columns:
        if (column.grad_checkpoint, column.batch_size) == (kind, batch):
            return longest(column, ceiling)
    return None


def _kind(grad_checkpoint: bool) -> str:
    return f"{'with' if grad_checkpoint else 'without'} checkpointing"
