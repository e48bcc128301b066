"""``your_ai train``: from the results to real adapters."""

from __future__ import annotations

import contextlib
import shlex
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from your_ai import __version__
from your_ai.cli.options import given
from your_ai.cli.params import FILE
from your_ai.cli.run_context import here, program
from your_ai.errors import ExitCode, MachineError, UsageError
from your_ai.files import check_writable, refuse_to_replace, to_json, write_atomically
from your_ai.models import hub
from your_ai.planning.device import from_probe
from your_ai.runs.catalog import newest_results, to_resume
from your_ai.runs.journal import JOURNAL, Journal
from your_ai.runs.results import load
from your_ai.runs.resume import BEGAN, CLOSED, RESUMED
from your_ai.runs.run import check_same
from your_ai.runs.run_dir import RESULTS, TRAINING, make_logs_dir, make_run_dir, runs_dir
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.supervision.probe import probe_device
from your_ai.system import machine
from your_ai.system.signals import interrupts
from your_ai.system.sleep import kept_awake
from your_ai.terminal.open import open_screen
from your_ai.terminal.output import say
from your_ai.terminal.training import TrainingConsole
from your_ai.training import adapter_dir
from your_ai.training.dataset import look_at
from your_ai.training.export import as_yaml, lora_config, notes
from your_ai.training.job import Training, expect, from_fields, to_fields
from your_ai.training.progress import Progress, document, progress_of
from your_ai.training.request import (
    check_device,
    describe_model,
    lora_keys,
    spec_of,
    trial_of,
    with_layers,
    with_weights,
)
from your_ai.training.runner import TrainingSession
from your_ai.training.source import Choice, choose
from your_ai.units import now

_MOST = 2**31


