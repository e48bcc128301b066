"""How a trial or a training ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class OutcomeKind(StrEnum):
    """The ways in which a trial can end."""

    PASS = "pass"
    OOM = "oom"
    OVER_BUDGET = "over-budget"
    TIMEOUT = "timeout"
    CRASH = "crash"
    ERROR = "error"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"

    @property
    def label(self) -> str:
        """The outcome as shown to the user: ``Pass``, ``OOM``, ``Over budget``."""
        return "OOM" if self is OutcomeKind.OOM else self.replace("-", " ").capitalize()


class Certainty(StrEnum):
    """How certain the stated cause is."""

    CERTAIN = "certain"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Remedy(StrEnum):
    """What can help if a worker is run again, apart from less memory."""

    WAIT = "wait"
    """The machine must first have memory again."""
    FRESH_PROCESS = "fresh process"
    """A new process is enough: the settings are not the cause."""
    RETRY = "retry"
    """One retry with the same settings, because the cause may have been temporary."""
    USER = "user"
    """The user decides, because something may have to be done first, such as free disk space."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended: a one-line ``reason`` for the user, and the ``evidence`` for it.

    ``advice`` is what the user can do, if that does not depend on the trial.
    """

    kind: OutcomeKind
    reason: str
    certainty: Certainty = Certainty.CERTAIN
    evidence: str = ""
    advice: str | None = None
    remedy: Remedy | None = None
