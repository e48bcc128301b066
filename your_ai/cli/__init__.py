"""The command line: a table of commands, each imported when it is used, and the exit codes."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import NoReturn

import click

from your_ai import __version__
from your_ai.errors import ExitCode, MachineError, YourAIError
from your_ai.system.signals import interrupts
from your_ai.terminal.output import IN_ASCII, say

_COMMANDS = {
    "benchmark": "Measure which models this machine can fine-tune, and how fast.",
    "optimize": "Find the largest training configuration of one model that fits, with proof.",
    "models": "List the presets, and which of their weights are here already.",
    "doctor": "Check everything a run depends on, with a real trial of a few seconds.",
    "compare": "Compare two results files and report regressions.",
    "train": "Train LoRA adapters as the results recommend, through OOMs and crashes.",
    "report": "Show a results file as a table, or as a page with charts.",
    "runs": "List the runs kept on this machine, and which can be resumed.",
    "recommend": "Say at once which models should fit, from estimates and earlier measurements.",
}


class _LazyGroup(click.Group):
    """Knows its commands' names and summaries without importing them: help must be instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS:
            command: click.Command = importlib.import_module(f"your_ai.cli.{cmd_name}").command
            return command
        if not cmd_name.startswith("-"):
            import difflib  # only here: most calls need none

            near = difflib.get_close_matches(cmd_name, _COMMANDS, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Commands: {', '.join(_COMMANDS)}."
            ctx.fail(f"Unknown command {cmd_name!r}. {hint}")
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="your_ai")
def cli() -> None:
    """Find out, by measuring, which language models this machine can fine-tune."""


def main() -> NoReturn:
    """Run the command line: the one place where errors become exit codes."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        # Where the locale has no ✓, show something else rather than end a night's run.
        stream.reconfigure(errors=IN_ASCII)  # type: ignore[union-attr]
    interrupts.install()
    try:
        result = cli.main(prog_name="your_ai", standalone_mode=False)
    except click.ClickException as error:
        code = error.exit_code
        with contextlib.suppress(OSError):
            error.show()
    except YourAIError as error:
        code = error.exit_code
        _tell(f"Error: {error}")
    except (click.Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
        _tell("Interrupted.")
    except Exception as error:  # noqa: BLE001 - a bug of ours, whatever it is
        from your_ai.cli.internal_error import save

        code = ExitCode.INTERNAL
        log = save(error)
        where = f"The traceback is in {log}; please" if log else "Please"
        _tell(f"Internal error: {error!r}. {where} report it.")
    else:
        code = result if isinstance(result, int) else ExitCode.OK
    sys.exit(code)


def _open_missing_streams() -> None:
    """Have stdin, stdout and stderr lead nowhere if they were closed, as some daemons do.

    Else the next file to be opened, such as a journal, would be taken for one of them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest free descriptor: the one that was closed.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _tell(line: str) -> None:
    """Print a line on stderr; the exit code says how it went even if that fails."""
    with contextlib.suppress(MachineError):
        say(line, err=True)
