"""What the journal of a resumed run says of its trials: done, or begun and never ended. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from your_ai.planning.plan import Trial
from your_ai.runs.journal import Record
from your_ai.runs.trial_record import is_done
from your_ai.supervision.outcome import Certainty, Outcome, OutcomeKind

BEGAN, RESUMED, STARTED, ENDED, CLOSED = "began", "resumed", "started", "ended", "closed"

MOST_STARTS = 2
"""How often a trial is begun that never ends: what it does to its parent, it does again."""


@dataclass(frozen=True, slots=True)
class Past:
    """``ended`` has each done trial's place in the journal, by its key.

    ``unfinished`` has the machine's boots in which a trial was begun that has not ended since.
    """

    ended: Mapping[str, tuple[int, int]]
    unfinished: Mapping[str, tuple[str, ...]]

    def quarantine(self, key: str, boot: str) -> Outcome | None:
        """Why a trial must not be run again; ``None`` when it may. ``boot`` is the present one."""
        boots = self.unfinished.get(key, ())
        if any(each != boot for each in boots):
            return Outcome(
                OutcomeKind.CRASH,
                "the machine restarted while it ran: suspected of having taken it down, so it is "
                "not run again; try it in a run of its own with a smaller --max-memory",
                Certainty.LOW,
                f"begun in boot {boots[-1]} and never ended; this is boot {boot}",
            )
        if len(boots) >= MOST_STARTS:
            return Outcome(
                OutcomeKind.CRASH,
                f"your_ai itself was ended {len(boots)} times while it ran, so it is not run "
                "again; try it in a run of its own",
                Certainty.LOW,
                f"begun {len(boots)} times in boot {boot} and never ended",
            )
        return None


NOTHING = Past({}, {})


def key_of(trial: Trial) -> str:
    """What tells a run's trials apart; also part of a file's name."""
    c = trial.configuration
    return f"{trial.index:02d}-{c.batch_size}x{c.lora_rank}x{c.lora_layers}"


def past_of(records: Iterable[tuple[Record, int, int]]) -> Past:
    """What these records, each with its place, say of the trials."""
    ended: dict[str, tuple[int, int]] = {}
    unfinished: dict[str, tuple[str, ...]] = {}
    for record, begin, length in records:
        key = record.fields.get("trial", "")
        if record.kind == STARTED:
            unfinished[key] = (*unfinished.get(key, ()), record.fields["boot"])
        elif record.kind == ENDED:
            unfinished.pop(key, None)
            if is_done(record.fields["entry"]):
                ended[key] = (begin, length)
    return Past(ended, unfinished)
