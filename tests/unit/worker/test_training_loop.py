"""What happens between the steps of mlx-lm's trainer: the same batches, however they are taken."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.trainer import TrainingArgs, default_loss, train

from tests.support.builders import TRAINING_REQUEST
from tests.support.prepared import prepared_model
from worker.batches import Course, loss_of
from worker.events import EventPipe
from worker.protocol.codec import decode_event
from worker.protocol.messages import Event, Saved, Step, TrainingRequest, Validated

SMALL = replace(
    TRAINING_REQUEST,
    batch_size=2,
    iters=8,
    max_seq_length=32,
    val_batches=1,
    steps_per_eval=3,
    save_every=100,
)


@pytest.fixture(autouse=True)
def _own_handlers() -> Iterator[None]:
    """A course takes SIGTERM, which in a worker is nobody else's."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def sequences(count: int, length: int = 20) -> list[tuple[list[int], int]]:
    """Token ids and where the loss begins, all of one length: parts then weigh alike."""
    draw = np.random.default_rng(7)
    return [(draw.integers(2, 512, length).tolist(), 0) for _ in range(count)]


@dataclass(frozen=True)
class Trained:
    events: Sequence[Event]

    @property
    def losses(self) -> list[float]:
        return [event.loss for event in self.events if isinstance(event, Step)]

    @property
    def validations(self) -> list[tuple[int, float]]:
        found = [event for event in self.events if isinstance(event, Validated)]
        return [(event.iteration, event.loss) for event in found]

    @property
    def saved(self) -> list[int]:
        return [event.iteration for event in self.events if isinstance(event, Saved)]


def trained(spec: TrainingRequest, folder: Path, data: Any = None, valid: Any = None) -> Trained:
    """Train the tiny model; its data is 6 sequences unless given, so that 8 batches take passes."""
    np.random.seed(0)
    spec = replace(spec, adapter_path=str(folder))
    model, optimizer = prepared_model(), optim.AdamW(learning_rate=1e-3)
    reading, writing = os.pipe()
    sets = (data or sequences(6), valid)
    course = Course(spec, EventPipe(writing), model, optimizer, sets, None)
    args = TrainingArgs(
        iters=spec.iters * spec.parts,
        steps_per_report=1,
        grad_accumulation_steps=spec.grad_accumulation_steps * spec.parts,
        adapter_file=str(folder / "adapters.safetensors"),
    )
    train(
        model=model,
        optimizer=optimizer,
        train_dataset=sets[0],
        args=args,
        loss=loss_of(spec),
        iterate_batches=course.batches,
        training_callback=course,
    )
    course.finish()
    course.save()
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123 - a descriptor
        return Trained([decode_event(line) for line in pipe])


def test_in_parts_it_sees_the_same_batches_in_every_pass(tmp_path: Path) -> None:
    valid = sequences(8)
    whole = trained(SMALL, tmp_path, valid=valid)
    parts = trained(replace(SMALL, parts=2), tmp_path, valid=valid)
    assert len(whole.losses) == SMALL.iters
    assert parts.losses == pytest.approx(whole.losses, abs=1e-4)
    assert [at for at, _ in whole.validations] == [1, 3, 6, 8]
    for (_, ours), (_, theirs) in zip(parts.validations, whole.validations, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize(
    ("save_every", "accumulation", "saved"),
    [(3, 1, [3, 6]), (3, 2, [4, 6]), (2, 3, [3, 6]), (5, 4, [8]), (100, 1, [])],
)
def test_it_saves_when_due_and_no_gradient_is_half_gathered(
    save_every: int, accumulation: int, saved: list[int], tmp_path: Path
) -> None:
    spec = replace(SMALL, save_every=save_every, grad_accumulation_steps=accumulation)
    assert trained(spec, tmp_path).saved == saved


@pytest.mark.parametrize(("batches", "count"), [(0, 0), (1, 4), (-1, 4)])
def test_it_validates_with_so_many_batches(batches: int, count: int, tmp_path: Path) -> None:
    found = trained(replace(SMALL, val_batches=batches), tmp_path, valid=sequences(4))
    assert len(found.validations) == count
    assert all(np.isfinite(loss) for _, loss in found.validations)


def test_a_prompt_that_leaves_nothing_to_train_on_is_no_failure(tmp_path: Path) -> None:
    data = sequences(6)
    data[0] = (data[0][0], 20)  # all of it is prompt
    spec = replace(SMALL, mask_prompt=True)
    whole = trained(spec, tmp_path, data)
    parts = trained(replace(spec, parts=2), tmp_path, data)
    assert np.isfinite([*whole.losses, *parts.losses]).all()


def test_the_loss_of_masked_prompts_is_mlx_lms() -> None:
    model = prepared_model()
    tokens = mx.array([row for row, _ in sequences(2)])
    loss = loss_of(replace(SMALL, mask_prompt=True))

    def of(kind: Any, lengths: mx.array) -> tuple[float, dict[str, Any]]:
        value, gradient = nn.value_and_grad(model, lambda m: kind(m, tokens, lengths)[0])(model)
        return value.item(), gradient

    some = mx.array([[5, 20], [20, 20]])
    assert of(loss, some)[0] == of(default_loss, some)[0]
    value, gradient = of(loss, mx.array([[20, 20], [20, 20]]))
    assert value == 0
    assert not any(leaf.any().item() for _, leaf in tree_flatten(gradient))  # nor is any NaN


def test_the_wired_limit_that_mlx_lm_raises_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int] = []
    recorded = {"device_name": "Apple M3 Max", "max_recommended_working_set_size": 28991029248}
    monkeypatch.setattr(mx, "device_info", lambda: recorded)
    monkeypatch.setattr(mx, "set_wired_limit", limits.append)
    trained(replace(SMALL, iters=1), tmp_path)
    assert limits == [28991029248, 0]
