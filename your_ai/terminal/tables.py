"""What a recommendation looks like, as plain text for people to read."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence, Set

from your_ai.planning.device import Device
from your_ai.planning.plan import Trial
from your_ai.recommend.history import training_of
from your_ai.recommend.recommend import Line, Source, Verdict, recommended
from your_ai.units import GB, show_size

_RULE_WIDTH = 60
_TEXT_WIDTH = 80
_GAP = "  "
_INDENT = "    "
_HEADS = ("Model", "Size", "Needed", "Peak", "Headroom", "Verdict", "Source")
_TO_THE_RIGHT = frozenset({"Size", "Needed", "Peak", "Headroom"})


def recommendation(
    found: Sequence[Line], device: Device, device_source: str, columns: int | None
) -> str:
    """All that is printed, for a terminal so wide; for a file, ``columns`` is ``None``."""
    rule = "━" * min(_RULE_WIDTH, columns or _RULE_WIDTH)
    memory = f"{device.memory_bytes / GB:.2f} GB"
    head = [
        f"Device: {device.name} ({device.backend}), {memory} ({device_source})",
        f"Budget: {show_size(found[0].budget_bytes)}, the most that training may use",
    ]
    if device.backend == "cpu":
        head.append("Note: this is about memory; on a CPU, training real models takes hours.")
    return "\n".join(
        [
            *(rule, "Recommendation", rule),
            *_wrapped(head, columns),
            "",
            *_models(found, columns),
            "",
            *_wrapped(_foot(found), columns),
            rule,
        ]
    )


def _models(found: Sequence[Line], columns: int | None) -> list[str]:
    """One row a model, or a short paragraph each where the terminal is too narrow for rows."""
    rows = _table(found)
    if columns is None or max(map(len, rows)) <= columns:
        return rows
    paragraphs = [text for line in found for text in _paragraph(line)]
    return _wrapped(paragraphs, columns)


def _table(found: Sequence[Line]) -> list[str]:
    return aligned([_HEADS, *(_cells(line) for line in found)], _TO_THE_RIGHT)


def aligned(rows: Sequence[Sequence[str]], to_the_right: Set[str]) -> list[str]:
    """The rows, of which the first has the heads, with their columns lined up."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(
            cell.rjust(width) if head in to_the_right else cell.ljust(width)
            for cell, width, head in zip(row, widths, rows[0], strict=True)
        ).rstrip()
        for row in rows
    ]


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.trial.model.name,
        line.trial.model.params,
        show_size(line.expected.needed_bytes),
        "–" if line.peak_bytes is None else show_size(line.peak_bytes),
        _signed(line.headroom_bytes),
        line.verdict,
        line.expected.source,
    )


def _paragraph(line: Line) -> Iterator[str]:
    name, params, needed, peak, headroom, verdict, source = _cells(line)
    yield f"{name} ({params}): {verdict} ({source})"
    peaking = "" if line.peak_bytes is None else f"peak {peak}, "
    yield f"{_INDENT}needed {needed}, {peaking}headroom {headroom}"


def _foot(found: Sequence[Line]) -> Iterator[str]:
    yield f"Recommended: {_recommended(recommended(found))}"
    yield f"For {_training([line.trial for line in found])}."
    if any(line.verdict is Verdict.TIGHT for line in found):
        yield "Tight: so near to the budget that only measuring tells, or with little to spare."
    error = max(line.expected.error_share for line in found)
    if error:
        yield (
            f"What is not measured may be off by {error * 100:.0f} %; "
            "`your_ai benchmark` with the same options measures it."
        )


def _recommended(best: Line | None) -> str:
    if best is None:
        return "none (no model fits)"
    if best.verdict is Verdict.FITS:
        return f"{best.trial.model.name} (largest model that fits)"
    is_measured = best.expected.source is Source.MEASURED
    how = "fits, with little to spare" if is_measured else "may fit: measure it first"
    return f"{best.trial.model.name} (largest model that {how})"


def _training(trials: Sequence[Trial]) -> str:
    """What the figures hold for; bits and layers are a model's own where it has its own."""
    trainings = [training_of(trial) for trial in trials]
    one = trainings[0]
    bits = sorted({training.quantize or 0 for training in trainings}, reverse=True)
    layers = sorted({training.lora_layers or 0 for training in trainings})
    last = f"{layers[0]}" if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
    checkpointing = "with" if one.grad_checkpoint else "without"
    return ", ".join(
        [
            f"{' or '.join(f'{each}-bit' if each else 'unquantized' for each in bits)} weights",
            f"batches of {one.batch_size} × {one.seq_length} tokens",
            f"rank {one.lora_rank} in the last {last} layers",
            f"{checkpointing} gradient checkpointing",
        ]
    )


def _signed(nbytes: int) -> str:
    return f"-{show_size(-nbytes)}" if nbytes < 0 else show_size(nbytes)


def _wrapped(texts: Iterable[str], columns: int | None) -> list[str]:
    """Lines no longer than the terminal is wide; a name is never broken."""
    return [
        line
        for text in texts
        for line in textwrap.wrap(
            text,
            columns or _TEXT_WIDTH,
            subsequent_indent=_INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]
