"""The commands' exit codes, and the errors that are shown to the user as one line."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the commands."""

    OK = 0
    NONE_PASSED = 1
    USAGE = 2
    MACHINE = 3
    INTERNAL = 70
    INTERRUPTED = 130


class YourAIError(Exception):
    """Base class of errors that end a command with a one-line message instead of a traceback."""

    exit_code = ExitCode.USAGE


class UsageError(YourAIError):
    """The user's request is invalid or cannot be carried out."""


class MachineError(YourAIError):
    """This machine, or the installation on it, cannot run trials."""

    exit_code = ExitCode.MACHINE


class NotStartedError(MachineError):
    """No worker process could be started."""


class DeviceChangedError(MachineError):
    """MLX no longer works, or no longer uses the device that the run was planned for."""
