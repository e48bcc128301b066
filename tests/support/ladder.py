"""A run of five models on a Mac, and what is printed of it."""

from __future__ import annotations

from typing import Any

from tests.support import builders
from tests.support.builders import kept, model, observed, passing_events, spec
from your_ai.planning.device import Device
from your_ai.planning.plan import Trial
from your_ai.runs.run import Run
from your_ai.runs.trial_record import Ended, TrialRecord
from your_ai.supervision.observation import Observation
from your_ai.supervision.outcome import Outcome, OutcomeKind, classify
from your_ai.system.machine import Machine
from your_ai.terminal.benchmark import Console
from your_ai.units import GB

PASSING = observed(*passing_events(needed=6 * GB, peak=int(12.4 * GB)))

WRITTEN = ["Results written to out.json"]

GOLDEN = """\
Note: something to know
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
Hardware Benchmark
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
System Memory: 36.00 GB (budget 28.8 GB, training on Apple M3 Pro (metal))
Testing models from smallest to largest...

[1/5] hermes-mistral-7b  (  7B) ... ✓ Pass (12.4 GB, needs 6.0 GB, 2,046 tokens/s)
[2/5] dolphin-8b         (  8B) ... ✓ Pass (12.4 GB, needs 6.0 GB, 2,046 tokens/s)
[3/5] llama-8b           (  8B) ... ✗ Error (Model type llama not supported.)
        log: /runs/1/logs/3.log
[4/5] r1-distill-14b     ( 14B) ... ✗ OOM (the GPU ran out of memory)
[5/5] hermes-70b         ( 70B) ... – Skipped (larger than r1-distill-14b, which ran out of memory)

━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
Results
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
Recommended: dolphin-8b (largest model that fits)
Alternatives: hermes-mistral-7b (7B)
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
Results written to out.json
"""


def ended(
    index: int, name: str, params: str, outcome: Outcome | None = None, seen: Observation = PASSING
) -> TrialRecord:
    trial = Trial(index, model(name, params), spec(budget_bytes=int(28.8 * GB)))
    log = f"/runs/1/logs/{index}.log"
    if outcome is not None and outcome.kind is OutcomeKind.SKIPPED:
        return kept(Ended(trial, outcome, "2026-01-02T03:04:05Z"))
    return kept(Ended(trial, outcome or classify(seen, 5), "2026-01-02T03:04:05Z", seen, log))


LADDER = [
    ended(1, "hermes-mistral-7b", "7B"),
    ended(2, "dolphin-8b", "8B"),
    ended(3, "llama-8b", "8B", Outcome(OutcomeKind.ERROR, "Model type llama not supported.")),
    ended(4, "r1-distill-14b", "14B", Outcome(OutcomeKind.OOM, "the GPU ran out of memory")),
    ended(
        5,
        "hermes-70b",
        "70B",
        Outcome(OutcomeKind.SKIPPED, "larger than r1-distill-14b, which ran out of memory"),
    ),
]


def run(machine_gb: int = 36, device: Device | None = None) -> Run:
    changed: dict[str, Any] = {} if device is None else {"device": device}
    machine = Machine("macOS", "26.1", "arm64", 12, machine_gb * GB, "3.11.7")
    return builders.run(*(record.trial for record in LADDER), machine=machine, **changed)


def print_all(console: Console, records: list[TrialRecord]) -> None:
    console.note("something to know")
    console.begin(run(), 0)
    for record in records:
        console.trial_began(record.trial, len(records))
        console.trial_ended(record)
    console.end(run(), records, WRITTEN)
