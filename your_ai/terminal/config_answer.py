"""The answer of a run with --config: does this training run here, and in how much memory? Pure."""

from __future__ import annotations

from collections.abc import Iterator

from worker.protocol.messages import Phase
from your_ai.report.naming import title
from your_ai.runs.results import Results
from your_ai.runs.run import CONFIG_OPTION, Run
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.outcome import OutcomeKind
from your_ai.terminal.eta import show_duration
from your_ai.units import show_size

_TOO_LARGE = (OutcomeKind.OOM, OutcomeKind.OVER_BUDGET)


def answer(run: Run, results: Results) -> Iterator[str]:
    """What plain mlx_lm.lora and `your_ai train` need for the file; nothing without --config."""
    if run.config is None:
        return
    file = run.arguments[CONFIG_OPTION]
    for entry in results.results:
        yield f"{file} with {title(entry)}:"
        plain, limited = _times(entry)
        yield f"    mlx_lm.lora, without a memory limit: {_unlimited(entry)}{plain}"
        yield f"    your_ai train: {_limited(entry)}{limited}"


def unlimited_peak(entry: TrialResult) -> tuple[int, bool] | None:
    """The peak without a memory limit, in bytes, and whether it is only known to be larger.

    It is only known to be larger if the limit had to be lowered to keep the peak within the budget.
    ``None`` if the trial did not pass.
    """
    if not entry.success or entry.peak_memory_bytes is None:
        return None
    attempts = sum(phase.phase is Phase.RELAXED for phase in entry.phases)
    reached = [step.peak_bytes for step in entry.steps if step.phase is Phase.RELAXED]
    if attempts > 1:
        return max(reached), True
    limit = entry.memory_limit_bytes or 0
    return entry.peak_memory_bytes, entry.peak_memory_bytes >= limit


def _unlimited(entry: TrialResult) -> str:
    budget = entry.config.budget_bytes
    found = unlimited_peak(entry)
    if found is None:
        return _failure(entry)
    peak, is_larger = found
    if not is_larger:
        return f"peak {show_size(peak)}, within the budget of {show_size(budget)}"
    if peak > budget:
        return (
            f"peak of more than {show_size(peak)}, which exceeds the budget ({show_size(budget)})"
        )
    limit = show_size(entry.memory_limit_bytes or 0)
    return f"peak of more than {show_size(peak)} (measured with a limit of {limit})"


def _limited(entry: TrialResult) -> str:
    if not entry.success:
        return _failure(entry)
    speed = entry.tokens_per_second
    fast = "" if speed is None else f", {speed:,.0f} tokens/s"
    return f"runs in {show_size(entry.needed_memory_bytes or 0)} or more{fast}"


def _times(entry: TrialResult) -> tuple[str, str]:
    """How long both take, if that is known; `your_ai train` is slowest in its needed memory."""
    training = entry.expected_training
    if training is None:
        return "", ""
    shortest, longest = training.seconds, training.seconds_at_needed_memory
    plain, most = show_duration(shortest), show_duration(longest)
    limited = plain if plain == most else f"{plain} to {most}"
    return f"; about {plain} for {training.iters:,} iterations", f"; about {limited}"


def _failure(entry: TrialResult) -> str:
    if entry.outcome in _TOO_LARGE:
        return f"does not fit ({entry.error})"
    return f"not measured ({entry.error or entry.outcome.label})"
