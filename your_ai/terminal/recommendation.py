"""What a recommendation looks like, as plain text for people to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from your_ai.planning.device import Device
from your_ai.planning.plan import Trial
from your_ai.recommend.recommend import Line, Source, Verdict, recommended
from your_ai.terminal.output import wrap
from your_ai.terminal.screen import WIDTH
from your_ai.terminal.tables import Row, table
from your_ai.units import GB, show_size

_TEXT_COLUMNS = 80
_HEADS = ("Model", "Size", "Needed", "Peak", "Headroom", "Verdict", "Source")
_NUMBERS = frozenset({"Size", "Needed", "Peak", "Headroom"})


def recommendation(
    found: Sequence[Line], device: Device, device_source: str, columns: int | None
) -> str:
    """All that is printed, for a terminal so wide; for a file, ``columns`` is ``None``."""
    rule = "━" * min(WIDTH, columns or WIDTH)
    above = [rule, "Recommendation", rule, *_head(found[0].budget_bytes, device, device_source), ""]
    models = table(_HEADS, [_row(line) for line in found], _NUMBERS, columns)
    below = ["", *_foot(found), rule]
    head, foot = (wrap("\n".join(part), columns or _TEXT_COLUMNS) for part in (above, below))
    return f"{head}\n{models}\n{foot}"


def _head(budget_bytes: int, device: Device, device_source: str) -> Iterator[str]:
    memory = f"{device.memory_bytes / GB:.2f} GB"
    yield f"Device: {device.name} ({device.backend}), {memory} ({device_source})"
    yield f"Budget: {show_size(budget_bytes)}, the most that training may use"
    if device.backend == "cpu":
        yield "Note: this is about memory; on a CPU, training real models takes hours."


def _row(line: Line) -> Row:
    sign = "-" if line.headroom_bytes < 0 else ""
    return (
        line.trial.model.name,
        line.trial.model.params,
        show_size(line.needed_bytes),
        None if line.peak_bytes is None else show_size(line.peak_bytes),
        sign + show_size(abs(line.headroom_bytes)),
        line.verdict,
        line.source,
    )


def _foot(found: Sequence[Line]) -> Iterator[str]:
    yield f"Recommended: {_recommended(recommended(found))}"
    yield f"For {_training([line.trial for line in found])}."
    if any(line.verdict is Verdict.TIGHT for line in found):
        yield "tight: within the estimate's margin of error, or close to the budget."
    error = max(line.error_share for line in found)
    if error:
        yield (
            f"Estimates may be off by {error * 100:.0f} %; "
            "`your_ai benchmark` with the same options measures it."
        )


def _recommended(best: Line | None) -> str:
    if best is None:
        return "none (no model fits)"
    how = "fits"
    if best.verdict is not Verdict.FITS:
        is_sure = best.source is Source.MEASURED
        how = "fits, with little to spare" if is_sure else "may fit: measure it first"
    return f"{best.trial.model.name} (largest model that {how})"


def _training(trials: Sequence[Trial]) -> str:
    """What the figures hold for; bits and layers are a model's own where it has its own."""
    one = trials[0].configuration
    bits = sorted({trial.configuration.quantization_bits or 0 for trial in trials}, reverse=True)
    layers = sorted({trial.configuration.lora_layers for trial in trials})
    last = f"{layers[0]}" if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
    return (
        f"{' or '.join(f'{each}-bit' if each else 'unquantized' for each in bits)} weights, "
        f"batches of {one.batch_size} × {one.seq_length} tokens, "
        f"rank {one.lora_rank} in the last {last} layers, "
        f"{'with' if one.grad_checkpoint else 'without'} gradient checkpointing"
    )
