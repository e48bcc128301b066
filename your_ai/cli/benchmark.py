"""``your_ai benchmark``: the ladder of models, smallest first, each in a trial of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from worker.protocol import Weights
from your_ai import machine, models, presets, safetensors
from your_ai.cli.options import Gigabytes, Seconds, training, training_options
from your_ai.console import Console
from your_ai.device import Device, budget_bytes, from_probe
from your_ai.errors import ExitCode, MachineError, UsageError
from your_ai.files import check_writable, write_atomically
from your_ai.models import Model
from your_ai.plan import Trial, plan
from your_ai.probe import probe_device, probe_models
from your_ai.record import TrialRecord
from your_ai.results import Run, document
from your_ai.rundir import RESULTS, make_run_dir
from your_ai.session import now, run_trials
from your_ai.supervisor import Limits


@click.command(name="benchmark")
@click.option(
    "--max-memory",
    type=Gigabytes(),
    help="The budget: the most GB that training may use. [80 %, less where that is not free]",
)
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to write the results."
)
@click.option(
    "--model",
    "names",
    multiple=True,
    metavar="PRESET|ID|PATH",
    help="A model to try instead of a suite; can be given several times. Presets: "
    f"{', '.join(presets.all_presets())}.",
)
@click.option(
    "--suite",
    "suite_name",
    type=click.Choice(presets.SUITES),
    help="The models to try. [default; smoke where MLX has only a CPU]",
)
@training_options
@click.option("--keep-going", is_flag=True, help="Try larger models even after an OOM.")
@click.option(
    "--timeout",
    type=Seconds(),
    default=Limits().deadline,
    show_default=True,
    metavar="S",
    help="Seconds that one trial may take.",
)
@click.option(
    "--run-dir", type=click.Path(path_type=Path), help="Where to keep logs and results. [a new one]"
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    *,
    max_memory: float | None,
    output: Path | None,
    names: Sequence[str],
    suite_name: str | None,
    keep_going: bool,
    timeout: float,
    run_dir: Path | None,
    quiet: bool,
    **arguments: Any,
) -> ExitCode:
    """Measure which models this machine can fine-tune, and how fast.

    Each model is trained for a few real LoRA steps in a process of its own, smallest first. A model
    that runs out of memory ends that process alone.
    """
    if names and suite_name:
        raise UsageError("--model and --suite exclude each other; give one of them.")
    if output is not None:
        check_writable(output)
    console = Console(quiet=quiet)
    host = machine.describe()
    chosen = [models.find(name) for name in dict.fromkeys(names)]
    device = from_probe(probe_device(), host)
    if not chosen:
        suite = _suite(suite_name, device, console)
        chosen = [models.from_preset(preset) for preset in suite.presets]
    options = training(arguments, presets.training_of([model.name for model in chosen]))
    if options.weights is Weights.REAL:
        _check_weights(chosen)
    budget = budget_bytes(device, max_memory)
    facts = probe_models({m.model_name: m.config for m in chosen if not m.is_preset})
    known = [models.with_facts(model, facts) for model in chosen]
    trials = tuple(plan(known, options, budget))
    run_path = make_run_dir(run_dir)
    run = Run(host, device, budget, trials, now(), str(run_path))
    targets = [run_path / RESULTS, *([output] if output else [])]
    return _run(run, run_path, targets, Limits(deadline=timeout), console, keep_going=keep_going)


def _suite(name: str | None, device: Device, console: Console) -> presets.Suite:
    if name is None and device.backend == "cpu":
        console.note(
            "MLX has only a CPU here, so tiny models are tried (--suite smoke): they show that "
            "training works. --suite default tries real ones, and takes hours."
        )
        return presets.suite("smoke")
    return presets.suite(name or "default")


def _check_weights(chosen: Sequence[Model]) -> None:
    """Refuse, before the first trial, real weights that are known not to be there or whole."""
    for model in chosen:
        if model.path is not None:
            safetensors.check_folder(Path(model.path))
        elif model.model_name.startswith("your_ai/"):
            raise UsageError(
                f"{model.name} exists only as synthesized weights; leave out --weights."
            )


def _run(
    run: Run,
    run_path: Path,
    targets: Sequence[Path],
    limits: Limits,
    console: Console,
    *,
    keep_going: bool,
) -> ExitCode:
    """Run the trials, print and write each as it ends, and tell how the command should end."""
    records: list[TrialRecord] = []
    unwritten = None
    console.begin(run)
    for progress in run_trials(run.trials, run_path, limits, keep_going=keep_going):
        if isinstance(progress, Trial):
            console.trial_began(progress, len(run.trials))
            continue
        records.append(progress)
        unwritten = _write(targets, document(run, records))
        console.trial_ended(progress)
    console.end(records, str(targets[-1]))
    if unwritten:
        raise MachineError(unwritten)
    if records and records[-1].interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.OK if any(record.passed for record in records) else ExitCode.NONE_PASSED


def _write(targets: Sequence[Path], content: bytes) -> str | None:
    """Write every target that can be; what is wrong with one that cannot. The run goes on."""
    problem = None
    for target in targets:
        try:
            write_atomically(target, content)
        except OSError as error:
            problem = f"Cannot write {target}: {error.strerror}; what was written before is intact."
    return problem
