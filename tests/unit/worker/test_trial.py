"""A trial's training steps equal mlx-lm's, and its memory limits are lowered as needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import TrainingArgs, train

from tests.support.prepared import REQUEST, prepared_model
from worker import trial
from worker.adapters import EvidenceError
from worker.trainer import LEARNING_RATE, Batch, Trainer, full_batches

FALLING = [4.0, 3.9]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """The model that the `trainer` fixture trains."""
    return prepared_model()


@pytest.fixture(scope="module")
def trainer(model: nn.Module) -> Trainer:
    trainer = Trainer(model, REQUEST)
    for _ in range(REQUEST.steps):
        trainer.step()
    return trainer


class Losses(TrainingCallback):  # type: ignore[misc]  # mlx-lm is untyped
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
        self.seen.append(train_info["train_loss"])


def test_steps_equal_those_of_mlx_lm(model: nn.Module, trainer: Trainer, tmp_path: Path) -> None:
    def same_batches(**_: object) -> Iterator[Batch]:
        return full_batches(REQUEST, reference)

    reference, losses = prepared_model(), Losses()
    train(
        model=reference,
        optimizer=optim.AdamW(learning_rate=LEARNING_RATE),
        train_dataset=[],
        args=TrainingArgs(
            iters=REQUEST.steps,
            steps_per_report=1,
            adapter_file=str(tmp_path / "adapters.safetensors"),
        ),
        iterate_batches=same_batches,
        training_callback=losses,
    )
    assert trainer.losses == pytest.approx(losses.seen, rel=1e-6)
    adapters = dict(tree_flatten(reference.trainable_parameters()))
    for path, adapter in tree_flatten(model.trainable_parameters()):
        assert mx.allclose(adapter, adapters[path], rtol=1e-5, atol=1e-8).item(), path


def test_check_accepts_real_training(trainer: Trainer) -> None:
    trainer.check()


@pytest.mark.parametrize(
    ("losses", "problem"),
    [
        (FALLING, "no trained weight changed"),
        ([4.0, float("nan")], "not finite"),
        ([4.0, 4.0], "never changed"),
    ],
)
def test_check_raises_without_evidence(losses: list[float], problem: str) -> None:
    trainer = Trainer(prepared_model(), REQUEST)
    trainer.losses = losses
    with pytest.raises(EvidenceError, match=problem):
        trainer.check()


def test_check_raises_if_an_adapter_diverged() -> None:
    model = prepared_model()
    trainer = Trainer(model, REQUEST)
    trainer.losses = FALLING
    model.layers[0].self_attn.q_proj.lora_b += float("nan")
    with pytest.raises(EvidenceError, match="trained weight is not finite"):
        trainer.check()


@pytest.mark.parametrize(
    ("limit", "cut", "overshoot", "floor", "expected"),
    [
        (1000, 0, 10, 100, (990, 10)),
        (990, 10, 5, 100, (960, 30)),  # the last cut did not help: cut more than the overshoot
        (970, 20, 90, 100, (880, 90)),
        (120, 20, 90, 100, (100, 90)),
    ],
)
def test_an_exceeded_limit_is_lowered(
    limit: int, cut: int, overshoot: int, floor: int, expected: tuple[int, int]
) -> None:
    assert trial.lowered(limit, cut, overshoot, floor) == expected


@pytest.mark.parametrize(
    ("peaks", "steps", "settled"),
    [
        ([10], 1, False),
        ([9, 10], 1, False),
        ([9, 10, 10], 1, True),
        ([10, 10], 1, True),
        ([9, 10, 10], 2, False),
        ([10] * 3, 3, False),
        ([9, 10, 10, 10], 3, False),
        ([9, 10, 10, 10, 10], 3, True),
    ],
)
def test_a_peak_has_settled_if_the_last_steps_did_not_raise_it(
    peaks: list[int], steps: int, settled: bool
) -> None:
    assert trial.settled(peaks, steps) is settled
