"""The worker's training: the same as mlx-lm's own, under limits that fall until they hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import TrainingArgs, train

from tests.support import tiny
from tests.support.prepared import SPEC, prepared_model
from worker import training

VOCABULARY = tiny.LLAMA["vocab_size"]


class Losses(TrainingCallback):  # type: ignore[misc]  # mlx-lm is untyped
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
        self.seen.append(train_info["train_loss"])


def test_the_steps_are_those_of_mlx_lm(tmp_path: Path) -> None:
    ours = prepared_model()
    trainer = training.Trainer(ours, SPEC, VOCABULARY)
    for _ in range(SPEC.steps):
        trainer.step()

    def same_batches(**_: object) -> Iterator[tuple[mx.array, mx.array]]:
        return training._full_batches(SPEC, VOCABULARY)

    theirs, losses = prepared_model(), Losses()
    train(
        model=theirs,
        optimizer=optim.AdamW(learning_rate=training.LEARNING_RATE),
        train_dataset=[],
        args=TrainingArgs(
            batch_size=2,
            iters=SPEC.steps,
            steps_per_report=1,
            max_seq_length=32,
            adapter_file=str(tmp_path / "adapters.safetensors"),
        ),
        iterate_batches=same_batches,
        training_callback=losses,
    )
    assert trainer.losses == pytest.approx(losses.seen, rel=1e-6)
    adapters = dict(tree_flatten(theirs.trainable_parameters()))
    for path, adapter in tree_flatten(ours.trainable_parameters()):
        assert mx.allclose(adapter, adapters[path], rtol=1e-5, atol=1e-8).item(), path


def test_training_leaves_evidence() -> None:
    trainer = training.Trainer(prepared_model(), SPEC, VOCABULARY)
    for _ in range(2):
        trainer.step()
    trainer.check()


def test_steps_that_trained_nothing_are_no_evidence() -> None:
    trainer = training.Trainer(prepared_model(), SPEC, VOCABULARY)
    trainer.losses = [4.0, 3.9]
    with pytest.raises(training.EvidenceError, match="no adapter weight changed"):
        trainer.check()


@pytest.mark.parametrize(
    ("losses", "problem"),
    [([4.0, float("nan")], "not finite"), ([4.0, 4.0], "never changed")],
)
def test_losses_that_are_no_evidence(losses: list[float], problem: str) -> None:
    trainer = training.Trainer(prepared_model(), SPEC, VOCABULARY)
    trainer.losses = losses
    with pytest.raises(training.EvidenceError, match=problem):
        trainer.check()


def test_an_adapter_that_diverged_in_the_last_step_is_no_evidence() -> None:
    model = prepared_model()
    trainer = training.Trainer(model, SPEC, VOCABULARY)
    for _ in range(2):
        trainer.step()
    projection = model.layers[0].self_attn.q_proj
    projection.lora_b = projection.lora_b * float("nan")
    with pytest.raises(training.EvidenceError, match="adapter weight is not finite"):
        trainer.check()


@pytest.mark.parametrize(
    ("limit", "cut", "overshoot", "floor", "expected"),
    [
        (1000, 0, 10, 100, (990, 10)),
        (990, 10, 5, 100, (960, 30)),  # the same tensor again: cut more than the overshoot
        (970, 20, 90, 100, (880, 90)),
        (120, 20, 90, 100, (100, 90)),
    ],
)
def test_a_limit_that_did_not_hold_is_lowered(
    limit: int, cut: int, overshoot: int, floor: int, expected: tuple[int, int]
) -> None:
    assert training.lowered(limit, cut, overshoot, floor) == expected


@pytest.mark.parametrize(
    ("peaks", "settled"),
    [([10], False), ([10] * 3, False), ([9, 10, 10, 10], False), ([9, 10, 10, 10, 10], True)],
)
def test_a_peak_has_settled_when_three_steps_did_not_raise_it(
    peaks: list[int], settled: bool
) -> None:
    assert training._settled(peaks) is settled
