"""The command line: commands are imported when they are used, and errors become exit codes."""

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
    "optimize": "Find the best configuration that fits, with proof.",
    "ceiling": "Find the longest sequences that fit, for several batch sizes.",
    "models": "List the presets, and whether their weights have been downloaded.",
    "doctor": "Check everything that a run depends on, and run a short trial.",
    "compare": "Compare two results files and report regressions.",
    "train": "Train the recommended model with the measured configuration.",
    "report": "Show results as a table, or as an HTML page with charts.",
    "runs": "List the saved runs, and which can be resumed.",
    "recommend": "Estimate which models fit, without training.",
}


class _LazyGroup(click.Group):
    """Lists its commands without importing them, so that --help is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS:
            command: click.Command = importlib.import_module(f"your_ai.cli.{cmd_name}").command
            return command
        if not cmd_name.startswith("-"):
            import difflib  # rarely needed

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
    """Run the command line, and exit with the code for its result or error."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        # A locale without ✓ must not end a run with UnicodeEncodeError.
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
        _print_error(f"Error: {error}")
    except (click.Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
        _print_error("Interrupted.")
    except Exception as error:  # noqa: BLE001 - any other error is a bug
        from your_ai.cli.internal_error import save

        code = ExitCode.INTERNAL
        log = save(error)
        where = f"The traceback is in {log}; please" if log else "Please"
        _print_error(f"Internal error: {error!r}. {where} report it.")
    else:
        code = result if isinstance(result, int) else ExitCode.OK
    sys.exit(code)


def _open_missing_streams() -> None:
    """Open stdin, stdout and stderr on /dev/null if the caller closed them, as some daemons do.

    Otherwise the next file that is opened, such as a journal, would get one of their descriptors.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # os.open returns the lowest free descriptor, which is the closed one.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _print_error(line: str) -> None:
    """Print a line on stderr; if that fails, there is still the exit code."""
    with contextlib.suppress(MachineError):
        say(line, err=True)
