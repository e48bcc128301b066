"""LoRA training as mlx-lm does it, and the two phases in which it is measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten
from mlx_lm.tuner.trainer import default_loss, grad_checkpoint
from mlx_lm.tuner.utils import linear_to_lora_layers

from worker.architecture import UnsupportedModelError, attention_projections
from worker.events import EventPipe
from worker.memory import MemoryWatch
from worker.protocol import LORA_SCALE, Passed, Phase, Step, TrialSpec

TIGHT_STEPS = 10
"""At most; fewer when the peak has settled. The first step allocates the optimizer's state, and on
a busy CPU it takes some until two threads have met at their worst."""

SETTLED = 1.005
"""The peak has settled when the last three together raised it by no more than this factor."""

RELAXED_ATTEMPTS = 5
"""How many limits are tried; the last is the tight phase's, which held."""

LEARNING_RATE = 1e-5  # mlx_lm.lora's default


class EvidenceError(RuntimeError):
    """The steps ran, but what they left behind is not what training leaves behind."""


def add_adapters(model: nn.Module, spec: TrialSpec) -> None:
    """Freeze ``model`` and put LoRA on the attention's projections in its last layers.

    Raises:
        UnsupportedModelError: when there are none.
    """
    keys = attention_projections(model)
    if not keys:
        raise UnsupportedModelError("it has no attention projections that LoRA could train")
    model.freeze()
    config = {"rank": spec.lora_rank, "scale": LORA_SCALE, "dropout": 0.0, "keys": keys}
    linear_to_lora_layers(model, spec.lora_layers, config)
    if spec.grad_checkpoint:
        grad_checkpoint(model.layers[0])
    model.train()


class Trainer:
    """One optimizer step at a time, exactly as ``mlx_lm.tuner.trainer.train`` takes them.

    Its loop is not called itself because it raises the wired limit, trains in one phase and writes
    adapters; the step, its compilation, evaluation and cache policy are the same.
    """

    def __init__(self, model: nn.Module, spec: TrialSpec, vocab_size: int) -> None:
        optimizer = optim.AdamW(learning_rate=LEARNING_RATE)
        loss_and_grad = nn.value_and_grad(model, default_loss)
        self._state = [model.state, optimizer.state, mx.random.state]

        @partial(mx.compile, inputs=self._state, outputs=self._state)
        def step(batch: tuple[mx.array, mx.array]) -> tuple[mx.array, mx.array]:
            (loss, tokens), grad = loss_and_grad(model, *batch)
            optimizer.update(model, grad)
            return loss, tokens

        self._step: Callable[[tuple[mx.array, mx.array]], tuple[mx.array, mx.array]] = step
        self._model = model
        self._batches = _full_batches(spec, vocab_size)
        self.losses: list[float] = []

    def step(self) -> tuple[float, int, float]:
        """Train on the next batch; seconds, tokens and loss of that step."""
        batch = next(self._batches)
        began = time.perf_counter()
        loss, tokens = self._step(batch)
        mx.eval(self._state, loss, tokens)
        mx.clear_cache()
        seconds = time.perf_counter() - began
        # MLX's stubs allow an item to be complex; a loss and a count never are.
        self.losses.append(float(loss.item()))  # type: ignore[arg-type]
        return seconds, int(tokens.item()), self.losses[-1]  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise EvidenceError unless the steps so far are evidence of training.

        Since MLX 0.32 a Metal failure may surface only at a later call, hence the synchronization.
        """
        mx.synchronize()
        if not all(math.isfinite(loss) for loss in self.losses):
            raise EvidenceError(f"a loss is not finite: {self.losses}")
        if len(set(self.losses)) == 1:
            raise EvidenceError(f"the loss never changed: {self.losses}")
        leaves = tree_flatten(self._model.trainable_parameters())
        if not all(mx.isfinite(leaf).all().item() for _, leaf in leaves):
            raise EvidenceError("an adapter weight is not finite")
        # LoRA's b is zero at first, and only a gradient moves it.
        if not any(leaf.any().item() for path, leaf in leaves if path.endswith("lora_b")):
            raise EvidenceError("no adapter weight changed")


def measure(
    trainer: Trainer,
    spec: TrialSpec,
    watch: MemoryWatch,
    events: EventPipe,
    ceiling_bytes: int | None,
) -> Passed:
    """The tight phase, then the relaxed one, from below: nothing larger than needed is tried first.

    ``ceiling_bytes`` is the most that the device should be given whatever the budget, or ``None``.
    Ends the process as over budget, by way of ``watch``, when the needed memory is more than that.

    Raises:
        EvidenceError: when the steps left no evidence of training behind.
    """

    def run(phase: Phase, limit: int, steps: int) -> int:
        """The peak of MLX's active memory over these steps, cut short once it passes the budget."""
        events.enter(phase, limit)
        mx.set_memory_limit(limit)
        mx.clear_cache()
        mx.reset_peak_memory()
        peaks: list[int] = []
        for index in range(1, steps + 1):
            if phase is Phase.TIGHT:
                _shift_waits()
            seconds, tokens, loss = trainer.step()
            peaks.append(mx.get_peak_memory())
            events.send(Step(events.now(), phase, index, seconds, tokens, loss, peaks[-1]))
            if peaks[-1] > spec.budget_bytes or (phase is Phase.TIGHT and _settled(peaks)):
                break
        return peaks[-1]

    tight_limit = mx.get_active_memory()
    needed = run(Phase.TIGHT, tight_limit, TIGHT_STEPS)
    watch.require(needed)
    limit, cut = min(spec.budget_bytes, ceiling_bytes or spec.budget_bytes), 0
    peak, attempts = run(Phase.RELAXED, limit, spec.steps), 1
    while peak > spec.budget_bytes and limit > tight_limit:
        limit, cut = lowered(limit, cut, peak - spec.budget_bytes, tight_limit)
        attempts += 1
        if attempts == RELAXED_ATTEMPTS:
            limit = tight_limit
        peak = run(Phase.RELAXED, limit, spec.steps)
    watch.require(peak)
    trainer.check()
    # Where the tight limit was the last resort, its counted steps may have needed less by a hair.
    return Passed(events.now(), min(needed, peak), tight_limit, peak, limit)


