"""Suggest what to try after a trial that did not pass: pure."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from dataclasses import replace

from worker.protocol.configuration import Configuration, FineTuneType, Weights
from your_ai.planning.memory_estimate import error_share, estimate
from your_ai.planning.plan import DEFAULT_QUANTIZATION, Trial
from your_ai.search.grid import lengths_up_to
from your_ai.supervision.observation import Observation
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.units import GB

_MIN_SEQ_LENGTH = 128
_MIN_LAYERS = 4


def suggestion(trial: Trial, outcome: Outcome, observation: Observation) -> str | None:
    """Return one line of text; ``None`` if the trial passed or its reason says enough."""
    if outcome.advice is not None:
        return outcome.advice
    match outcome.kind:
        case OutcomeKind.OVER_BUDGET:
            return smaller(trial, _backend(observation))
        case OutcomeKind.OOM if observation.needed_bytes is None:
            return smaller(trial, _backend(observation))
        case OutcomeKind.CRASH if observation.returncode == -signal.SIGKILL:
            return "check whether another program or a memory limit killed it, then retry"
        case OutcomeKind.CRASH if observation.memory_limited:
            return "raise the limit (`ulimit -v unlimited`), or lower --max-memory"
    return None


def smaller(trial: Trial, backend: str) -> str:
    """Return the first change with which the trial should fit, according to the estimate.

    The estimate is scaled to agree with the trial, which needed more than its budget.
    """
    budget = trial.request.budget_bytes
    limit = f"--max-memory {budget / GB:.3g}"
    failed = estimate(trial.model, trial.configuration, backend)
    scale = 1 + error_share(trial.configuration, backend)
    if failed is not None:
        # Only what training adds is scaled: the resident memory is exact.
        added = max(1, failed.needed_bytes - failed.resident_bytes)
        scale *= max(1.0, (budget - failed.resident_bytes) / added)
    is_known = failed is not None
    for changed, options in _changes(trial):
        reduced = estimate(trial.model, changed, backend)
        if reduced is None:
            continue
        is_known = True
        scaled = (reduced.needed_bytes - reduced.resident_bytes) * scale
        if reduced.resident_bytes + scaled <= budget:
            return f"{options} (should fit)"
    if not is_known and not trial.is_too_large:
        name = shlex.quote(trial.model.path or trial.model.name)
        return f"`your_ai ceiling {name} {limit}`, which finds the longest sequences that fit"
    return f"a smaller model; `your_ai recommend {limit}` lists models that should fit"


def _backend(observation: Observation) -> str:
    return observation.device.backend if observation.device else "cuda"


def _changes(trial: Trial) -> Iterator[tuple[Configuration, str]]:
    """Yield configurations that need less and less memory, each with the options to select it.

    Changes that affect the training least come first.
    """
    changed, options = trial.configuration, list[str]()
    if not changed.grad_checkpoint:
        changed = replace(changed, grad_checkpoint=True)
        options.append("--grad-checkpoint")
        yield changed, " ".join(options)
    is_full = changed.fine_tune_type is FineTuneType.FULL
    is_quantizable = changed.weights is Weights.SYNTHETIC and trial.model.is_preset and not is_full
    if changed.quantization_bits is None and is_quantizable:
        changed = replace(changed, quantization_bits=int(DEFAULT_QUANTIZATION))
        options.append(f"--quantize {DEFAULT_QUANTIZATION}")
        yield changed, " ".join(options)
    for field, option, sizes in (
        ("batch_size", "--batch-size", _halves(changed.batch_size, 1)),
        ("seq_length", "--seq-length", _shorter(changed.seq_length)),
        ("lora_layers", "--lora-layers", _halves(changed.lora_layers, _MIN_LAYERS)),
    ):
        for size in sizes:
            changed = replace(changed, **{field: size})  # type: ignore[arg-type]  # all are int
            yield changed, " ".join([*options, f"{option} {size}"])
        options += [f"{option} {size}" for size in sizes[-1:]]


def _shorter(length: int) -> list[int]:
    """Return lengths below ``length`` that a search would try, the longest first, and 128.

    There are at most about 64, because each takes an estimate.
    """
    lengths = [n for n in lengths_up_to(length) if n < length][::-1]
    last = [_MIN_SEQ_LENGTH] if length > _MIN_SEQ_LENGTH else []
    return lengths[:: max(1, len(lengths) // 64)] + last


def _halves(size: int, least: int) -> list[int]:
    """Return half of ``size``, half of that, and so on down to ``least``."""
    return [size >> n for n in range(1, size.bit_length()) if size >> n >= least]
