"""The course of a training: what happens between two steps of mlx-lm's trainer."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.tuner.trainer import default_loss, evaluate, iterate_batches

from worker.checkpoint import Place, numpy_state, random_key, save, set_numpy_state
from worker.events import EventPipe
from worker.memory import leave_wired_limit
from worker.protocol.messages import Phase, Saved, Step, TrainingRequest, Validated

Batch = tuple[mx.array, mx.array]
"""Token ids of shape [batch, sequence], and (offset, length) of each row."""


class Course:
    """Gives mlx-lm's trainer each next batch, and sees to the rest in between.

    When it asks, all steps before are done: the moment to report, to save, and to validate. The
    batches are from mlx-lm's own function, whose order depends on numpy's random state alone.
    ``place`` is where a checkpoint has it, or ``None`` at the beginning.
    """

    def __init__(
        self,
        request: TrainingRequest,
        events: EventPipe,
        model: Any,
        optimizer: Any,
        sets: tuple[Any, Any],
        place: Place | None,
    ) -> None:
        self._request = request
        self._events = events
        self._model = model
        self._optimizer = optimizer
        self._loss = loss_of(request)
        self._data, self._valid = sets
        self.iteration = self._saved = place.iteration if place else 0
        self.samples = place.samples if place else 0
        self.longest = place.longest if place else 0
        self._drawn = place.drawn if place else 0
        self._epoch_state = place.epoch_state if place else numpy_state()
        self._state = place.state if place else self._epoch_state
        self._source = self._open()
        self._parts: list[tuple[float, int]] = []
        self._tokens = 0
        self._began = 0.0
        self._must_stop = False

    def batches(self, **_: Any) -> Iterator[Batch]:
        """The batches from here on, each in its parts; mlx-lm's arguments say nothing new.

        From now on a SIGTERM is obeyed behind the next one of which a checkpoint can be written.
        """
        leave_wired_limit()
        signal.signal(signal.SIGTERM, self._ask_to_stop)
        while True:
            batch = self._draw()
            self._validate()
            self.longest = max(self.longest, *(length for _, length in _rows(batch)))
            self._began = time.perf_counter()
            yield from self._split(batch)
            self.finish()
            self.save()
            if self._must_stop and self._saved == self.iteration:
                os._exit(1)  # without a last word: it is the parent that knows why

    def on_train_loss_report(self, info: dict[str, Any]) -> None:
        """Mlx-lm's callback after each step."""
        loss = float(info["train_loss"])
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss is not finite in iteration {self.iteration + 1}: "
                "try a smaller --learning-rate"
            )
        self._parts.append((loss, int(info["trained_tokens"]) - self._tokens))
        self._tokens = int(info["trained_tokens"])

    def on_val_loss_report(self, info: dict[str, Any]) -> None:
        """Mlx-lm's callback after a validation of its own, of which there is none."""

    def finish(self) -> None:
        """Take what the steps of the last batch left behind."""
        if not self._parts:
            return
        seconds = time.perf_counter() - self._began
        tokens = sum(tokens for _, tokens in self._parts)
        loss = sum(loss * tokens for loss, tokens in self._parts) / max(tokens, 1)
        self._parts = []
        self.iteration += 1
        self.samples += self._request.configuration.batch_size
        now, peak = self._events.now(), mx.get_peak_memory()
        self._events.send(Step(now, Phase.TRAIN, self.iteration, seconds, tokens, loss, peak))

    def save(self) -> None:
        """Write a checkpoint, if one is due: not before all gathered gradients are applied."""
        request, every = self._request, self._request.save_every
        if self.iteration // every == self._saved // every and not self._must_stop:
            return
        if self.iteration % request.grad_accumulation_steps:
            return
        place = Place(
            iteration=self.iteration,
            samples=self.samples,
            longest=self.longest,
            drawn=self._drawn,
            epoch_state=self._epoch_state,
            state=numpy_state(),
            random_key=random_key(),
        )
        save(Path(request.adapter_path), self._model, self._optimizer, place)
        self._saved = self.iteration
        self._events.send(Saved(self._events.now(), self.iteration))

    def _ask_to_stop(self, _number: int, _frame: object) -> None:
        self._must_stop = True

    def _open(self) -> Iterator[Batch]:
        """Mlx-lm's batches from the present place on."""
        set_numpy_state(self._epoch_state if self._drawn else self._state)
        source: Iterator[Batch] = iterate_batches(
            self._data,
            self._request.configuration.batch_size,
            self._request.configuration.seq_length,
            loop=True,
        )
        for _ in range(self._drawn):
            next(source)
        if self._drawn:
            set_numpy_state(self._state)
        return source

    def _draw(self) -> Batch:
        if self._drawn == len(self._data) // self._request.configuration.batch_size:
            self._drawn = 0
        if self._drawn == 0:
            self._epoch_state = numpy_state()
        batch = next(self._source)
        self._drawn += 1
        return batch

    def _split(self, batch: Batch) -> Iterator[Batch]:
        """Its equal parts, for one step each."""
        tokens, lengths = batch
        size = self._request.configuration.batch_size // self._request.micro_batches
        for start in range(0, self._request.configuration.batch_size, size):
            yield tokens[start : start + size], lengths[start : start + size]

    def _validate(self) -> None:
        """Before the first iteration, the last, and each one that is due, as mlx-lm does."""
        coming, request = self.iteration + 1, self._request
        is_due = coming in (1, request.iters) or coming % request.steps_per_eval == 0
        if not (self._valid and request.val_batches and is_due):
            return
        began = time.perf_counter()
        loss = evaluate(
            model=self._model,
            dataset=self._valid,
            batch_size=request.configuration.batch_size,
            num_batches=request.val_batches
            * (request.micro_batches if request.val_batches > 0 else 1),
            max_seq_length=request.configuration.seq_length,
            loss=self._loss,
            iterate_batches=self._validation_batches,
        )
        self._model.train()
        if self._must_stop:
            return  # it was cut short
        seconds = time.perf_counter() - began
        self._events.send(Validated(self._events.now(), coming, float(loss), seconds))

    def _validation_batches(self, **asked: Any) -> Iterator[Batch]:
        """Whole batches, drawn and then split: as much randomness is used up however many parts."""
        for batch in iterate_batches(**asked):
            if self._must_stop:
                return
            yield from self._split(batch)


def _rows(batch: Batch) -> list[tuple[int, int]]:
    """(offset, length) of each row."""
    rows: Any = batch[1].tolist()
    return [(offset, length) for offset, length in rows]


def loss_of(request: TrainingRequest) -> Callable[..., Batch]:
    """Mlx-lm's loss and its number of tokens.

    Where prompts are masked, one that fills the longest sequence leaves nothing to train on: of a
    part that consists of such alone mlx-lm's loss is 0/0, and here it is 0.
    """
    return _masked_loss if request.mask_prompt else default_loss


def _masked_loss(model: Any, batch: mx.array, lengths: mx.array) -> Batch:
    steps = mx.arange(1, batch.shape[1])
    targets = mx.logical_and(steps >= lengths[:, 0:1], steps <= lengths[:, 1:])
    is_some = targets.any()
    # Without any, of all tokens instead: a gradient that is finite, and then multiplied by 0.
    everything = mx.array([0, batch.shape[1]])
    loss, tokens = default_loss(model, batch, mx.where(is_some, lengths, everything))
    return loss * is_some, tokens * is_some
