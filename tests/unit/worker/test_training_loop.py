"""The training loop: losses do not depend on micro-batches; it saves and validates when due."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
import pytest

from tests.support import tiny
from tests.support.prepared import prepared_model
from worker.adapters import Evidence
from worker.checkpoint import Progress
from worker.events import EventPipe
from worker.finetune import TrainingLoop
from worker.protocol.codec import decode_event
from worker.protocol.configuration import Configuration
from worker.protocol.messages import Event, Saved, Step, Validated
from worker.protocol.requests import ModelSource, TrainingRequest

REQUEST = TrainingRequest(
    model=ModelSource(tiny.LLAMA),
    configuration=Configuration(batch_size=2, lora_layers=2, seq_length=32),
    data="",
    adapter_path="",
    iters=8,
    micro_batches=1,
    learning_rate=1e-3,
    mask_prompt=False,
    seed=0,
    val_batches=1,
    steps_per_eval=3,
    save_every=100,
    limit_bytes=2**30,
    budget_bytes=2**30,
    adapter_config={},
    resume=False,
)
TOKENS = 20
"""Length of every sequence. Equal lengths give all micro-batches the same weight."""


@pytest.fixture(autouse=True, scope="module")
def _no_compiled_kernels() -> Iterator[None]:
    """Disable mx.compile, because compiling takes longer than all the tests in this file."""
    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.fixture(autouse=True)
def _keep_sigterm_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def sequences(count: int) -> list[tuple[list[int], int]]:
    """Return random token ids and the position where the loss begins, for each sequence."""
    draw = np.random.default_rng(7)
    return [(draw.integers(2, 512, TOKENS).tolist(), 0) for _ in range(count)]


@dataclass(frozen=True)
class Finished:
    events: list[Event]

    @property
    def losses(self) -> list[float]:
        return [event.loss for event in self.events if isinstance(event, Step)]

    @property
    def validations(self) -> dict[int, float]:
        return {e.iteration: e.loss for e in self.events if isinstance(e, Validated)}

    @property
    def saved(self) -> list[int]:
        return [event.iteration for event in self.events if isinstance(event, Saved)]


def trained(
    request: TrainingRequest, folder: Path, data: Any = None, valid: Any = None
) -> Finished:
    """Train the tiny model. By default ``data`` has 3 batches, so 8 iterations take 3 epochs."""
    np.random.seed(0)
    request = replace(request, adapter_path=str(folder))
    model, optimizer = prepared_model(), optim.AdamW(learning_rate=request.learning_rate)
    reading, writing = os.pipe()
    events = EventPipe(writing)
    sets, start = (data or sequences(6), valid), Progress.start()
    TrainingLoop(request, events, model, optimizer, *sets, start, Evidence(model)).run()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return Finished([decode_event(line) for line in pipe])


def test_micro_batches_do_not_change_the_losses(tmp_path: Path) -> None:
    valid = sequences(8)
    whole = trained(REQUEST, tmp_path, valid=valid)
    split = trained(replace(REQUEST, micro_batches=2), tmp_path, valid=valid)
    assert len(whole.losses) == REQUEST.iters
    assert split.losses == pytest.approx(whole.losses, abs=1e-4)
    assert list(whole.validations) == [1, 3, 6, 8]
    assert split.validations == pytest.approx(whole.validations, abs=1e-4)
    assert whole.saved == []


@pytest.mark.parametrize(
    ("save_every", "accumulation", "saved"),
    [(3, 1, [3, 6]), (3, 2, [4, 6]), (2, 3, [3, 6]), (5, 4, [8])],
)
def test_saves_when_due_and_no_gradients_are_pending(
    save_every: int, accumulation: int, saved: list[int], tmp_path: Path
) -> None:
    configuration = replace(REQUEST.configuration, grad_accumulation_steps=accumulation)
    request = replace(REQUEST, save_every=save_every, configuration=configuration)
    assert trained(request, tmp_path).saved == saved


@pytest.mark.parametrize(("batches", "iterations"), [(0, []), (-1, [1])])
def test_val_batches_of_0_and_of_all(batches: int, iterations: list[int], tmp_path: Path) -> None:
    request = replace(REQUEST, val_batches=batches, iters=1)
    found = trained(request, tmp_path, valid=sequences(4)).validations
    assert list(found) == iterations
    assert np.isfinite(list(found.values())).all()


def test_the_wired_limit_that_mlx_lm_raises_is_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int] = []
    recorded = {"device_name": "Apple M3 Max", "max_recommended_working_set_size": 28991029248}
    monkeypatch.setattr(mx, "device_info", lambda: recorded)
    monkeypatch.setattr(mx, "set_wired_limit", limits.append)
    trained(replace(REQUEST, iters=1), tmp_path)
    assert limits == [28991029248, 0]