@click.command(name="train")
@click.option(
    "--from",
    "results",
    type=FILE,
    metavar="RESULTS",
    help="Results, or a run's folder. [the last run's]",
)
@click.option("--data", type=FILE, metavar="DIR", help="A folder with train.jsonl, valid.jsonl.")
@click.option("--model", "name", help="One of the results' models. [the recommended one]")
@click.option("--iters", type=click.IntRange(1, _MOST), default=1000, show_default=True)
@click.option("--batch-size", type=click.IntRange(1, 1024), help="[as in the results]")
@click.option("--num-layers", type=click.IntRange(1, 1024), help="[as in the results]")
@click.option("--lora-rank", type=click.IntRange(1, 4096), help="[as in the results]")
@click.option("--max-seq-length", type=click.IntRange(8, 2**24), help="[as in the results]")
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, 1, min_open=True),
    default=1e-5,
    show_default=True,
)
@click.option(
    "--grad-accumulation-steps", type=click.IntRange(1, 2**16), default=1, show_default=True
)
@click.option("--grad-checkpoint/--no-grad-checkpoint", default=None, help="[as in the results]")
@click.option("--mask-prompt", is_flag=True, help="No loss on prompts.")
@click.option("--val-batches", type=click.IntRange(-1), default=25, show_default=True)
@click.option("--steps-per-report", type=click.IntRange(1), default=10, show_default=True)
@click.option("--steps-per-eval", type=click.IntRange(1), default=200, show_default=True)
@click.option("--save-every", type=click.IntRange(1), default=100, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option(
    "--adapter-path", type=click.Path(path_type=Path), default="adapters", show_default=True
)
@click.option(
    "--export",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the configuration for mlx_lm.lora there, and train nothing.",
)
@click.option(
    "--restarts",
    type=click.IntRange(0),
    default=4,
    show_default=True,
    help="How often to go on with less memory after a failure.",
)
@click.option("--run-dir", type=click.Path(path_type=Path), help="Journal and logs. [a new one]")
@click.option("--resume", is_flag=True, help="Go on with the last training, or --run-dir's.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    *,
    results: Path | None,
    data: Path | None,
    name: str | None,
    export: Path | None,
    resume: bool,
    quiet: bool,
    **asked: Any,
) -> ExitCode:
    """Train LoRA adapters with the model and configuration that the results recommend.

    By mlx-lm's own trainer, under the memory limit that was measured. Options are named as those of
    mlx_lm.lora, and take the results' place. After an OOM or a crash it goes on from the last
    checkpoint with less memory.
    """
    context = click.get_current_context()
    if quiet:
        hub.show_no_progress()
    if resume:
        return _resume(context, asked["run_dir"], quiet=quiet)
    if data is None:
        raise UsageError("Name the folder with the data to train on, by --data.")
    results = results or newest_results(runs_dir())
    choice = choose(load(results), name)
    if export is not None:
        refuse_to_replace(export, results, results / RESULTS, *data.glob("*.jsonl"))
        return _export(export, choice, data, asked, quiet=quiet)
    host = machine.describe()
    device = from_probe(probe_device(), host)
    check_device(choice, device)
    model = with_layers(describe_model(choice))
    trial = trial_of(choice, model, asked)
    found = look_at(data, trial.spec.batch_size, mask_prompt=asked["mask_prompt"])
    owner, target = uuid.uuid4().hex, Path(asked["adapter_path"].absolute())
    run_dir = make_run_dir(asked["run_dir"]).absolute()  # first: the adapters may be inside it
    with adapter_dir.claimed(target, owner), Journal.open(run_dir) as journal:
        if any(True for _ in journal.records()):
            raise UsageError(f"{run_dir} holds another run; choose another --run-dir.")
        with _unless_it_never_begins(journal):
            # Only now, when nothing else is wrong, what may take an hour to download.
            trial = trial_of(choice, with_weights(model, choice), asked)
            spec = spec_of(choice, trial, data, asked)
            config = lora_config(spec, choice.model_name, asked["steps_per_report"], [])
            spec = replace(spec, adapter_config={**config, adapter_dir.OWNER: owner})
            training = Training(
                id=owner,
                command="train",
                arguments=given(context),
                name=choice.name,
                model_name=choice.model_name,
                bits=choice.bits,
                data=found,
                spec=spec,
                needed_limit_bytes=choice.needed_limit_bytes,
                expected=expect(choice, trial, spec.iters),
                restarts=asked["restarts"],
                steps_per_report=asked["steps_per_report"],
                machine=host,
                device=device,
                started_at=now(),
                run_dir=str(run_dir),
                version=__version__,
            )
            journal.append(BEGAN, {**here(), "training": to_fields(training)})
        return _go(training, journal, Progress(training.first), quiet=quiet)


@contextlib.contextmanager
def _unless_it_never_begins(journal: Journal) -> Iterator[None]:
    """Leave no journal behind of a training that never began: there is nothing to go on with."""
    try:
        yield
    except BaseException:
        journal.discard()
        raise


def _export(
    file: Path, choice: Choice, data: Path, asked: Mapping[str, Any], *, quiet: bool
) -> ExitCode:
    """Write the configuration for mlx_lm.lora; of the model nothing but its config is read."""
    check_writable(file)
    model = with_layers(describe_model(choice))
    trial = trial_of(choice, model, asked)
    look_at(data, trial.spec.batch_size, mask_prompt=asked["mask_prompt"])
    spec = spec_of(choice, trial, data, asked)
    adapter_dir.check_free(Path(spec.adapter_path))  # or mlx_lm.lora would write over what is there
    keys = lora_keys(model)
    config = lora_config(spec, choice.model_name, asked["steps_per_report"], keys)
    said = notes(spec, choice.model_name, choice.revision or model.revision)
    _write(file, as_yaml(config, said).encode())
    if not quiet:
        command = shlex.join(["mlx_lm.lora", "--config", str(file)])
        say(f"Configuration written to {file}; train by: {command}")
    return ExitCode.OK


def _resume(context: click.Context, run_dir: Path | None, *, quiet: bool) -> ExitCode:
    folder = run_dir or to_resume(runs_dir(), "train")
    if not (folder / JOURNAL).is_file():
        raise UsageError(f"{folder} holds no run to resume; `your_ai runs` lists those kept.")
    with Journal.open(folder) as journal:
        records = [record for record, _, _ in journal.records()]
        if not records or "training" not in records[0].fields:
            raise UsageError(
                f"The run in {folder} is none of `your_ai train`; `your_ai runs` tells which is."
            )
        begun = from_fields(records[0].fields["training"])
        training = replace(begun, run_dir=str(folder.absolute()))
        device = from_probe(probe_device(), machine.describe())
        check_same(training, given(context), device, __version__)
        progress = progress_of(training, records)
        target = Path(training.spec.adapter_path)
        with adapter_dir.claimed(target, training.id) as is_ours:
            if not progress.is_done:
                _check_data(training)
            elif not (is_ours and (target / adapter_dir.ADAPTERS).is_file()):
                raise UsageError(
                    f"The training is done, and its adapters have left {target} since."
                )
            make_logs_dir(folder)
            journal.append(RESUMED, here())
            return _go(training, journal, progress, quiet=quiet)


def _check_data(training: Training) -> None:
    """Raise UsageError unless the data is what it was: the order of a pass depends on all of it."""
    spec = training.spec
    data = look_at(Path(spec.data), spec.batch_size, mask_prompt=spec.mask_prompt)
    if data != training.data:
        raise UsageError(
            f"The data in {spec.data} is not what the training was begun with; put that back, or "
            "start a new training without --resume."
        )


def _go(training: Training, journal: Journal, progress: Progress, *, quiet: bool) -> ExitCode:
    console = TrainingConsole(open_screen(quiet=quiet), training)
    with contextlib.closing(console), kept_awake(), interrupts.deferred():
        console.begin(progress)
        if progress.is_done:
            outcome = Outcome(OutcomeKind.PASS, "every iteration was done")
        else:
            session = TrainingSession(training, journal, progress, console)
            outcome, progress = session.run(), session.progress
        passed = outcome.kind is OutcomeKind.PASS
        journal.append(CLOSED, {"at": now(), "complete": passed, "outcome": outcome.kind})
        record = document(training, progress, outcome.kind, outcome.reason)
        _write(Path(training.run_dir) / TRAINING, to_json(record))
        if passed:
            adapter_dir.discard_checkpoints(Path(training.spec.adapter_path))
        console.end(outcome, progress, [*_told(training, outcome, progress)])
    if passed:
        return ExitCode.OK
    is_interrupted = outcome.kind is OutcomeKind.INTERRUPTED
    return ExitCode.INTERRUPTED if is_interrupted else ExitCode.NONE_PASSED


def _told(training: Training, outcome: Outcome, progress: Progress) -> Iterator[str]:
    """Where things are, and what there is to do."""
    spec = training.spec
    if outcome.kind is OutcomeKind.PASS:
        yield f"Adapters written to {spec.adapter_path}"
    else:
        if progress.failures and spec.lora_layers > 1:
            fewer = spec.lora_layers // 2
            yield f"Not tried, since it trains something else: fewer layers, --num-layers {fewer}"
        if outcome.kind is OutcomeKind.INTERRUPTED or progress.saved:
            where = f" --run-dir {training.run_dir}"
            is_listed = Path(training.run_dir).parent == runs_dir()
            yield f"Go on with: {program()} train --resume{'' if is_listed else where}"
    yield f"Record written to {Path(training.run_dir) / TRAINING}"


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise MachineError(f"Cannot write {path}: {error.strerror}.") from error