def lowered(limit: int, cut: int, overshoot: int, floor: int) -> tuple[int, int]:
    """The next limit to try and by how much it was cut; all bytes, never below ``floor``.

    By the overshoot, and by at least three times the last cut: on an H200 limits of 11.6 to 12.0 GB
    all peaked at 12.10, the same large tensor meeting the limit at the same moment.
    """
    cut = max(overshoot, 3 * cut)
    return max(floor, limit - cut), cut


def _shift_waits() -> None:
    """Move by one operation the places in a step at which MLX's CPU backend waits.

    It looks at its memory limit at every tenth dispatch (DISPATCHES_PER_TASK in MLX's
    backend/cpu/encoder.h) and counts on from step to step, so that steps of one shape would all
    wait at the same places and all miss the worst (measured: 9.63, 9.86 or 10.15 MB, by chance).
    """
    mx.eval(mx.zeros(1) + 1)


def _settled(peaks: list[int]) -> bool:
    return len(peaks) > 3 and peaks[-1] <= SETTLED * peaks[-4]


def vocabulary_size(config: dict[str, Any]) -> int:
    """How many tokens a model knows, from its ``config.json``."""
    text = config.get("text_config") or {}
    return int(config.get("vocab_size") or text["vocab_size"])


def _full_batches(spec: TrialSpec, vocab_size: int) -> Iterator[tuple[mx.array, mx.array]]:
    """Batches as mlx-lm makes them, each of full length: the worst case that training can meet.

    Token ids of shape [batch, sequence] and (offset, length) of each row, both int32.
    """
    # A key of its own: the global one is part of the compiled step's state.
    key = mx.random.key(spec.seed)
    shape = (spec.batch_size, spec.seq_length)
    lengths = mx.array([(0, spec.seq_length)] * spec.batch_size)
    while True:
        key, own = mx.random.split(key)
        tokens = mx.random.randint(0, vocab_size, shape, key=own)
        mx.eval(key, tokens)
        yield tokens, lengths
