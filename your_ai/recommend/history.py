"""What this machine has measured before, from the results of earlier runs."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

from worker.protocol.messages import Weights
from your_ai.planning.device import Device
from your_ai.planning.plan import TrainingOptions, Trial
from your_ai.runs.run_dir import RESULTS, TRAINING
from your_ai.supervision.outcome import OutcomeKind
from your_ai.system.machine import Machine

# Reading must stay a matter of a moment: orjson takes 0.2 s for so many bytes. A trial's results
# are 0.1 MB at most, so that a search of all five presets has some 6.
_MOST_RUNS = 100
_MOST_BYTES = 64_000_000

# A new kernel leaves a little more or less of the same memory.
_SAME_MEMORY = 0.02

_PACKAGES = ("mlx", "mlx-lm")

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One trial of this machine; sizes are bytes.

    ``training`` is what it trained with, as `training_of` tells it. ``parameters`` the model had
    then. ``needed_bytes`` is ``None`` for a trial that was over budget: it needs more than
    ``budget_bytes``, or was a real training, for which ``enough_bytes`` did. ``peak_bytes``, under
    that budget, is known only of a pass.
    """

    model_name: str
    training: TrainingOptions
    backend: str
    parameters: int
    resident_bytes: int
    needed_bytes: int | None
    peak_bytes: int | None
    budget_bytes: int
    enough_bytes: int | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What two measurements have in common of which the newer one takes the other's place."""
        refused = self.budget_bytes if self.needed_bytes is None else None
        is_training = self.enough_bytes is not None
        return self.model_name, self.training, self.backend, refused, is_training


@dataclass(frozen=True, slots=True)
class History:
    """The newest run's device, when that run began (UTC), and the newest of all measurements."""

    device: Device | None = None
    device_seen_at: str = ""
    measurements: tuple[Measurement, ...] = ()


def installed_versions() -> dict[str, str]:
    """The versions of the packages on which needed memory depends, without importing them."""
    return {name: metadata.version(name) for name in _PACKAGES}


def read(runs: Path, machine: Machine, versions: Mapping[str, str]) -> History:
    """What the newest runs in the folder ``runs`` measured on ``machine`` with these ``versions``.

    A file that is torn, foreign or another machine's says nothing, and is no error. With other
    versions it still tells which device there is.
    """
    newest, seen_at = None, ""
    found: dict[tuple[object, ...], Measurement] = {}
    for document in _documents(runs):
        device = _device(document, machine)
        if device is None:
            continue
        if newest is None:
            newest, seen_at = device, str(document.get("started_at", ""))
        if any(device.versions.get(name) != version for name, version in versions.items()):
            continue
        for measurement in [
            *_measurements(document, device.backend),
            *_trained(document, device.backend),
        ]:
            found.setdefault(measurement.key, measurement)
    return History(newest, seen_at, tuple(found.values()))


def training_of(trial: Trial) -> TrainingOptions:
    """What ``trial`` trains with, every default spelled out; ``steps``, which do not count, ours.

    Needed memory does not depend on how often the same step is done.
    """
    spec = trial.spec
    return TrainingOptions(
        batch_size=spec.batch_size,
        lora_rank=spec.lora_rank,
        lora_layers=spec.lora_layers,
        seq_length=spec.seq_length,
        quantize=trial.bits or 0,
        weights=spec.weights,
        grad_checkpoint=spec.grad_checkpoint,
    )


def _documents(runs: Path) -> Iterator[dict[str, Any]]:
    """The newest runs' results and trainings, newest first: a folder's name is when it began."""
    try:
        newest = sorted((folder.name for folder in runs.iterdir()), reverse=True)[:_MOST_RUNS]
    except OSError:
        return
    left = _MOST_BYTES
    for name in newest:
        for path in (runs / name / RESULTS, runs / name / TRAINING):
            try:
                status = path.stat()
                if not stat.S_ISREG(status.st_mode) or status.st_size > left:
                    continue
                left -= status.st_size
                document = orjson.loads(path.read_bytes())
            except (OSError, orjson.JSONDecodeError):
                continue
            if isinstance(document, dict):
                yield document


