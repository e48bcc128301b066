"""What to try after a trial that did not pass: pure."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace

from worker.protocol.messages import Quantization, TrialRequest, Weights
from your_ai.errors import UsageError
from your_ai.planning.memory_estimate import error_share, estimate
from your_ai.planning.plan import Trial
from your_ai.supervision.observation import Kill, Observation
from your_ai.supervision.outcome import Outcome, OutcomeKind

_LEAST_SEQ_LENGTH = 128
_LEAST_LAYERS = 4


def advice(trial: Trial, outcome: Outcome, seen: Observation) -> str | None:
    """One line, or ``None`` where it passed or the reason says what there is to say."""
    match outcome.kind:
        case OutcomeKind.OVER_BUDGET:
            return _smaller(trial, seen)
        case OutcomeKind.OOM if seen.needed_bytes is None:
            return _smaller(trial, seen)
        case OutcomeKind.TIMEOUT if seen.killed is not Kill.DEADLINE:
            return "run it again; if it hangs again, the log says where"
        case OutcomeKind.CRASH if seen.returncode == -signal.SIGKILL:
            return "look whether another program or a memory limit ended it, and run it again"
        case OutcomeKind.CRASH if seen.memory_limited:
            return "raise the limit (`ulimit -v unlimited`), or give a smaller --max-memory"
    return None


def _smaller(trial: Trial, seen: Observation) -> str:
    """The first change that should make it fit, as the estimate tells from what it took now."""
    backend = seen.device.backend if seen.device else "cuda"
    try:
        now, budget = estimate(trial.spec, backend), trial.spec.budget_bytes
        # It needs more than the budget, whatever the estimate says; its weights are counted.
        working = now.needed_bytes - now.resident_bytes
        off = max(1.0, (budget - now.resident_bytes) / working)
        margin = 1 + error_share(trial.spec.model.config, backend)
        for changed, options in _changes(trial):
            then = estimate(changed, backend)
            above = (then.needed_bytes - then.resident_bytes) * off * margin
            if then.resident_bytes + above <= budget:
                return f"{options} should fit"
    except UsageError:  # of no architecture that can be estimated
        return f"`your_ai optimize {trial.model.name}` looks for what fits"
    return "a smaller model; `your_ai recommend` says at once which should fit"


def _changes(trial: Trial) -> Iterator[tuple[TrialRequest, str]]:
    """Ever smaller trainings, those first that cost the result least, and the options for each."""
    spec, options = trial.spec, list[str]()
    if not spec.grad_checkpoint:
        spec = replace(spec, grad_checkpoint=True)
        options.append("--grad-checkpoint")
        yield spec, " ".join(options)
    if trial.bits is None and spec.weights is Weights.SYNTHETIC:
        spec = replace(spec, quantization=Quantization(4))
        options.append("--quantize 4")
        yield spec, " ".join(options)
    for field, option, sizes in (
        ("batch_size", "--batch-size", _halves(spec.batch_size, 1)),
        ("seq_length", "--seq-length", _halves(spec.seq_length, _LEAST_SEQ_LENGTH)),
        ("lora_layers", "--lora-layers", _halves(spec.lora_layers, _LEAST_LAYERS)),
    ):
        for size in sizes:
            spec = replace(spec, **{field: size})  # type: ignore[arg-type]  # all three are int
            yield spec, " ".join([*options, f"{option} {size}"])
        options += [f"{option} {size}" for size in sizes[-1:]]


def _halves(size: int, least: int) -> list[int]:
    """Half of it, half of that, down to ``least``."""
    return [size >> n for n in range(1, size.bit_length()) if size >> n >= least]
