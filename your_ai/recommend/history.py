"""Read what earlier runs measured on this machine."""

from __future__ import annotations

import contextlib
import itertools
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from worker.protocol.configuration import Configuration, Weights
from worker.protocol.messages import Loaded
from your_ai.errors import UsageError
from your_ai.planning.device import Device
from your_ai.runs import results_file, training_results
from your_ai.runs.results import Results
from your_ai.runs.run_dir import RESULTS, TRAINING, files_of_runs, run_number, start_order
from your_ai.runs.training_results import LoadedModel, TrainingResults
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.outcome import OutcomeKind
from your_ai.system.machine import Machine

# These limits keep `recommend` fast: 32 MB are read in 0.1 to 0.3 s. The results of a trial take
# at most 0.1 MB.
_MAX_RUNS = 100
_MAX_BYTES = 32_000_000

_SAME_MEMORY = 0.02
"""Relative difference allowed in a machine's memory: kernel versions reserve different amounts."""

_PACKAGES = ("mlx", "mlx-lm")


@dataclass(frozen=True, slots=True)
class Measurement:
    """A trial or training that was measured on this machine; sizes are in bytes.

    A trial that passed has ``needed_bytes``, and the ``peak_bytes`` under its budget. A trial that
    needs more than its budget has neither. A training has only ``peak_bytes``.
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
        """The model and its configuration."""
        return self.model_name, self.configuration


@dataclass(frozen=True, slots=True)
class History:
    """A device, the start of the newest run on it (UTC), and its measurements, newest first."""

    device: Device
    started_at: str
    measurements: tuple[Measurement, ...]


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages that affect needed memory, without importing them."""
    return {name: metadata.version(name) for name in _PACKAGES}


def read(runs: Path, machine: Machine, versions: Mapping[str, str]) -> History | None:
    """Return what runs in the folder ``runs`` measured on ``machine`` with these ``versions``.

    What cannot be read, is damaged, not ours, or from another machine is ignored. Of a run with
    other versions only the device is used. ``None`` if there is no run of this machine.
    """
    histories = {
        start_order(folder, run.started_at): History(
            run.device, run.started_at, tuple(_measurements(run))
        )
        for folder, run in _runs(runs)
        if _is_same(run.machine, machine)
    }
    if not histories:
        return None
    newest_first = [histories[order] for order in sorted(histories, reverse=True)]
    newest = newest_first[0]
    usable = [
        run.measurements
        for run in newest_first[:_MAX_RUNS]
        if run.device.backend == newest.device.backend
        and versions.items() <= run.device.versions.items()
    ]
    # The memory that was free at that time may not be free now.
    device = replace(newest.device, free_bytes=None)
    return History(device, newest.started_at, tuple(itertools.chain(*usable)))


def _runs(runs: Path) -> Iterator[tuple[Path, Results | TrainingResults]]:
    """Yield the folder and the results of each run."""
    for path in _files(runs):
        with contextlib.suppress(OSError, UsageError):
            if path.name == RESULTS:
                yield path.parent, results_file.load(path)
            else:
                yield path.parent, training_results.read(path.read_bytes(), path.name)


def _files(runs: Path) -> Iterator[Path]:
    """Yield the runs' results files, the last ones first, up to a total size."""
    paths = list[Path]()
    with contextlib.suppress(UsageError):
        paths = [*files_of_runs(runs, RESULTS), *files_of_runs(runs, TRAINING)]
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((run_number(path.parent), status.st_mtime, status, path))
    remaining = _MAX_BYTES
    for *_, status, path in sorted(found, key=lambda each: each[:2], reverse=True):
        if stat.S_ISREG(status.st_mode) and status.st_size <= remaining:
            remaining -= status.st_size
            yield path


def _is_same(measured: Machine, this: Machine) -> bool:
    # Updates of the system or of Python do not make it another machine.
    updated = replace(
        measured, release=this.release, python=this.python, memory_bytes=this.memory_bytes
    )
    difference = abs(measured.memory_bytes - this.memory_bytes)
    return updated == this and difference <= _SAME_MEMORY * this.memory_bytes


def _measurements(run: Results | TrainingResults) -> Iterator[Measurement]:
    if isinstance(run, TrainingResults):
        # A training with split batches or short sequences needs less than its configuration.
        is_full = run.longest_tokens >= run.config.seq_length and run.setting.micro_batches == 1
        if is_full and run.load is not None and run.measured.peak_bytes is not None:
            yield _measurement(run, run.load, None, run.measured.peak_bytes)
        return
    for trial in run.trials:
        needed, load = trial.needed_memory_bytes, trial.load
        if load and (needed is not None or trial.outcome is OutcomeKind.OVER_BUDGET):
            yield _measurement(trial, load, needed, trial.peak_memory_bytes)


def _measurement(
    result: TrialResult | TrainingResults,
    load: Loaded | LoadedModel,
    needed_bytes: int | None,
    peak_bytes: int | None,
) -> Measurement:
    configuration = result.config.configuration
    if isinstance(result, TrainingResults):
        # Real weights take as much memory as synthetic ones, which are the default.
        configuration = replace(configuration, weights=Weights.SYNTHETIC)
    return Measurement(
        result.model_name,
        configuration,
        load.parameters,
        load.resident_bytes,
        needed_bytes,
        peak_bytes,
        result.config.budget_bytes,
    )
