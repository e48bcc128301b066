"""The longest sequences that fit, as tables and in words: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from your_ai.planning.distribution import Distribution
from your_ai.report.ceiling import NAMES, kinds, longest, proof, rows
from your_ai.report.naming import title
from your_ai.runs.search_result import Column as Found
from your_ai.runs.trial_result import Ceiling, TrialResult
from your_ai.terminal.tables import Column, table
from your_ai.terminal.wording import failure_text

_HEADS = {True: "With", False: "Without"}


def answer(entries: Sequence[TrialResult], models: int, width: int | None) -> Iterator[str]:
    """The map of the only model, or those of several together, and which have none."""
    maps = [(entry, entry.ceiling) for entry in entries if entry.ceiling]
    if models > 1:
        yield from _together(maps, width)
    else:
        for entry, ceiling in maps:
            yield from lines(ceiling, entry.data_lengths, width)
    for entry in entries:
        if entry.ceiling is None:
            yield f"{title(entry)}: {failure_text(entry.outcome, entry.error or '')}"


def lines(ceiling: Ceiling, lengths: Distribution | None, width: int | None) -> Iterator[str]:
    """A model's map, what it rests on, and which samples of the data fit."""
    words = " or ".join(NAMES[kind] for kind in kinds(ceiling))
    yield f"Longest sequence that fits, {words} gradient checkpointing, in tokens:"
    yield map_of(ceiling, width)
    yield proof(ceiling)
    if lengths is not None:
        yield from _samples(ceiling, lengths)


def map_of(ceiling: Ceiling, width: int | None) -> str:
    """A model's map: a row for each batch size, with the speed where it was measured."""
    columns = [Column("Batch", "batch {}", is_number=True)]
    for kind in kinds(ceiling):
        columns += [Column(_HEADS[kind], f"{NAMES[kind]} checkpointing {{}}", is_number=True)]
        columns += [Column("Tokens/s", "at {} tokens/s", is_number=True)]
    cells = [
        [f"{batch}", *(cell for each in found for cell in (longest(each, ceiling), _speed(each)))]
        for batch, found in rows(ceiling).items()
    ]
    return table(columns, cells, width)


def _together(maps: Sequence[tuple[TrialResult, Ceiling]], width: int | None) -> Iterator[str]:
    """The maps of several models: a row for each, with and without checkpointing."""
    for kind in dict.fromkeys(kind for _, ceiling in maps for kind in kinds(ceiling)):
        found = [(entry, _lengths(ceiling, kind)) for entry, ceiling in maps]
        batches = dict.fromkeys(batch for _, lengths in found for batch in lengths)
        columns = [Column("Model"), Column("Size", is_number=True)]
        columns += [Column(f"Batch {n}", f"batch {n}: {{}}", is_number=True) for n in batches]
        cells = [
            [entry.preset, entry.params, *(lengths.get(batch) for batch in batches)]
            for entry, lengths in found
        ]
        yield f"Longest sequence {NAMES[kind]} gradient checkpointing, in tokens:"
        yield table(columns, cells, width)


def _lengths(ceiling: Ceiling, kind: bool) -> dict[int, str]:
    """The longest lengths with or without checkpointing, by batch size."""
    own = (each for each in ceiling.columns if each.grad_checkpoint == kind)
    return {each.batch_size: longest(each, ceiling) for each in own}


def _speed(column: Found) -> str | None:
    speed = column.tokens_per_second
    return None if speed is None else f"{speed:,.0f}"


def _samples(ceiling: Ceiling, lengths: Distribution) -> Iterator[str]:
    """With which batch sizes the longest and the 95th-percentile sample of the data fit."""
    most, usual = lengths.longest, lengths.percentile_95
    yield f"Longest sample, {most:,} tokens: {', '.join(_up_to(ceiling, most))}."
    yield f"95 % of the samples, up to {usual:,} tokens: {', '.join(_up_to(ceiling, usual))}."


def _up_to(ceiling: Ceiling, length: int) -> Iterator[str]:
    for kind in kinds(ceiling):
        own = [each for each in ceiling.columns if each.grad_checkpoint == kind]
        batches = [each.batch_size for each in own if (each.longest or 0) >= length]
        failure = own[0].shortest_failure  # of the smallest batch
        if batches:
            fits = f"up to batch {max(batches)}"
        elif failure is not None and failure <= length:
            fits = "does not fit"
        else:
            fits = "not known to fit"
        yield f"{fits} {NAMES[kind]} checkpointing"
