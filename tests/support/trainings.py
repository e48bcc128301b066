"""Builders of training objects with typical contents. A test changes only what it needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support import builders
from worker.protocol.messages import Phase, Step
from your_ai.runs.training_results import Expected
from your_ai.training.dataset import Dataset
from your_ai.training.job import Training
from your_ai.units import GB, MB


def training(**changed: Any) -> Training:
    """Return a training of 100 batches of 6. Its memory limit is 8 GB and can be cut to 4 GB."""
    run = builders.run()
    facts: dict[str, Any] = {
        "command": "train",
        "arguments": {"--from": "r.json"},
        "machine": run.machine,
        "device": run.device,
        "started_at": run.started_at,
        "run_dir": run.run_dir,
        "version": run.version,
        "id": "an id",
        "preset": "tiny",
        "model_name": "org/tiny",
        "data": Dataset(100, 8, "00ff"),
        "request": builders.TRAINING_REQUEST,
        "needed_limit_bytes": 4 * GB,
        "expected": Expected(7 * GB, 1.0, 100.0, is_measured=True),
        "restarts": 4,
        "steps_per_report": 2,
        **changed,
    }
    return Training(**facts)


def of_batch_size(size: int, **changed: Any) -> Training:
    """Return a training with this batch size."""
    request = builders.TRAINING_REQUEST
    configuration = replace(request.configuration, batch_size=size)
    return training(request=replace(request, configuration=configuration), **changed)


def step(index: int, loss: float = 2.0) -> Step:
    """Return an iteration of 0.5 s and 100 tokens with a peak of ``index`` MB."""
    return Step(1.0, Phase.TRAIN, index, 0.5, 100, loss, index * MB)
