"""Find the finished and unfinished trials of a run in its journal: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from your_ai.runs.journal import ENDED, STARTED, OtherVersionError, Record
from your_ai.runs.trial_result import TrialResult, trial_result
from your_ai.supervision.outcome import Certainty, Outcome, OutcomeKind

MAX_STARTS = 2
"""A trial that was started this many times without finishing is quarantined."""


@dataclass(frozen=True, slots=True)
class RunHistory:
    """What happened to the trials of a run before it was resumed.

    ``ended`` maps trial keys to the last result of each trial, in the order in which they ended.
    ``unfinished`` maps the keys of trials that never ended to the ids of the boots in which they
    were started.
    """

    ended: Mapping[str, TrialResult] = field(default_factory=dict)
    unfinished: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def final(self) -> dict[str, TrialResult]:
        """The results of the trials that are not run again."""
        return {key: result for key, result in self.ended.items() if result.is_final}

    def quarantine(self, key: str, boot: str) -> Outcome | None:
        """Return why a trial must not be run again, or ``None``. ``boot`` is the current boot."""
        boots = self.unfinished.get(key, ())
        if any(each != boot for each in boots):
            return Outcome(
                OutcomeKind.CRASH,
                "the machine restarted during this trial, so the trial was not repeated; try it in "
                "a separate run with a smaller --max-memory",
                Certainty.LOW,
                f"started in boot {boots[-1]} and never finished; the current boot is {boot}",
            )
        if len(boots) >= MAX_STARTS:
            return Outcome(
                OutcomeKind.CRASH,
                f"your_ai ended unexpectedly {len(boots)} times during this trial, so it was "
                "not repeated; try it in a separate run",
                Certainty.LOW,
                f"started {len(boots)} times in boot {boot} and never finished",
            )
        return None


def history_of(records: Iterable[Record]) -> RunHistory:
    """Return the history in a journal's records; raise OtherVersionError if it is unreadable."""
    ended: dict[str, TrialResult] = {}
    unfinished: dict[str, tuple[str, ...]] = {}
    for record in records:
        key = record.fields.get("trial", "")
        if record.kind == STARTED:
            earlier = unfinished.get(key, ())
            # A retry replaces the start of the attempt that had ended.
            earlier = earlier[:-1] if record.fields.get("retry") else earlier
            unfinished[key] = (*earlier, record.fields["boot"])
        elif record.kind == ENDED:
            unfinished.pop(key, None)
            ended.pop(key, None)  # the last result determines the order
            try:
                ended[key] = trial_result(record.fields["result"])
            except (KeyError, msgspec.ValidationError) as error:
                raise OtherVersionError from error
    return RunHistory(ended, unfinished)
