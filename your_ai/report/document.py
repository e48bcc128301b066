"""A results document as the report reads it: typed, and refused where it is none. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from your_ai.errors import UsageError
from your_ai.runs.results import NO_RESULTS
from your_ai.supervision.outcome import OutcomeKind
from your_ai.units import GB, show_size


@dataclass(frozen=True, slots=True)
class Phase:
    """What the worker did between two times, in seconds since its start."""

    name: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Shown:
    """One trial; sizes are bytes, times seconds.

    ``reached_bytes`` is the most active memory that was seen, whatever the outcome. ``memory`` is
    time, active and cache memory, ``footprint`` time and what the operating system charged.
    """

    model: str
    params: str
    batch_size: int
    lora_rank: int
    lora_layers: int
    seq_length: int
    bits: int | None
    outcome: OutcomeKind
    reason: str | None
    evidence: str
    certainty: str
    advice: str | None
    log_excerpt: tuple[str, ...]
    log: str | None
    budget_bytes: int
    needed_bytes: int | None
    peak_bytes: int | None
    limit_bytes: int | None
    tokens_per_second: float | None
    wall_seconds: float | None
    reached_bytes: int
    phases: tuple[Phase, ...]
    memory: tuple[tuple[float, int, int], ...]
    footprint: tuple[tuple[float, int], ...]

    @property
    def name(self) -> str:
        """The model and its size."""
        return f"{self.model} ({self.params})"

    @property
    def passed(self) -> bool:
        """Whether every step ran inside the budget."""
        return self.outcome is OutcomeKind.PASS

    @property
    def capacity(self) -> int:
        """The capacity score: batch × rank × layers."""
        return self.batch_size * self.lora_rank * self.lora_layers

    @property
    def configuration(self) -> str:
        """What a search varies."""
        return f"batch {self.batch_size}, rank {self.lora_rank}, layers {self.lora_layers}"

    @property
    def size_bytes(self) -> int:
        """Where it stands on an axis of memory: what it needs, or failing that what it reached."""
        return self.needed_bytes or self.reached_bytes

    @property
    def verdict(self) -> str:
        """How it ended, in a few words."""
        return VERDICTS[self.outcome]


VERDICTS = {
    OutcomeKind.PASS: "Pass",
    OutcomeKind.OOM: "OOM",
    OutcomeKind.OVER_BUDGET: "Over budget",
    OutcomeKind.TIMEOUT: "Timeout",
    OutcomeKind.CRASH: "Crash",
    OutcomeKind.ERROR: "Error",
    OutcomeKind.SKIPPED: "Skipped",
    OutcomeKind.INTERRUPTED: "Interrupted",
}


@dataclass(frozen=True, slots=True)
class Searched:
    """The search for one model's best configuration. ``best`` is among ``trials``, if any is."""

    model: str
    objective: str
    proven: bool
    trials: tuple[Shown, ...]
    best: Shown | None


@dataclass(frozen=True, slots=True)
class Document:
    """A run's results. ``facts`` are what they were measured with, by name."""

    recommended: str | None
    started_at: str
    complete: bool
    budget_bytes: int
    device: str
    facts: tuple[tuple[str, str], ...]
    models: tuple[Shown, ...]
    searches: tuple[Searched, ...]

    @property
    def trials(self) -> list[Shown]:
        """Every trial once: each model's, and behind it those of its search."""
        searched = {search.model: search.trials for search in self.searches}
        found = []
        for model in self.models:
            found += [model, *(t for t in searched.get(model.model, ()) if t != model)]
        return found