def _device(document: Mapping[str, Any], machine: Machine) -> Device | None:
    """The device of a run on this machine; what was free of it then says nothing of now."""
    try:
        if not _is_same(document["machine"], machine):
            return None
        device = document["device"]
        working_set = device["working_set_bytes"]
        return Device(
            backend=str(device["backend"]),
            name=str(device["name"]),
            memory_bytes=_count(device["memory_bytes"]),
            working_set_bytes=None if working_set is None else _count(working_set),
            free_bytes=None,
            versions=dict(device["versions"]),
        )
    except _UNREADABLE:
        return None


def _is_same(facts: Mapping[str, Any], machine: Machine) -> bool:
    here = (machine.system, machine.architecture, machine.cpus)
    there = (facts["system"], facts["architecture"], facts["cpus"])
    difference = abs(_count(facts["memory_bytes"]) - machine.memory_bytes)
    return here == there and difference <= _SAME_MEMORY * machine.memory_bytes


def _measurements(document: Mapping[str, Any], backend: str) -> Iterator[Measurement]:
    for entry in _entries(document):
        try:
            found = _measurement(entry, backend)
        except _UNREADABLE:
            continue
        if found is not None:
            yield found


def _entries(document: Mapping[str, Any]) -> Iterator[Any]:
    """Each model's own entry, and those of a search for its best configuration."""
    for entry in _listed(document.get("results")):
        yield entry
        best = entry.get("optimal_config") if isinstance(entry, dict) else None
        yield from _listed(best.get("all_results") if isinstance(best, dict) else None)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _measurement(entry: Mapping[str, Any], backend: str) -> Measurement | None:
    """What an entry tells of needed memory, if it got as far as to have its weights loaded."""
    needed, peak, config = entry["needed_memory_bytes"], entry["peak_memory_bytes"], entry["config"]
    if needed is None and entry["outcome"] != OutcomeKind.OVER_BUDGET:
        return None
    return Measurement(
        model_name=str(entry["model_name"]),
        training=_training(config),
        backend=backend,
        parameters=_count(entry["load"]["parameters"]),
        resident_bytes=_count(entry["load"]["resident_bytes"]),
        needed_bytes=None if needed is None else _count(needed),
        peak_bytes=None if peak is None else _count(peak),
        budget_bytes=_count(config["budget_bytes"]),
    )


def _trained(document: Mapping[str, Any], backend: str) -> Iterator[Measurement]:
    """What a real training tells, if whole batches of full length went through it.

    Real weights take the memory of synthesized ones, for which is asked by default.
    """
    try:
        config, setting = document["config"], document["setting"]
        if document["longest_tokens"] < config["seq_length"] or setting["parts"] != 1:
            return
        yield Measurement(
            model_name=str(document["model_name"]),
            training=replace(_training(config), weights=Weights.SYNTHETIC),
            backend=backend,
            parameters=_count(document["load"]["parameters"]),
            resident_bytes=_count(document["load"]["resident_bytes"]),
            needed_bytes=None,
            peak_bytes=_count(document["measured"]["peak_bytes"]),
            budget_bytes=_count(config["budget_bytes"]),
            enough_bytes=_count(document["measured"]["peak_bytes"]),
        )
    except _UNREADABLE:
        return


def _training(config: Mapping[str, Any]) -> TrainingOptions:
    bits = config["quantization_bits"]
    return TrainingOptions(
        batch_size=_count(config["batch_size"]),
        lora_rank=_count(config["lora_rank"]),
        lora_layers=_count(config["lora_layers"]),
        seq_length=_count(config["seq_length"]),
        quantize=0 if bits is None else _count(bits),
        weights=Weights(config["weights"]),
        grad_checkpoint=bool(config["grad_checkpoint"]),
    )


def _count(value: Any) -> int:
    """A whole number above 0, which everything is that a measurement counts."""
    if type(value) is not int or value < 1:
        raise ValueError(f"not a count: {value!r}")
    return value
