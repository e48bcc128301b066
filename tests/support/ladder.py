"""A run of five models on a Mac, from small to large, and the output printed for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support import builders
from tests.support.builders import observed, passing_events
from your_ai.planning.device import Device
from your_ai.runs.assembly import assemble
from your_ai.runs.run import Run
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.observation import Observation
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.system.machine import Machine
from your_ai.terminal.benchmark import Console
from your_ai.terminal.screen import Screen
from your_ai.units import GB

PASSING = observed(*passing_events(needed=6 * GB, peak=int(12.4 * GB)))

WRITTEN = ["Results written to out.json"]

TRAINING = (
    "Training: LoRA on all modules, rank 64 in the last 2 layers, batches of 2 × 1024 tokens, "
    "4-bit weights, adam, with gradient checkpointing\n"
    "Unlike mlx_lm.lora by default: batch size 2 (4), rank 64 (8), sequence length 1024 (2048), "
    "gradient checkpointing (off), 4-bit weights (the model's own)\n"
)

GOLDEN = f"""\
Note: something to know
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
Hardware Benchmark
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
System Memory: 36.00 GB (budget 28.8 GB, training on Apple M3 Pro (metal))
{TRAINING}Testing models from smallest to largest...

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
) -> TrialResult:
    trial = builders.trial(index, name, params, budget_bytes=int(28.8 * GB))
    log = None if outcome and outcome.kind is OutcomeKind.SKIPPED else f"/runs/1/logs/{index}.log"
    return builders.result(trial, seen, outcome, log=log)


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
    trials = [
        builders.trial(n, result.preset, result.params, budget_bytes=int(28.8 * GB))
        for n, result in enumerate(LADDER, start=1)
    ]
    return builders.run(*trials, machine=machine, **changed)


def print_all(screen: Screen, results: list[TrialResult]) -> None:
    screen.note("something to know")
    console = Console(screen, run())
    console.begin(0)
    for trial, result in zip(run().trials, results, strict=False):
        console.trial_began(trial)
        console.trial_ended(result)
    ended = (replace(result, index=n) for n, result in enumerate(results, start=1))
    console.end(assemble(run(), ended), WRITTEN)
