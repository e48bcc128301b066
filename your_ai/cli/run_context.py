"""What the commands that run trials have in common: from options to a run, and to its results."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from worker.protocol.messages import Weights
from your_ai import __version__
from your_ai.cli import internal_error
from your_ai.cli.options import given, training
from your_ai.errors import ExitCode, MachineError, UsageError
from your_ai.files import check_writable
from your_ai.models import hub, presets, resolve, weight_files
from your_ai.models.presets import Suite
from your_ai.models.resolve import Model
from your_ai.planning.device import Device, budget_bytes, from_probe
from your_ai.planning.plan import TrainingOptions, Trial, plan
from your_ai.runs.assembly import assemble
from your_ai.runs.catalog import newest_to_resume
from your_ai.runs.journal import CLOSED, Journal
from your_ai.runs.open_run import begin, open_new, open_to_resume, record_resumed
from your_ai.runs.results import Results
from your_ai.runs.results_file import ResultsWriter
from your_ai.runs.resume import RunHistory, history_of
from your_ai.runs.run import Header, Run
from your_ai.runs.run_dir import REPORT, RESULTS, make_run_dir, runs_dir
from your_ai.runs.runner import TrialRunner
from your_ai.search.search import SearchOptions
from your_ai.supervision.outcome import OutcomeKind
from your_ai.supervision.probe import probe_device, probe_models
from your_ai.system import machine
from your_ai.system.signals import interrupts
from your_ai.system.sleep import kept_awake
from your_ai.terminal.benchmark import Console
from your_ai.terminal.open import open_screen
from your_ai.units import now

Go = Callable[["OpenRun"], None]
"""Runs the trials of an open run, and shows and saves each."""


@dataclass
class OpenRun:
    """A run under way. ``done_before`` trials were finished when it was resumed."""

    run: Run
    runner: TrialRunner
    console: Console
    writer: ResultsWriter
    done_before: int

    @property
    def results(self) -> Results:
        """The results so far."""
        return assemble(self.run, self.runner.ended)

    def save(self) -> None:
        """Write the results, unless that was just done."""
        if self.writer.is_due():
            self.writer.write(self.results)

    def finish(self) -> list[str]:
        """Write the results for the last time, and the report; lines on what is where."""
        results = self.results
        self.writer.write(results, final=True)
        report = Path(self.run.run_dir) / REPORT
        told = [] if self.writer.problem else [f"Results written to {self.writer.targets[-1]}"]
        problem = _report(results, report)
        told.append(f"No report: {problem}" if problem else f"Report written to {report}")
        if not results.complete:
            told.append(f"Run incomplete. Continue with: {resume_command(self.run)}")
        return told

    def exit_code(self) -> ExitCode:
        """How the command should end.

        Raises:
            MachineError: if the last results could not be written.
        """
        if self.writer.problem:
            raise MachineError(self.writer.problem)
        ended = self.runner.ended
        if interrupts.requested or any(r.outcome is OutcomeKind.INTERRUPTED for r in ended):
            return ExitCode.INTERRUPTED
        return ExitCode.OK if any(r.success for r in ended) else ExitCode.NONE_PASSED


def _report(results: Results, path: Path) -> str | None:
    """Write the report; what went wrong in one line. Not even a bug in it ends a finished run."""
    from your_ai.report.page import write_report  # only here: jinja2 takes a while to import

    try:
        return write_report(results, path)
    except Exception as error:  # noqa: BLE001 - see above
        return f"internal error; the traceback is in {internal_error.save(error)}"


def run_trials(context: click.Context, plan_run: Callable[[Console], Run], go: Go) -> ExitCode:
    """Run the trials of a new run or, with ``--resume``, of an earlier one."""
    if context.params["quiet"]:
        hub.show_no_progress()
    console = Console(open_screen(quiet=context.params["quiet"]))
    with contextlib.closing(console):
        if context.params["resume"]:
            opening = _resumed(context, console)
        else:
            opening = _started(plan_run(console), context, console)
        with opening as opened:
            go(opened)
    return opened.exit_code()


def new_run(
    context: click.Context,
    console: Console,
    names: Sequence[str],
    suite: Callable[[Device], Suite],
    search: SearchOptions | None,
) -> Run:
    """The run that the command's options ask for; its folder is made.

    ``suite`` chooses the models if ``names`` is empty.

    Raises:
        UsageError: if the options do not fit the machine or a model, or the folder is in use.
        MachineError: if MLX does not work here.
    """
    asked = context.params
    output: Path | None = asked["output"]
    if output is not None:
        check_writable(output)
    host = machine.describe()
    chosen = [resolve.find(name) for name in dict.fromkeys(names)]
    console.notes(chosen)
    device = from_probe(probe_device(), host)
    chosen = chosen or [resolve.from_preset(preset) for preset in suite(device).presets]
    options = training(asked, presets.training_of([model.name for model in chosen]))
    trials = _plan_trials(chosen, options, budget_bytes(device, asked["max_memory"]))
    console.notes(trial.model for trial in trials if trial.model.is_preset)
    return Run(
        command=str(context.command.name),
        arguments=given(context),
        machine=host,
        device=device,
        trials=trials,
        search=search,
        deadline=asked["timeout"],
        keep_going=asked.get("keep_going", False),
        started_at=now(),
        run_dir=str(make_run_dir(asked["run_dir"]).absolute()),
        output=None if output is None else str(output.absolute()),
        version=__version__,
    )


def resume_command(run: Header) -> str:
    """What to type to continue a run or a training."""
    words = [program(), run.command, "--resume"]
    if Path(run.run_dir).parent != runs_dir():
        words += ["--run-dir", run.run_dir]
    return shlex.join(words)


def program() -> str:
    """What to type for your_ai: it need not be on the PATH, as in a checkout."""
    started = Path(sys.argv[0])
    if started.name != "your_ai" or shutil.which("your_ai") == str(started):
        return "your_ai"
    near = started.is_absolute() and started.is_relative_to(Path.cwd())
    return str(started.relative_to(Path.cwd()) if near else started)


def present_device() -> Device:
    """The device that MLX trains on now; raises MachineError if MLX does not work here."""
    return from_probe(probe_device(), machine.describe())


def _plan_trials(
    chosen: Sequence[Model], options: TrainingOptions, budget: int
) -> tuple[Trial, ...]:
    """One trial per model, smallest first."""
    if options.weights is Weights.REAL:
        _check_weights(chosen)
        chosen = [resolve.pinned(model) for model in chosen]
    facts = probe_models({m.model_name: m.config for m in chosen if not m.is_preset})
    known = [resolve.with_facts(model, facts) for model in chosen]
    return tuple(plan(known, options, budget))


def _check_weights(chosen: Sequence[Model]) -> None:
    """Refuse, before the first trial, real weights that are known to be missing or damaged."""
    for model in chosen:
        if model.path is not None:
            weight_files.check_folder(Path(model.path))
        elif model.model_name.startswith("your_ai/"):
            raise UsageError(
                f"{model.name} exists only as synthesized weights; leave out --weights."
            )


@contextlib.contextmanager
def _started(run: Run, context: click.Context, console: Console) -> Iterator[OpenRun]:
    with open_new(Path(run.run_dir)) as journal:
        begin(journal, run)
        with _under_way(run, journal, RunHistory(), context.params["output"], console) as opened:
            yield opened


@contextlib.contextmanager
def _resumed(context: click.Context, console: Console) -> Iterator[OpenRun]:
    command = str(context.command.name)
    folder = context.params["run_dir"] or newest_to_resume(runs_dir(), command)
    opening = open_to_resume(folder, Run, command, given(context), __version__, present_device)
    with opening as (journal, run, records):
        output = context.params["output"] or run.output
        if output is not None:
            check_writable(Path(output))
        record_resumed(journal)
        with _under_way(run, journal, history_of(records), output, console) as opened:
            yield opened


@contextlib.contextmanager
def _under_way(
    run: Run, journal: Journal, history: RunHistory, output: Path | str | None, console: Console
) -> Iterator[OpenRun]:
    targets = [Path(run.run_dir) / RESULTS, *([Path(output)] if output else [])]
    runner = TrialRunner(run, journal, history, console.on_event)
    opened = OpenRun(run, runner, console, ResultsWriter(targets), len(history.final))
    with kept_awake(), interrupts.deferred():
        try:
            yield opened
        except MachineError:
            # What the user finds has everything that the journal has.
            opened.writer.write(opened.results, final=True)
            raise
        journal.append(CLOSED, {"at": now(), "complete": opened.results.complete})
