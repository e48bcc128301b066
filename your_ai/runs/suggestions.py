"""What to try after a trial that did not pass: pure."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace

from worker.protocol.messages import Configuration, Weights
from your_ai.errors import UsageError
from your_ai.planning.memory_estimate import error_share, estimate
from your_ai.planning.plan import DEFAULT_BITS, Trial
from your_ai.supervision.observation import Kill, Observation
from your_ai.supervision.outcome import Outcome, OutcomeKind

_MIN_SEQ_LENGTH = 128
_MIN_LAYERS = 4


def suggestion(trial: Trial, outcome: Outcome, seen: Observation) -> str | None:
    """One line; ``None`` if the trial passed or the reason says everything."""
    match outcome.kind:
        case OutcomeKind.OVER_BUDGET:
            return _smaller(trial, seen)
        case OutcomeKind.OOM if seen.needed_bytes is None:
            return _smaller(trial, seen)
        case OutcomeKind.TIMEOUT if seen.killed is not Kill.DEADLINE:
            return "run it again; if it hangs again, the log says where"
        case OutcomeKind.CRASH if seen.returncode == -signal.SIGKILL:
            return "check whether another program or a memory limit killed it, then retry"
        case OutcomeKind.CRASH if seen.memory_limited:
            return "raise the limit (`ulimit -v unlimited`), or give a smaller --max-memory"
    return None


def _smaller(trial: Trial, seen: Observation) -> str:
    """The first change that should make it fit, going by the estimate and what it took now."""
    backend = seen.device.backend if seen.device else "cuda"
    request = trial.request
    try:
        now = estimate(request, backend)
        # It needs more than the budget, whatever the estimate says; its weights are counted.
        working = now.needed_bytes - now.resident_bytes
        off = max(1.0, (request.budget_bytes - now.resident_bytes) / working)
        margin = 1 + error_share(request.model.config, backend)
        for changed, options in _changes(trial.configuration):
            then = estimate(replace(request, configuration=changed), backend)
            above = (then.needed_bytes - then.resident_bytes) * off * margin
            if then.resident_bytes + above <= request.budget_bytes:
                return f"{options} should fit"
    except UsageError:  # an architecture that cannot be estimated
        return f"`your_ai optimize {trial.model.name}` looks for what fits"
    return "a smaller model; `your_ai recommend` says at once which should fit"


def _changes(changed: Configuration) -> Iterator[tuple[Configuration, str]]:
    """Ever smaller trainings, those first that cost the result least, and the options for each."""
    options = list[str]()
    if not changed.grad_checkpoint:
        changed = replace(changed, grad_checkpoint=True)
        options.append("--grad-checkpoint")
        yield changed, " ".join(options)
    if changed.quantization_bits is None and changed.weights is Weights.SYNTHETIC:
        changed = replace(changed, quantization_bits=DEFAULT_BITS)
        options.append(f"--quantize {DEFAULT_BITS}")
        yield changed, " ".join(options)
    for field, option, sizes in (
        ("batch_size", "--batch-size", _halves(changed.batch_size, 1)),
        ("seq_length", "--seq-length", _halves(changed.seq_length, _MIN_SEQ_LENGTH)),
        ("lora_layers", "--lora-layers", _halves(changed.lora_layers, _MIN_LAYERS)),
    ):
        for size in sizes:
            changed = replace(changed, **{field: size})  # type: ignore[arg-type]  # all are int
            yield changed, " ".join([*options, f"{option} {size}"])
        options += [f"{option} {size}" for size in sizes[-1:]]


def _halves(size: int, least: int) -> list[int]:
    """Half of it, half of that, down to ``least``."""
    return [size >> n for n in range(1, size.bit_length()) if size >> n >= least]
