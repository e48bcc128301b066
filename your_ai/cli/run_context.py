"""Shared by the commands that run trials: plan a run from the options, run it, save the results."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import click

from your_ai import __version__
from your_ai.cli import config_file, internal_error
from your_ai.cli.configuration import trainings
from your_ai.cli.data_option import read_data, source_of, with_length
from your_ai.cli.options import given
from your_ai.cli.plan_trials import find_device_and_models, plan_trials
from your_ai.cli.resume_command import resume_command
from your_ai.cli.search_options import check_grids
from your_ai.errors import ExitCode, MachineError
from your_ai.files import check_writable
from your_ai.models import hub, presets, resolve
from your_ai.models.resolve import Model
from your_ai.planning.device import Device, budget_bytes, from_probe, gpu_uuid
from your_ai.planning.plan import Trial
from your_ai.runs.assembly import assemble
from your_ai.runs.catalog import newest_to_resume
from your_ai.runs.cooldown import Cooldown
from your_ai.runs.journal import CLOSED, Journal, Record
from your_ai.runs.open_run import begin, open_new, open_to_resume, record_resumed
from your_ai.runs.results import Results
from your_ai.runs.results_file import ResultsWriter
from your_ai.runs.resume import RunHistory, history_of
from your_ai.runs.run import Header, Run
from your_ai.runs.run_dir import REPORT, RESULTS, choose_run_dir, runs_dir
from your_ai.runs.runner import TrialRunner
from your_ai.runs.searching import lengths_for
from your_ai.runs.trial_result import TrialResult
from your_ai.search.search import SearchOptions
from your_ai.supervision.facts import find_device
from your_ai.supervision.outcome import OutcomeKind
from your_ai.system import machine
from your_ai.system.machine import Machine
from your_ai.system.signals import interrupts
from your_ai.system.sleep import kept_awake
from your_ai.terminal.benchmark import Console
from your_ai.terminal.screen import PlainScreen, Screen
from your_ai.units import now, parameters_of

_SLOW_PARAMETERS = 100e6
"""From this size on, a training on a CPU can take hours."""

H = TypeVar("H", bound=Header)

RunTrials = Callable[["OpenRun"], None]
"""Runs the trials of a run, and shows and saves each result."""


@dataclass
class OpenRun:
    """A run in progress.

    When it was opened, ``done_before`` of its trials were finished; all of them if
    ``was_complete``.
    """

    run: Run
    journal: Journal
    runner: TrialRunner
    console: Console
    writer: ResultsWriter
    done_before: int
    was_complete: bool

    @property
    def results(self) -> Results:
        """The results so far."""
        return assemble(self.run, self.runner.ended)

    def save(self) -> None:
        """Write the results, unless they were written a moment ago."""
        if self.writer.is_due():
            self.writer.write(self.results)

    def search(
        self,
        trial: Trial,
        began: Callable[[Trial, int], None],
        ended: Callable[[TrialResult], None] = lambda _: None,
    ) -> tuple[TrialResult, ...]:
        """Run the search of a trial's model, saving each result; return all of them."""
        for progress in self.runner.search(trial):
            if isinstance(progress, Trial):
                began(progress, len(self.runner.results_of(trial)) + 1)
            else:
                self.save()
                ended(progress)
        return self.runner.results_of(trial)

    def finish(self) -> list[str]:
        """Write the final results and the report; return lines that say where they are."""
        results = self.results
        # Before the results, since a journal newer than the results file is read instead of it.
        self.journal.append(CLOSED, {"at": now(), "complete": results.complete})
        self.writer.write(results, final=True)
        report = Path(self.run.run_dir) / REPORT
        lines = [] if self.writer.problem else [f"Results written to {self.writer.targets[-1]}"]
        problem = _report(results, report)
        lines.append(f"No report: {problem}" if problem else f"Report written to {report}")
        if not results.complete:
            lines.append(f"Run incomplete. Continue with: {resume_command(self.run)}")
        return lines

    def exit_code(self) -> ExitCode:
        """The exit code; raises MachineError if the results could not be written."""
        if self.writer.problem:
            raise MachineError(self.writer.problem)
        ended = self.runner.ended
        if interrupts.requested or any(r.outcome is OutcomeKind.INTERRUPTED for r in ended):
            return ExitCode.INTERRUPTED
        return ExitCode.OK if any(r.success for r in ended) else ExitCode.NONE_PASSED


def _prepare_report() -> None:
    """Load what the report needs, which takes some 100 ms, while the first worker runs."""
    with contextlib.suppress(Exception):  # `_report` shows it
        from your_ai.report.page import template

        template()


def _report(results: Results, path: Path) -> str | None:
    """Write the report; return what went wrong, since the run must not fail because of it."""
    try:
        from your_ai.report.page import write_report  # slow: imports jinja2

        return write_report(results, path)
    except Exception as error:  # noqa: BLE001 - even a bug must not end the run
        log = internal_error.save(error)
        return f"internal error; the traceback {f'is in {log}' if log else 'could not be saved'}"


def open_screen(*, quiet: bool) -> Screen:
    """The screen for standard output: redrawn at a capable terminal, otherwise plain lines."""
    if quiet:
        return Screen()
    if not sys.stdout.isatty() or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return PlainScreen()
    from your_ai.terminal.live import LiveScreen  # slow: imports rich

    return LiveScreen()


