"""``your_ai train``: train with a measured configuration."""

from __future__ import annotations

import contextlib
import shlex
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from worker.protocol.configuration import FineTuneType
from your_ai import __version__
from your_ai.cli.configuration import training as training_options
from your_ai.cli.groups import GroupedCommand
from your_ai.cli.options import given
from your_ai.cli.resume_command import resume_command
from your_ai.cli.run_context import open_earlier, open_screen, probed
from your_ai.cli.train_config import note_differences, options_with_config
from your_ai.cli.train_options import GROUPS
from your_ai.errors import ExitCode, UsageError
from your_ai.files import check_writable, refuse_to_replace, to_json, write_or_fail
from your_ai.models import hub
from your_ai.models.resolve import Model
from your_ai.planning.lora_config import LoraConfig
from your_ai.planning.plan import TrainingOptions
from your_ai.runs.catalog import newest_results
from your_ai.runs.journal import CLOSED, Journal
from your_ai.runs.open_run import begin, open_new, record_resumed
from your_ai.runs.results_file import load
from your_ai.runs.run_dir import RESULTS, TRAINING, choose_run_dir, runs_dir
from your_ai.runs.trial_result import TrialResult
from your_ai.runs.worker_run import WorkerRunner
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.system import machine, nvidia
from your_ai.system.signals import interrupts
from your_ai.system.sleep import kept_awake
from your_ai.terminal.output import say
from your_ai.terminal.training import TrainingConsole
from your_ai.training import adapter_dir
from your_ai.training.dataset import check_dataset
from your_ai.training.export import as_yaml, lora_config, notes
from your_ai.training.job import Training, can_resume
from your_ai.training.progress import Progress, progress_of, results_of
from your_ai.training.request import (
    check_device,
    check_full,
    check_steps,
    check_trainable,
    choose,
    describe_model,
    expect,
    fit,
    known,
    lora_keys,
    measured_options,
    training_request,
    with_weights,
)
from your_ai.training.resume import check_resumable, version_note
from your_ai.training.runner import TrainingRunner
from your_ai.units import now


@click.command(name="train", cls=GroupedCommand, groups=GROUPS)
@click.pass_context
def command(context: click.Context, /, **values: Any) -> ExitCode:
    """Train the model with the configuration that the results recommend.

    Uses mlx-lm's trainer under the measured memory limit. Options have the names used by
    mlx_lm.lora and override the results. After an OOM or a crash, training restarts from the last
    checkpoint with less memory.
    """
    if values["quiet"]:
        hub.hide_progress_bars()
    if values["resume"]:
        return _resume(context)
    values = options_with_config(context)
    if values["data"] is None:
        raise UsageError("--data is required: a folder with train.jsonl.")
    return _start(context, values) if values["export"] is None else _export(values)


def _start(context: click.Context, values: Mapping[str, Any]) -> ExitCode:
    """Train. Weights are downloaded only after everything else has been checked."""
    results = load(values["source"] or newest_results(runs_dir(), settled=True))
    measured = choose(results, values["name"])
    host = machine.describe()
    device, gpu_uuid = probed(host)
    check_device(measured, results.device, device)
    model = describe_model(measured)
    _show_note(model.note)
    chosen = _options(values, measured, model)
    data = check_dataset(values["data"], chosen.batch_size, mask_prompt=values["mask_prompt"])
    owner = uuid.uuid4().hex
    run_dir = choose_run_dir(values["run_dir"])  # first: may contain the adapters
    target = values["adapter_path"].absolute()
    with open_new(run_dir) as journal, adapter_dir.claimed(target, owner):
        fitted = fit(measured, with_weights(model, measured.revision), chosen)
        request = training_request(measured, fitted, values)
        config = lora_config(request, measured.model_name, values["steps_per_report"], [])
        training = Training(
            command=str(context.command.name),
            arguments=given(context),
            machine=host,
            device=device,
            gpu_uuid=gpu_uuid,
            started_at=now(),
            run_dir=str(run_dir),
            version=__version__,
            config=values["content"],
            id=owner,
            preset=measured.preset,
            model_name=measured.model_name,
            data=data,
            request=replace(request, adapter_config={**config, adapter_dir.OWNER: owner}),
            needed_limit_bytes=known(measured.needed_memory_limit_bytes),
            expected=expect(measured, fitted, model, device.backend, request.iters),
            restarts=values["restarts"],
            steps_per_report=values["steps_per_report"],
        )
        begin(journal, training)
        return _train(training, journal, Progress(training.first_setting), quiet=values["quiet"])


