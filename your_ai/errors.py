"""Errors that are for people: one line that says what is wrong and what to do."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of the commands."""

    OK = 0
    NONE_PASSED = 1
    USAGE = 2
    MACHINE = 3
    INTERNAL = 70
    INTERRUPTED = 130


class YourAIError(Exception):
    """Base of every error that ends a command with one line instead of a traceback."""

    exit_code = ExitCode.USAGE


class UsageError(YourAIError):
    """What the user asked for cannot be done."""


class MachineError(YourAIError):
    """This machine, or the installation on it, cannot run trials."""

    exit_code = ExitCode.MACHINE


class NotStartedError(MachineError):
    """No worker process could be started, so nothing was tried."""
