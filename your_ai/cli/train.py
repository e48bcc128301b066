"""``your_ai train``: from the results to real adapters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from worker.protocol import ModelSource, TrainingSpec, Weights
from your_ai import __version__, hub, machine, models, safetensors
from your_ai.awake import kept_awake
from your_ai.cli.options import given
from your_ai.cli.running import program
from your_ai.cli.types import FILE
from your_ai.device import from_probe
from your_ai.errors import ExitCode, MachineError, UsageError
from your_ai.files import check_writable, json_pieces, write_atomically
from your_ai.finetune.choice import Choice, choose
from your_ai.finetune.export import as_yaml, lora_config
from your_ai.finetune.progress import Progress, document, progress_of
from your_ai.finetune.session import TrainingSession
from your_ai.finetune.training import Training, expect, from_fields, to_fields
from your_ai.interrupts import interrupts
from your_ai.journal import JOURNAL, Journal
from your_ai.models import Model
from your_ai.outcome import Outcome, OutcomeKind
from your_ai.past import BEGAN, CLOSED, RESUMED
from your_ai.plan import TrainingOptions, Trial, plan
from your_ai.probe import probe_device, probe_models
from your_ai.results import load
from your_ai.rundir import TRAINING, make_logs_dir, make_run_dir, runs_dir
from your_ai.runs import to_resume
from your_ai.session import now
from your_ai.show.screen import open_screen
from your_ai.show.terminal import say
from your_ai.show.training import TrainingConsole

_MOST = 2**31


@click.command(name="train")
@click.option("--from", "results", type=FILE, metavar="RESULTS", help="Results, or a run's folder.")
@click.option("--data", type=FILE, metavar="DIR", help="A folder with train.jsonl, valid.jsonl.")
@click.option("--model", "name", help="One of the results' models. [the recommended one]")
@click.option("--iters", type=click.IntRange(1, _MOST), default=1000, show_default=True)
@click.option("--batch-size", type=click.IntRange(1, 1024), help="[as in the results]")
@click.option("--num-layers", type=click.IntRange(1, 1024), help="[as in the results]")
@click.option("--lora-rank", type=click.IntRange(1, 4096), help="[as in the results]")
@click.option("--max-seq-length", type=click.IntRange(8, 2**24), help="[as in the results]")
@click.option("--learning-rate", type=click.FloatRange(0, 1, min_open=True), default=1e-5)
@click.option("--grad-accumulation-steps", type=click.IntRange(1, 2**16), default=1)
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
    if results is None or data is None:
        raise UsageError("Name the results to train from (--from) and the data (--data).")
    if export is not None:
        check_writable(export)
    choice = choose(load(results), name)
    _check_data(data)
    model, keys = _model(choice)
    trial = _trial(choice, model, asked)
    spec = _spec(choice, trial, data.absolute(), asked)
    config = lora_config(spec, asked["steps_per_report"], list(keys))
    if export is not None:
        _write(export, [as_yaml(config, _notes(spec)).encode()])
        say(f"Configuration written to {export}; train by: mlx_lm.lora --config {export}")
        return ExitCode.OK
    target = Path(spec.adapter_path)
    if any(target.glob("*.safetensors")) or any(target.glob("checkpoint-*")):
        raise UsageError(f"{target} holds adapters already; name another --adapter-path.")
    host = machine.describe()
    training = Training(
        command="train",
        arguments=given(context),
        name=choice.name,
        model_name=choice.model_name,
        bits=choice.bits,
        spec=spec,
        needed_limit_bytes=choice.needed_limit_bytes,
        expected=expect(choice, trial, spec.iters),
        restarts=asked["restarts"],
        steps_per_report=asked["steps_per_report"],
        machine=host,
        device=from_probe(probe_device(), host),
        started_at=now(),
        run_dir=str(make_run_dir(asked["run_dir"]).absolute()),
        version=__version__,
    )
    with Journal.open(Path(training.run_dir)) as journal:
        if any(True for _ in journal.records()):
            raise UsageError(f"{training.run_dir} holds another run; choose another --run-dir.")
        journal.append(BEGAN, {"at": now(), "training": to_fields(training)})
        target.mkdir(parents=True, exist_ok=True)
        _write(target / "adapter_config.json", json_pieces(config))
        return _go(training, journal, Progress(training.first), quiet=quiet)


def _resume(context: click.Context, run_dir: Path | None, *, quiet: bool) -> ExitCode:
    folder = run_dir or to_resume(runs_dir(), "train")
    if not (folder / JOURNAL).is_file():
        raise UsageError(f"{folder} holds no run to resume; `your_ai runs` lists those kept.")
    with Journal.open(folder) as journal:
        records = [record for record, _, _ in journal.records()]
        if not records or "training" not in records[0].fields:
            raise UsageError(f"The run in {folder} is none of `your_ai train`.")
        training = from_fields(records[0].fields["training"])
        changed = {
            option: value
            for option, value in given(context).items()
            if training.arguments.get(option) != value
        }
        if changed:
            listed = ", ".join(f"{option} {value}" for option, value in changed.items())
            raise UsageError(f"The training was begun otherwise, without {listed}.")
        make_logs_dir(folder)
        journal.append(RESUMED, {"at": now()})
        return _go(training, journal, progress_of(training, records), quiet=quiet)


def _go(training: Training, journal: Journal, progress: Progress, *, quiet: bool) -> ExitCode:
    console = TrainingConsole(open_screen(quiet=quiet), training)
    with contextlib.closing(console), kept_awake(), interrupts.deferred():
        console.begin(progress)
        session = TrainingSession(training, journal, progress, console)
        outcome = session.run()
        is_over = outcome.kind is not OutcomeKind.INTERRUPTED
        journal.append(CLOSED, {"at": now(), "complete": is_over})
        record = document(training, session.progress, outcome.kind, outcome.reason)
        _write(Path(training.run_dir) / TRAINING, json_pieces(record))
        console.end(outcome, session.progress, [*_told(training, outcome, session.progress)])
    if outcome.kind is OutcomeKind.PASS:
        return ExitCode.OK
    return ExitCode.NONE_PASSED if is_over else ExitCode.INTERRUPTED


def _told(training: Training, outcome: Outcome, progress: Progress) -> Iterator[str]:
    """Where things are, and what there is to do."""
    spec = training.spec
    if outcome.kind is OutcomeKind.PASS:
        yield f"Adapters written to {spec.adapter_path}"
    elif outcome.kind is OutcomeKind.INTERRUPTED:
        where = f" --run-dir {training.run_dir}"
        is_listed = Path(training.run_dir).parent == runs_dir()
        yield f"Go on with: {program()} train --resume{'' if is_listed else where}"
    elif progress.failures and spec.lora_layers > 1:
        fewer = spec.lora_layers // 2
        yield f"Not tried, since it trains something else: fewer layers, --num-layers {fewer}"
    yield f"Record written to {Path(training.run_dir) / TRAINING}"


def _check_data(data: Path) -> None:
    for name in ("train.jsonl", "valid.jsonl"):
        file = data / name
        if not file.is_file():
            if name == "train.jsonl":
                raise UsageError(f"{data} has no train.jsonl; see mlx-lm's LORA.md for its form.")
            say("Note: there is no valid.jsonl, so that nothing is validated.", err=True)


def _model(choice: Choice) -> tuple[Model, tuple[str, ...]]:
    """The model with a folder of real weights, and the projections that LoRA trains."""
    name = choice.model_name
    if name.startswith("your_ai/"):
        raise UsageError(f"{choice.name} exists only as synthesized weights, of no use trained.")
    if Path(name).is_dir():
        model = models.find(name)
        safetensors.check_folder(Path(name))
    else:
        sha = choice.revision or hub.revision(name).sha
        folder = hub.download(name, sha)
        model = models.find(str(folder))
    facts = probe_models({model.model_name: model.config})
    known = facts[model.model_name]
    found = models.with_facts(model, facts)
    return found, () if isinstance(known, str) else known.lora_keys


def _trial(choice: Choice, model: Model, asked: dict[str, Any]) -> Trial:
    """The trial that trains the same: what fits a model, and what it takes, is asked of it."""

    def of(option: str, measured: Any) -> Any:
        return measured if asked[option] is None else asked[option]

    options = TrainingOptions(
        batch_size=of("batch_size", choice.batch_size),
        lora_rank=of("lora_rank", choice.lora_rank),
        lora_layers=of("num_layers", choice.lora_layers),
        seq_length=of("max_seq_length", choice.seq_length),
        quantize=choice.bits or 0,
        weights=Weights.REAL,
        grad_checkpoint=of("grad_checkpoint", choice.grad_checkpoint),
    )
    return plan([model], options, choice.budget_bytes)[0]


def _spec(choice: Choice, trial: Trial, data: Path, asked: dict[str, Any]) -> TrainingSpec:
    planned = trial.spec
    return TrainingSpec(
        model=ModelSource(planned.model.config, planned.model.path),
        quantization=planned.quantization,
        data=str(data),
        adapter_path=str(asked["adapter_path"].absolute()),
        iters=asked["iters"],
        batch_size=planned.batch_size,
        parts=1,
        grad_accumulation_steps=asked["grad_accumulation_steps"],
        learning_rate=asked["learning_rate"],
        lora_rank=planned.lora_rank,
        lora_layers=planned.lora_layers,
        max_seq_length=planned.seq_length,
        grad_checkpoint=planned.grad_checkpoint,
        mask_prompt=asked["mask_prompt"],
        seed=asked["seed"],
        val_batches=asked["val_batches"],
        steps_per_eval=asked["steps_per_eval"],
        save_every=asked["save_every"],
        limit_bytes=choice.limit_bytes,
        budget_bytes=choice.budget_bytes,
        restart=False,
    )


def _notes(spec: TrainingSpec) -> list[str]:
    notes = [
        "The training that your_ai train would start, for mlx_lm.lora --config.",
        f"It was measured under mx.set_memory_limit({spec.limit_bytes}); this sets none.",
    ]
    if spec.quantization is not None:
        bits = spec.quantization.bits
        notes += [
            f"And with {bits}-bit weights, which this model's are not; to make them:",
            f"mlx_lm.convert --hf-path {spec.model.path} -q --q-bits {bits} --mlx-path DIR",
        ]
    return notes


def _write(path: Path, content: Any) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise MachineError(f"Cannot write {path}: {error.strerror}.") from error
