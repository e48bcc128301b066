"""Two results documents, trial by trial: what became worse by more than noise. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from worker.protocol.messages import Phase
from your_ai.errors import UsageError
from your_ai.runs.results import NO_RESULTS
from your_ai.supervision.outcome import OutcomeKind

_SPEC = (
    *("weights", "quantization_bits", "batch_size", "lora_rank", "lora_layers"),
    *("seq_length", "grad_checkpoint"),
)
_CERTAIN = 2.0
"""Standard errors beyond which a difference of two mean speeds is no longer taken for chance."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of a trial in both documents.

    ``noise`` is the share by which it may differ between two runs of the same, as the steps that
    were measured tell. ``worse`` is by what share it became worse, negative where it got better.
    """

    before: float
    after: float
    noise: float
    more_is_worse: bool

    @property
    def share(self) -> float:
        """By what share it grew."""
        return self.after / self.before - 1

    def is_regression(self, threshold: float) -> bool:
        """Whether it became worse by more than the share ``threshold``, and by more than noise."""
        worse = self.share if self.more_is_worse else -self.share
        return worse > max(threshold, self.noise)


@dataclass(frozen=True, slots=True)
class Pair:
    """The same trial in both; the figures are those that both have measured.

    ``peak`` is left out where the budgets differ: it follows them.
    """

    name: str
    outcome_before: str
    outcome_after: str
    needed: Change | None = None
    peak: Change | None = None
    speed: Change | None = None

    @property
    def changes(self) -> dict[str, Change]:
        """The figures by their names, for those that are there."""
        named = {
            "needed_memory_bytes": self.needed,
            "peak_memory_bytes": self.peak,
            "tokens_per_second": self.speed,
        }
        return {name: change for name, change in named.items() if change is not None}

    def regressions(self, threshold: float) -> list[str]:
        """The names of what became worse; ``outcome`` where it passed before and now failed."""
        measured = self.outcome_after not in (OutcomeKind.PASS, OutcomeKind.INTERRUPTED)
        failed = self.outcome_before == OutcomeKind.PASS and measured
        worse = [name for name, change in self.changes.items() if change.is_regression(threshold)]
        return [*(["outcome"] if failed else []), *worse]


@dataclass(frozen=True, slots=True)
class Comparison:
    """``differences`` are in machine, device or versions: what may have changed the rest.

    ``lost`` are the models that passed before and of which there is no trial any more.
    """

    pairs: tuple[Pair, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    differences: tuple[str, ...]
    lost: tuple[str, ...]

    def has_regression(self, threshold: float) -> bool:
        """Whether anything became worse by more than the share ``threshold`` and than noise."""
        return bool(self.lost) or any(pair.regressions(threshold) for pair in self.pairs)


def compare(
    before: Mapping[str, Any], after: Mapping[str, Any], *, memory_only: bool = False
) -> Comparison:
    """Line up the trials of two results documents by what they trained.

    With ``memory_only`` a speed may differ by whatever it likes.

    Raises:
        UsageError: when one of them is no results document, or they have no trial in common.
    """
    try:
        old, new = dict(_trials(before)), dict(_trials(after))
        both = [key for key in old if key in new]
        if not both:
            raise UsageError(
                "The two files have no trial in common: they trained other models or "
                "configurations, so that there is nothing to compare."
            )
        return Comparison(
            tuple(_pair(key, old[key], new[key], memory_only) for key in both),
            tuple(_name(key) for key in old if key not in new),
            tuple(_name(key) for key in new if key not in old),
            tuple(_differences(before, after)),
            tuple(_lost(before, after)),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{NO_RESULTS}: it lacks {error}.") from error


def _trials(document: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], Mapping[str, Any]]]:
    """Every trial with what it trained; of a search's trials those that are no model's own."""
    for entry in document["results"]:
        searched = entry["optimal_config"]
        for trial in [entry, *(searched["all_results"] if searched else [])]:
            spec = tuple(trial["config"][field] for field in _SPEC)
            yield (trial["model_name"], trial["preset"], *spec), trial


def _lost(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    if not after["complete"]:
        return  # it may not have come to them
    there = {(entry["model_name"], entry["preset"]) for entry in after["results"]}
    for entry in before["results"]:
        if entry["success"] and (entry["model_name"], entry["preset"]) not in there:
            yield entry["preset"]


def _name(key: tuple[Any, ...]) -> str:
    _model, preset, weights, bits, batch, rank, layers, length, checkpointing = key
    parts = [f"batch={batch}, rank={rank}, layers={layers}", f"{length} tokens"]
    parts.append(f"{bits}-bit" if bits else "not quantized")
    if weights != "synthetic":
        parts.append(f"{weights} weights")
    if not checkpointing:
        parts.append("no checkpointing")
    return f"{preset} ({', '.join(parts)})"


def _pair(
    key: tuple[Any, ...], old: Mapping[str, Any], new: Mapping[str, Any], memory_only: bool
) -> Pair:
    speed = _speed(old, new)
    if speed and memory_only:
        speed = replace(speed, noise=math.inf)
    same_budget = old["config"]["budget_bytes"] == new["config"]["budget_bytes"]
    return Pair(
        _name(key),
        old["outcome"],
        new["outcome"],
        needed=_memory(old, new, "needed_memory_bytes", Phase.TIGHT),
        peak=_memory(old, new, "peak_memory_bytes", Phase.RELAXED) if same_budget else None,
        speed=speed,
    )


def _memory(
    old: Mapping[str, Any], new: Mapping[str, Any], field: str, phase: Phase
) -> Change | None:
    if not old[field] or not new[field]:
        return None
    noise = max(_spread(old, phase), _spread(new, phase))
    return Change(old[field], new[field], noise, more_is_worse=True)


def _spread(trial: Mapping[str, Any], phase: Phase) -> float:
    """By what share the peak still rose after a phase's first step, which has not settled yet."""
    peaks = [s["peak_bytes"] for s in trial["steps"] if s["phase"] == phase and s["index"] > 1]
    return 1 - min(peaks) / max(peaks) if peaks else 0.0


def _speed(old: Mapping[str, Any], new: Mapping[str, Any]) -> Change | None:
    if not old["tokens_per_second"] or not new["tokens_per_second"]:
        return None
    noise = _CERTAIN * math.hypot(_error(old), _error(new))
    return Change(old["tokens_per_second"], new["tokens_per_second"], noise, more_is_worse=False)


def _error(trial: Mapping[str, Any]) -> float:
    """The standard error of the mean step, as a share of it; of a single one nothing is known."""
    seconds = [s["seconds"] for s in trial["steps"] if s["phase"] == Phase.RELAXED]
    if len(seconds) < 2:
        return math.inf
    return float(stdev(seconds) / math.sqrt(len(seconds)) / fmean(seconds))


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    def of(document: Mapping[str, Any]) -> dict[str, Any]:
        machine, device = document["machine"], document["device"]
        return {
            "system": f"{machine['system']} {machine['release']}",
            "architecture": machine["architecture"],
            "CPUs": machine["cpus"],
            "memory": f"{machine['memory_bytes']} bytes",
            "device": f"{device['name']} ({device['backend']})",
            **device["versions"],
            "your_ai": document["your_ai_version"],
        }

    for name, document in (("BASE", before), ("NEW", after)):
        if not document["complete"]:
            yield f"{name} did not come to its end"
    old, new = of(before), of(after)
    for what in dict.fromkeys([*old, *new]):
        if old.get(what) != new.get(what):
            yield f"{what}: {old.get(what, 'none')} → {new.get(what, 'none')}"