def read(document: Mapping[str, Any]) -> Document:
    """The typed form of a results document.

    Raises:
        UsageError: when it is none, or lacks what every version of your_ai has written.
    """
    try:
        return _document(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{NO_RESULTS}: it lacks {error}.") from error


def _document(document: Mapping[str, Any]) -> Document:
    device, machine = document["device"], document["machine"]
    entries = document["results"]
    labels = _labels(entries)
    return Document(
        recommended=document["recommended"],
        started_at=document["started_at"],
        complete=document["complete"],
        budget_bytes=document["budget_bytes"],
        device=f"{device['name']} ({device['backend']})",
        facts=(
            ("Device", f"{device['name']} ({device['backend']})"),
            ("Its memory", f"{device['memory_bytes'] / GB:.2f} GB"),
            ("Machine's memory", f"{machine['memory_bytes'] / GB:.2f} GB"),
            ("System", f"{machine['system']} {machine['release']} ({machine['architecture']})"),
            ("CPUs", str(machine["cpus"])),
            ("Budget", show_size(document["budget_bytes"])),
            *((name, str(version)) for name, version in device["versions"].items()),
            ("your_ai", document["your_ai_version"]),
            ("Started", document["started_at"]),
        ),
        models=tuple(_shown(entry, labels) for entry in entries),
        searches=tuple(_searched(entry, labels) for entry in entries if entry["optimal_config"]),
    )


def _labels(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What each model is called, by its id or path: two folders of one name by their paths."""
    names = Counter(entry["preset"] for entry in entries)
    return {
        entry["model_name"]: entry["preset" if names[entry["preset"]] == 1 else "model_name"]
        for entry in entries
    }


def _searched(entry: Mapping[str, Any], labels: Mapping[str, str]) -> Searched:
    found = entry["optimal_config"]
    trials = tuple(_shown(trial, labels) for trial in found["all_results"])
    best = (
        found["optimal_batch_size"],
        found["optimal_lora_rank"],
        found["optimal_lora_layers"],
    )
    return Searched(
        labels[entry["model_name"]],
        found["objective"],
        found["proven"],
        trials,
        next((t for t in trials if (t.batch_size, t.lora_rank, t.lora_layers) == best), None),
    )


def _shown(entry: Mapping[str, Any], labels: Mapping[str, str]) -> Shown:
    config = entry["config"]
    outcome = OutcomeKind(entry["outcome"])
    memory = tuple((float(at), int(a), int(c)) for at, a, c in entry.get("memory_timeline", ()))
    reached = max((active for _, active, _ in memory), default=0)
    if outcome is OutcomeKind.OVER_BUDGET:  # between two samples, maybe
        reached = max(reached, config["budget_bytes"])
    return Shown(
        model=labels[entry["model_name"]],
        params=entry["params"],
        batch_size=config["batch_size"],
        lora_rank=config["lora_rank"],
        lora_layers=config["lora_layers"],
        seq_length=config["seq_length"],
        bits=config["quantization_bits"],
        outcome=outcome,
        reason=entry["error"],
        evidence=entry["evidence"],
        certainty=entry["certainty"],
        advice=entry.get("advice"),
        log_excerpt=tuple(entry.get("log_excerpt", ())),
        log=entry["log"],
        budget_bytes=config["budget_bytes"],
        needed_bytes=entry["needed_memory_bytes"],
        peak_bytes=entry["peak_memory_bytes"],
        limit_bytes=entry["memory_limit_bytes"],
        tokens_per_second=entry["tokens_per_second"],
        wall_seconds=entry.get("wall_seconds"),
        reached_bytes=reached,
        phases=_phases(entry.get("phases", ()), _end(entry, memory)),
        memory=memory,
        footprint=tuple((float(at), int(size)) for at, size in entry.get("footprint_timeline", ())),
    )


def _end(entry: Mapping[str, Any], memory: Sequence[tuple[float, int, int]]) -> float:
    """When the worker was last heard of."""
    heard = [at for at, _, _ in memory[-1:]]
    heard += [step["at"] for step in entry.get("steps", ())[-1:]]
    heard += [phase["at"] for phase in entry.get("phases", ())[-1:]]
    return max(heard, default=0.0)


def _phases(phases: Sequence[Mapping[str, Any]], end: float) -> tuple[Phase, ...]:
    ends = [*(phase["at"] for phase in phases[1:]), end]
    return tuple(
        Phase(phase["phase"], phase["at"], ended)
        for phase, ended in zip(phases, ends, strict=False)
    )