def run_trials(
    context: click.Context, plan_run: Callable[[Screen], Run], run_all: RunTrials
) -> ExitCode:
    """Run the trials of a new run or, with ``--resume``, of an earlier one."""
    params = context.params
    if params["quiet"]:
        hub.hide_progress_bars()
    with contextlib.closing(open_screen(quiet=params["quiet"])) as screen:
        if not params["resume"]:
            run = plan_run(screen)
            with open_new(Path(run.run_dir)) as journal:
                begin(journal, run)
                return _execute(run_all, run, journal, RunHistory(), params["output"], screen)
        with open_earlier(context, Run) as (journal, earlier, records, device):
            output = params["output"] or earlier.output
            if output:
                check_writable(Path(output))
            given_now = params["cooldown"]
            run = earlier if given_now is None else replace(earlier, cooldown=given_now)
            record_resumed(journal, device)
            return _execute(run_all, run, journal, history_of(records), output, screen)


def open_earlier(
    context: click.Context, kind: type[H]
) -> contextlib.AbstractContextManager[tuple[Journal, H, list[Record], Device]]:
    """Open the run or training that ``--resume`` refers to; see `open_to_resume`."""
    command = str(context.command.name)
    folder = context.params["run_dir"] or newest_to_resume(runs_dir(), command)
    return open_to_resume(
        *(folder, kind, command, given(context), __version__),
        lambda: probed(machine.describe()),
        config_file.config_of(context.params),
    )


def probed(host: Machine) -> tuple[Device, str | None]:
    """The device that MLX trains on, and the UUID of its GPU; MachineError if MLX does not work."""
    answer = find_device()
    return from_probe(answer, host), gpu_uuid(answer)


def new_run(
    context: click.Context, screen: Screen, names: Sequence[str], search: SearchOptions | None
) -> Run:
    """Plan a run of the models called ``names``, or of a suite, and choose its folder.

    Raises UsageError if the options do not suit the machine or a model, or if the folder is in use,
    and MachineError if MLX does not work on this machine.
    """
    params = context.params
    output = config_file.checked_output(params)
    config, names = config_file.chosen(params, names, screen.note)
    source = source_of(params, config)
    host = machine.describe()
    found = None if names else find_device()
    chosen = _suite(params["suite_name"], found.backend, screen) if found else _named(names)
    defaults = config_file.defaults_of(config, [model.name for model in chosen])
    kinds = trainings(params, with_length(defaults, source, chosen, _only(context, search)))
    found, models = find_device_and_models(chosen, kinds, found, with_memory=bool(search))
    device = from_probe(found, host)
    data = read_data(chosen, source, kinds[0], search, screen)
    trials = plan_trials(models, kinds, budget_bytes(device, params["max_memory"]), data)
    check_grids(trials, search)
    _show_notes(screen, trials, device, search)
    return Run(
        command=str(context.command.name),
        arguments=given(context),
        machine=host,
        device=device,
        gpu_uuid=gpu_uuid(found),
        trials=trials,
        search=search,
        deadline=params["timeout"],
        cooldown=params["cooldown"] or 0.0,
        keep_going=params.get("keep_going", False),
        started_at=now(),
        run_dir=str(choose_run_dir(params["run_dir"])),
        output=str(output.absolute()) if output else None,
        version=__version__,
        config=config,
    )


def _only(context: click.Context, search: SearchOptions | None) -> SearchOptions | None:
    """The search, unless a trial with the length that was asked for comes before it."""
    return None if context.command.name == "benchmark" else search


def _named(names: Sequence[str]) -> list[Model]:
    return [resolve.find(name) for name in names]


def _suite(name: str | None, backend: str, screen: Screen) -> list[Model]:
    if name is None and backend == "cpu":
        name = "smoke"
        screen.note(
            "MLX can use only the CPU here, so this run uses tiny models (--suite smoke) to "
            "check that training works. Real models (--suite default) would take hours."
        )
    return [resolve.from_preset(preset) for preset in presets.suite(name or "default").presets]


def _show_notes(
    screen: Screen, trials: Sequence[Trial], device: Device, search: SearchOptions | None
) -> None:
    for trial in trials:
        wanted = {*search.axes.seq_lengths} if search else set()
        if search and wanted - {*lengths_for(trial.model, search)}:
            most = trial.model.max_seq_length
            screen.note(f"{trial.model.name} allows at most {most} tokens; longer are left out.")
    for note in dict.fromkeys(trial.model.note for trial in trials):
        if note is not None:
            screen.note(note)
    largest = max(parameters_of(trial.model.params) for trial in trials)
    if device.backend == "cpu" and largest >= _SLOW_PARAMETERS:
        screen.note("training a model of this size on a CPU can take hours.")


def _execute(
    run_all: RunTrials,
    run: Run,
    journal: Journal,
    history: RunHistory,
    output: Path | str | None,
    screen: Screen,
) -> ExitCode:
    targets = [Path(run.run_dir) / RESULTS, *([Path(output)] if output else [])]
    console = Console(screen, run)
    pauses = Cooldown(run.cooldown, console.cooling)
    runner = TrialRunner(run, journal, history, console.on_event, cooldown=pauses)
    writer = ResultsWriter(targets)
    before = assemble(run, history.ended.values())
    opened = OpenRun(run, journal, runner, console, writer, len(history.final), before.complete)
    threading.Thread(target=_prepare_report, name="report", daemon=True).start()
    with kept_awake(), interrupts.deferred():
        try:
            run_all(opened)
        except BaseException as error:
            # The results file must contain every trial that is in the journal.
            opened.writer.write(opened.results, final=isinstance(error, MachineError))
            raise
    return opened.exit_code()