def _options(values: Mapping[str, Any], measured: TrialResult, model: Model) -> TrainingOptions:
    """What was measured, with the user's options; raises UsageError if they are not possible."""
    config: LoraConfig | None = values["content"]
    defaults = {**measured_options(measured), **(config.training() if config else {})}
    chosen = training_options(values, defaults)
    check_full(measured, chosen, model)
    fitted = fit(measured, model, chosen)
    note_differences(config, fitted.configuration, measured.config.configuration)
    check_trainable(measured, fitted, model)
    check_steps(values["iters"], chosen.grad_accumulation_steps)
    return chosen


def _show_note(note: str | None) -> None:
    if note is not None:
        say(f"Note: {note}", err=True)


def _export(values: Mapping[str, Any]) -> ExitCode:
    """Write the configuration for mlx_lm.lora. Reads only the model's config, not its weights."""
    file, data = values["export"], values["data"]
    source = values["source"] or newest_results(runs_dir(), settled=True)
    measured = choose(load(source), values["name"])
    config_files = [values["config"]] if values["config"] else []
    refuse_to_replace(file, source, source / RESULTS, *data.glob("*.jsonl"), *config_files)
    check_writable(file)
    model = describe_model(measured)
    _show_note(model.note)
    fitted = fit(measured, model, _options(values, measured, model))
    request = training_request(measured, fitted, values)
    size = request.configuration.batch_size
    check_dataset(data, size, mask_prompt=request.mask_prompt, for_mlx_lm=True)
    adapter_dir.check_free(Path(request.adapter_path))  # mlx_lm.lora would overwrite them
    name, keys = measured.model_name, lora_keys(model, fitted)
    config = lora_config(request, name, values["steps_per_report"], keys)
    comments = notes(request, name, measured.revision or model.revision)
    write_or_fail(file, as_yaml(config, comments).encode())
    if not values["quiet"]:
        lora = shlex.join(["mlx_lm.lora", "--config", str(file)])
        say(f"Configuration written to {file}. Train with: {lora}")
    return ExitCode.OK


def _resume(context: click.Context) -> ExitCode:
    with open_earlier(context, Training) as (journal, training, records, device):
        progress = progress_of(training, records)
        target = Path(training.request.adapter_path)
        with adapter_dir.claimed(target, training.id) as is_ours:
            if progress.trained is None:
                check_resumable(training)
                _show_note(version_note(training, {**device.versions, "your_ai": __version__}))
            elif not (is_ours and (target / adapter_dir.ADAPTERS).is_file()):
                raise UsageError(
                    f"This training has finished, but its adapters are no longer in {target}. "
                    "Move them back, or start a new training without --resume."
                )
            record_resumed(journal, device)
            return _train(training, journal, progress, quiet=context.params["quiet"])


def _train(training: Training, journal: Journal, progress: Progress, *, quiet: bool) -> ExitCode:
    screen = open_screen(quiet=quiet)
    with contextlib.closing(screen), kept_awake(), interrupts.deferred():
        console = TrainingConsole(screen, training)
        console.begin(progress)
        if progress.trained:
            outcome = Outcome(OutcomeKind.PASS, "every iteration is done")
        else:
            gpu = nvidia.gpu_of(training.device.backend, training.gpu_uuid)
            workers = WorkerRunner(journal, training, gpu)
            outcome = TrainingRunner(
                training,
                journal,
                progress,
                listener=console,
                run_worker=workers.run,
                wait=workers.wait_for_room,
            ).run()
        passed = outcome.kind is OutcomeKind.PASS
        helps = can_resume(outcome, progress.saved)
        end = {"complete": passed, "outcome": outcome.kind, "can_resume": helps}
        journal.append(CLOSED, {"at": now(), **end})
        content = to_json(results_of(training, progress, outcome))
        write_or_fail(Path(training.run_dir) / TRAINING, content)
        if passed:
            adapter_dir.discard_checkpoints(Path(training.request.adapter_path))
        console.end(outcome, progress, [*_hints(training, outcome, progress)])
    if outcome.kind is OutcomeKind.INTERRUPTED:
        return ExitCode.INTERRUPTED
    return ExitCode.OK if passed else ExitCode.NONE_PASSED


def _hints(training: Training, outcome: Outcome, progress: Progress) -> Iterator[str]:
    """Where the files are, and what to do next."""
    request = training.request
    if outcome.kind is OutcomeKind.PASS:
        is_full = request.configuration.fine_tune_type is FineTuneType.FULL
        yield f"{'Weights' if is_full else 'Adapters'} written to {request.adapter_path}"
    else:
        fewer = request.configuration.lora_layers // 2
        if progress.failures and fewer:
            yield (
                f"You can train fewer layers (--num-layers {fewer}); this changes the result, "
                "so it was not tried automatically."
            )
        if can_resume(outcome, progress.saved):
            yield f"Training incomplete. Continue with: {resume_command(training)}"
    yield f"Losses and measurements written to {Path(training.run_dir) / TRAINING}"
