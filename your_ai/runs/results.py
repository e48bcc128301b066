"""The results file of a run: its content, and how it is written and read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import orjson

from your_ai.errors import UsageError
from your_ai.files import to_json
from your_ai.planning.device import Device
from your_ai.runs.trial_result import TrialResult, Utc
from your_ai.system.machine import Machine
from your_ai.units import parameters_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The results of a run."""

    max_memory_gb: float
    """The budget in GB."""
    recommended: str | None
    """The `preset` of the largest model that passed; null if none did."""
    results: tuple[TrialResult, ...]
    """One entry per model that was tried, smallest first."""
    your_ai_version: str
    """Version of your_ai that did the run."""
    started_at: Utc
    """When the run started, in UTC."""
    complete: bool
    """Whether all trials of the run are finished."""
    budget_bytes: int
    """The budget in bytes."""
    machine: Machine
    """The machine that the run was made on."""
    device: Device
    """The device that models were trained on."""
    run_dir: str
    """The folder with the run's journal, logs and report."""

    @property
    def trials(self) -> list[TrialResult]:
        """All trials, each once: a model's entry, followed by the other trials of its search."""
        found = []
        for entry in self.results:
            found += [entry, *(trial for trial in entry.searched if trial.key != entry.key)]
        return found


def recommended(results: Sequence[TrialResult]) -> TrialResult | None:
    """Return the largest model that passed; of several equally large ones the first."""
    passed = [result for result in results if result.success]
    return max(passed, key=lambda result: parameters_of(result.params), default=None)


def write(results: Results) -> bytes:
    """Return the content of a results file: indented JSON."""
    return to_json(results)


def read(content: bytes, name: str) -> Results:
    """Read the bytes of a file called ``name``.

    Raises:
        UsageError: if it is not a results file.
    """
    try:
        document = orjson.loads(content)
        msgspec.convert(document, _Document)
        for trial in _trials(document):
            _restore(trial)
        return msgspec.convert(document, Results)
    except (orjson.JSONDecodeError, msgspec.ValidationError) as error:
        reason = invalid_because(error)
        raise UsageError(
            f"{name} is not a results file of `your_ai benchmark`, `optimize` or `ceiling`: "
            f"{reason}."
        ) from error


class _Step(TypedDict):
    loss: float | None


class _Trial(TypedDict, total=False):
    steps: list[_Step] | None
    load: dict[str, Any] | None


class _Search(TypedDict, total=False):
    all_results: list[_Trial]


class _Entry(_Trial, total=False):
    optimal_config: _Search | None
    ceiling: _Search | None


class _Document(TypedDict):
    """The parts of a results file that `_restore` relies on before the rest is checked."""

    results: list[_Entry]


def _trials(document: Any) -> list[dict[str, Any]]:
    found = []
    for entry in document["results"]:
        search = entry.get("optimal_config") or entry.get("ceiling") or {}
        found += [entry, *(search.get("all_results") or ())]
    return found


def _restore(trial: dict[str, Any]) -> None:
    """Restore the NaN of a diverged loss, null in JSON, and a field that version 0.1 lacks."""
    for step in trial.get("steps") or ():
        if step["loss"] is None:
            step["loss"] = math.nan
    if trial.get("load"):
        trial["load"].setdefault("at", 0.0)


def invalid_because(error: orjson.JSONDecodeError | msgspec.ValidationError) -> str:
    """Return the reason why a file could not be read, from the error of its decoding."""
    return "not valid JSON" if isinstance(error, orjson.JSONDecodeError) else str(error)
