"""Compares trials with mlx-lm's own training."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from tests.matrix.reference import Reference
from worker.protocol.codec import encode
from worker.protocol.configuration import ALL_KEYS, Configuration, Optimizer
from worker.protocol.messages import Loaded, Phase
from worker.protocol.requests import ModelSource, TrialRequest
from your_ai.supervision.classify import classify
from your_ai.supervision.outcome import OutcomeKind
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.supervision.trial_log import TrialLog

LIMITS = Limits(deadline=600.0, silence=300.0, grace=5.0)
LOSS_TOLERANCE = 1e-4
PEAK_TOLERANCE = 0.02
CONFIGURATION = Configuration(
    batch_size=1,
    lora_rank=4,
    lora_layers=16,
    seq_length=16,
    grad_checkpoint=False,
    lora_keys=ALL_KEYS,
    optimizer=Optimizer.ADAM,
)
"""As mlx_lm.lora trains by default, but with small sizes."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a trial measures, or why it did not pass."""

    trainable: int = 0
    losses: tuple[float, ...] = ()
    """Losses of the tight steps."""
    peak_bytes: int = 0
    """Peak memory under the tight limit."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Trials and mlx-lm's trainings of one model."""

    trials: tuple[Trial, ...]
    references: tuple[Reference, ...]

    @property
    def refused(self) -> str | None:
        """Why mlx-lm cannot train the model; ``None`` if it can."""
        return self.references[-1].error

    @property
    def peak_ratio(self) -> float:
        """Median peak of the trials relative to mlx-lm's."""
        ours = median(trial.peak_bytes for trial in self.trials)
        return ours / median(reference.peak_bytes for reference in self.references)

    @property
    def loss_difference(self) -> float:
        """Largest difference between the losses of the same step."""
        differences = [
            abs(ours - theirs)
            for trial, reference in zip(self.trials, self.references, strict=True)
            for ours, theirs in zip(trial.losses, reference.losses, strict=True)
        ]
        return math.nan if any(map(math.isnan, differences)) else max(differences)

    def problems(self) -> list[str]:
        """Return how the trials differ from mlx-lm's trainings; nothing if mlx-lm cannot train."""
        if self.refused:
            return []
        if error := self.trials[-1].error:
            return [error]
        found = []
        ours, theirs = self.trials[-1].trainable, self.references[-1].trainable
        if ours != theirs:
            found.append(f"{ours} trainable parameters, mlx-lm {theirs}")
        if not self.loss_difference <= LOSS_TOLERANCE:
            found.append(f"the losses differ by {self.loss_difference:.1e}")
        if not abs(self.peak_ratio - 1) <= PEAK_TOLERANCE:
            found.append(f"the tight peak is {self.peak_ratio:.3f} of mlx-lm's")
        return found


def compare(
    config: dict[str, Any], configuration: Configuration = CONFIGURATION, rounds: int = 1
) -> Comparison:
    """Run a trial and mlx-lm's training of as many steps, ``rounds`` times in turn."""
    request = TrialRequest(ModelSource(config), configuration, 1, 2**40)
    trials, references = [], []
    for _ in range(rounds):
        trials.append(run_trial(request))
        try:
            reference = run_reference(replace(request, steps=len(trials[-1].losses) or 2))
        except RuntimeError as error:
            trials[-1], reference = Trial(error=f"no reference: {error}"), Reference()
        references.append(reference)
        if trials[-1].error or references[-1].error:
            break
    return Comparison(tuple(trials), tuple(references))


def run_trial(request: TrialRequest) -> Trial:
    """Run a trial in a worker, as ``your_ai benchmark`` does."""
    with tempfile.TemporaryDirectory() as folder:
        log = TrialLog(Path(folder) / "trial.log")
        observation = supervise(encode(request), log=log, limits=LIMITS)
    outcome = classify(observation, request.steps)
    if outcome.kind is not OutcomeKind.PASS:
        return Trial(error=f"{outcome.kind}: {outcome.reason}; {outcome.evidence}"[:400])
    loaded = observation.first_of(Loaded)
    assert loaded is not None
    losses = tuple(step.loss for step in observation.steps if step.phase is Phase.TIGHT)
    return Trial(loaded.trainable_parameters, losses, observation.needed_bytes or 0)


def run_reference(request: TrialRequest) -> Reference:
    """Run mlx-lm's own training in a fresh process."""
    command = [sys.executable, "-m", "tests.matrix.reference"]
    done = subprocess.run(command, input=encode(request), capture_output=True, check=False)
    if done.returncode < 0:
        return Reference(error=f"killed by {signal.Signals(-done.returncode).name}")
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode()[-400:])
    return Reference(**json.loads(done.stdout))
