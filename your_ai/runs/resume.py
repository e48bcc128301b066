"""What a journal says of a run's trials: finished, or started and never finished. Pure."""

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
    """What happened to a run's trials before it was resumed.

    ``ended`` has the last result of each trial by its key, in the order in which they ended;
    ``unfinished`` the boots of the machine in which a trial was started and has not ended since.
    """

    ended: Mapping[str, TrialResult] = field(default_factory=dict)
    unfinished: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def final(self) -> dict[str, TrialResult]:
        """The trials that are not run again."""
        return {key: result for key, result in self.ended.items() if result.is_final}

    def quarantine(self, key: str, boot: str) -> Outcome | None:
        """Why a trial must not be run again; ``None`` if it may. ``boot`` is the present one."""
        boots = self.unfinished.get(key, ())
        if any(each != boot for each in boots):
            return Outcome(
                OutcomeKind.CRASH,
                "the machine restarted while it ran: suspected of having taken it down, so it is "
                "not run again; try it in a run of its own with a smaller --max-memory",
                Certainty.LOW,
                f"started in boot {boots[-1]} and never finished; this is boot {boot}",
            )
        if len(boots) >= MAX_STARTS:
            return Outcome(
                OutcomeKind.CRASH,
                f"your_ai itself was ended {len(boots)} times while it ran, so it is not run "
                "again; try it in a run of its own",
                Certainty.LOW,
                f"started {len(boots)} times in boot {boot} and never finished",
            )
        return None


def history_of(records: Iterable[Record]) -> RunHistory:
    """What these records of a journal say of the trials; raises OtherVersionError."""
    ended: dict[str, TrialResult] = {}
    unfinished: dict[str, tuple[str, ...]] = {}
    for record in records:
        key = record.fields.get("trial", "")
        if record.kind == STARTED:
            unfinished[key] = (*unfinished.get(key, ()), record.fields["boot"])
        elif record.kind == ENDED:
            unfinished.pop(key, None)
            ended.pop(key, None)  # the order is that of the last ends
            try:
                ended[key] = trial_result(record.fields["result"])
            except (KeyError, msgspec.ValidationError) as error:
                raise OtherVersionError from error
    return RunHistory(ended, unfinished)
