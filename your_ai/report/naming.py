"""Names of models and configurations in reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from your_ai.planning.describe import SIZES, sizes
from your_ai.runs.results import Results
from your_ai.runs.trial_result import TrialResult
from your_ai.system.conditions import caveats


def with_distinct_names(results: Results) -> Results:
    """Return the results, with paths instead of names for folders that have the same name."""
    models = Counter(preset for preset, _ in {(e.preset, e.model_name) for e in results.results})

    def name(entry: TrialResult) -> str:
        return entry.preset if models[entry.preset] == 1 else entry.model_name

    named = (_named(entry, name(entry)) for entry in results.results)
    return replace(results, results=tuple(named))


def title(trial: TrialResult) -> str:
    """Return the model and its size: ``llama-8b (8B)``."""
    return f"{trial.preset} ({trial.params})"


def configuration(trial: TrialResult) -> str:
    """Return what searches vary: ``batch 2, rank 64, layers 16, length 1024, 4-bit``."""
    checkpointing = () if trial.config.grad_checkpoint else ("grad_checkpoints",)
    axes = (*SIZES, "seq_lengths", "quantizations", *checkpointing)
    return sizes(trial.config, " ", axes)


def _named(trial: TrialResult, name: str) -> TrialResult:
    all_results = tuple(_named(each, name) for each in trial.searched)
    optimum, ceiling = trial.optimal_config, trial.ceiling
    return replace(
        trial,
        preset=name,
        optimal_config=optimum and replace(optimum, all_results=all_results),
        ceiling=ceiling and replace(ceiling, all_results=all_results),
    )


def speed_caveats(trial: TrialResult) -> str:
    """Return why a speed is not comparable: how it was measured, such as "on battery", or empty."""
    if trial.tokens_per_second is None:
        return ""
    seconds = trial.wall_seconds or 0.0
    return " and ".join(caveats(trial.conditions_before, trial.conditions_after, seconds))


def speed_note(trial: TrialResult) -> str | None:
    """Return a note for a speed that is not comparable with others."""
    found = speed_caveats(trial)
    return caveat_note(found) if found else None


def caveat_note(caveats: str) -> str:
    """Return a note for speeds with these caveats."""
    return f"measured {caveats}; the speed is not comparable"


def by_caveats(
    trials: Iterable[TrialResult], name: Callable[[TrialResult], str]
) -> Iterator[tuple[str, str]]:
    """Yield each reason why speeds are not comparable, and the trial's name or their number."""
    found: dict[str, list[TrialResult]] = {}
    for trial in trials:
        if caveats := speed_caveats(trial):
            found.setdefault(caveats, []).append(trial)
    for caveats, those in found.items():
        yield caveats, name(those[0]) if len(those) == 1 else f"{len(those)} trials"
