"""What earlier runs on this machine have measured."""

from __future__ import annotations

import contextlib
import itertools
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from worker.protocol.messages import Configuration, Loaded, Weights
from your_ai.errors import UsageError
from your_ai.planning.device import Device
from your_ai.runs import results_file, training_results
from your_ai.runs.results import Results
from your_ai.runs.run_dir import RESULTS, TRAINING
from your_ai.runs.training_results import LoadedModel, TrainingResults
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.outcome import OutcomeKind
from your_ai.system.machine import Machine

# Together they keep `recommend` instant: so many bytes are read in 0.1 to 0.3 s. A trial's results
# are 0.1 MB at most.
_MAX_RUNS = 100
_MAX_BYTES = 32_000_000

# A new kernel leaves a little more or less of the same memory.
_SAME_MEMORY = 0.02

_PACKAGES = ("mlx", "mlx-lm")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One trial or training on this machine; sizes are bytes.

    A trial that passed has ``needed_bytes``, and ``peak_bytes`` under its budget. One that was over
    budget has neither, if it needs more than the budget. A training has its peak alone.
    """

    model_name: str
    configuration: Configuration
    parameters: int
    resident_bytes: int
    needed_bytes: int | None
    peak_bytes: int | None
    budget_bytes: int

    @property
    def key(self) -> tuple[str, Configuration]:
        """What was trained."""
        return self.model_name, self.configuration


@dataclass(frozen=True, slots=True)
class History:
    """A device, when the newest run on it started (UTC), and what was measured on it.

    The newest measurement is the first.
    """

    device: Device
    started_at: str
    measurements: tuple[Measurement, ...]


def installed_versions() -> dict[str, str]:
    """The versions of the packages on which needed memory depends, without importing them."""
    return {name: metadata.version(name) for name in _PACKAGES}


def read(runs: Path, machine: Machine, versions: Mapping[str, str]) -> History | None:
    """What the newest runs in the folder ``runs`` measured on ``machine`` with these ``versions``.

    Files that are damaged, foreign or from another machine are ignored. A run with other versions
    still says which device there is.
    """
    here = [
        History(run.device, run.started_at, tuple(_measurements(run)))
        for run in _runs(runs)
        if _is_same(run.machine, machine)
    ]
    here.sort(key=lambda run: run.started_at, reverse=True)
    if not here:
        return None
    newest = here[0]
    usable = [
        run.measurements
        for run in here[:_MAX_RUNS]
        if run.device.backend == newest.device.backend
        and versions.items() <= run.device.versions.items()
    ]
    # What was free of the device then says nothing about now.
    device = replace(newest.device, free_bytes=None)
    return History(device, newest.started_at, tuple(itertools.chain(*usable)))


def _runs(folder: Path) -> Iterator[Results | TrainingResults]:
    for path in _files(folder):
        with contextlib.suppress(OSError, UsageError):
            if path.name == RESULTS:
                yield results_file.load(path)
            else:
                yield training_results.read(path.read_bytes(), path.name)


def _files(runs: Path) -> Iterator[Path]:
    """The runs' results files, starting with the last written, up to a total size."""
    found = []
    for path in itertools.chain(runs.glob(f"*/{RESULTS}"), runs.glob(f"*/{TRAINING}")):
        with contextlib.suppress(OSError):
            found.append((path.stat(), path))
    left = _MAX_BYTES
    for status, path in sorted(found, key=lambda each: each[0].st_mtime, reverse=True):
        if stat.S_ISREG(status.st_mode) and status.st_size <= left:
            left -= status.st_size
            yield path


def _is_same(there: Machine, here: Machine) -> bool:
    # An update of the system or of Python makes no other machine.
    alike = replace(there, release=here.release, python=here.python, memory_bytes=here.memory_bytes)
    difference = abs(there.memory_bytes - here.memory_bytes)
    return alike == here and difference <= _SAME_MEMORY * here.memory_bytes


def _measurements(run: Results | TrainingResults) -> Iterator[Measurement]:
    if isinstance(run, TrainingResults):
        # Only whole batches of full length say something.
        is_full = run.longest_tokens >= run.config.seq_length and run.setting.micro_batches == 1
        if is_full and run.load is not None and run.measured.peak_bytes is not None:
            yield _measurement(run, run.load, None, run.measured.peak_bytes)
        return
    for trial in run.trials:
        needed, load = trial.needed_memory_bytes, trial.load
        if load and (needed is not None or trial.outcome is OutcomeKind.OVER_BUDGET):
            yield _measurement(trial, load, needed, trial.peak_memory_bytes)


def _measurement(
    of: TrialResult | TrainingResults,
    load: Loaded | LoadedModel,
    needed_bytes: int | None,
    peak_bytes: int | None,
) -> Measurement:
    configuration = of.config.configuration
    if isinstance(of, TrainingResults):
        # Real weights take the memory of synthesized ones, which are the default.
        configuration = replace(configuration, weights=Weights.SYNTHETIC)
    return Measurement(
        of.model_name,
        configuration,
        load.parameters,
        load.resident_bytes,
        needed_bytes,
        peak_bytes,
        of.config.budget_bytes,
    )
