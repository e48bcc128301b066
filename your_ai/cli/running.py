"""What the commands that run trials have in common: from options to a run, and to its results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from worker.protocol import Weights
from your_ai import models, safetensors
from your_ai.device import Device, budget_bytes
from your_ai.errors import ExitCode, MachineError, UsageError
from your_ai.files import write_atomically
from your_ai.machine import Machine
from your_ai.models import Model
from your_ai.plan import TrainingOptions, Trial, plan
from your_ai.probe import probe_models
from your_ai.results import Entry, Run, document
from your_ai.rundir import RESULTS, make_run_dir
from your_ai.session import now


@dataclass
class OpenRun:
    """A run under way: where it is kept, what it has found, and what could not be written."""

    run: Run
    path: Path
    targets: Sequence[Path]
    entries: list[Entry] = field(default_factory=list)
    unwritten: str | None = None

    def write(self) -> None:
        """Write every target that can be; the run goes on without one that cannot."""
        content = document(self.run, self.entries)
        self.unwritten = None
        for target in self.targets:
            try:
                write_atomically(target, content)
            except OSError as error:
                self.unwritten = (
                    f"Cannot write {target}: {error.strerror}; what was written before is intact."
                )

    def exit_code(self) -> ExitCode:
        """How the command should end.

        Raises:
            MachineError: when the last results could not be written.
        """
        if self.unwritten:
            raise MachineError(self.unwritten)
        if any(entry.was_interrupted for entry in self.entries):
            return ExitCode.INTERRUPTED
        passed = any(entry.record.passed for entry in self.entries)
        return ExitCode.OK if passed else ExitCode.NONE_PASSED


def plan_trials(
    chosen: Sequence[Model], options: TrainingOptions, device: Device, max_memory: float | None
) -> tuple[Trial, ...]:
    """One trial a model, smallest first, within the budget.

    Raises:
        UsageError: when the options do not fit the machine or one of the models.
    """
    if options.weights is Weights.REAL:
        _check_weights(chosen)
    budget = budget_bytes(device, max_memory)
    facts = probe_models({m.model_name: m.config for m in chosen if not m.is_preset})
    known = [models.with_facts(model, facts) for model in chosen]
    return tuple(plan(known, options, budget))


def open_run(
    host: Machine,
    device: Device,
    trials: tuple[Trial, ...],
    run_dir: Path | None,
    output: Path | None,
) -> OpenRun:
    """Make the run's folder.

    Raises:
        UsageError: when it cannot be made, or holds another run.
    """
    path = make_run_dir(run_dir)
    run = Run(host, device, trials[0].spec.budget_bytes, trials, now(), str(path))
    return OpenRun(run, path, [path / RESULTS, *([output] if output else [])])


def _check_weights(chosen: Sequence[Model]) -> None:
    """Refuse, before the first trial, real weights that are known not to be there or whole."""
    for model in chosen:
        if model.path is not None:
            safetensors.check_folder(Path(model.path))
        elif model.model_name.startswith("your_ai/"):
            raise UsageError(
                f"{model.name} exists only as synthesized weights; leave out --weights."
            )
