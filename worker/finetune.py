"""Real training with mlx-lm's trainer. It can be killed at any time and resumed."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import TrainingArgs, evaluate, iterate_batches, train
from mlx_lm.tuner.utils import build_schedule

from worker import adapters, checkpoint, durable, loading
from worker.batches import resumed_batches, split
from worker.checkpoint import Progress
from worker.datasets import load_data
from worker.events import EventPipe
from worker.kernels import Stopwatch
from worker.memory import reset_wired_limit
from worker.protocol.messages import Advanced, Phase, Resumed, Saved, Step, Trained, Validated
from worker.protocol.requests import TrainingRequest
from worker.trainer import Batch, make_optimizer

_SAMPLE_SECONDS = 1.0
"""Seconds between memory samples: longer than in a trial, because a training takes hours."""


def run(request: TrainingRequest, events: EventPipe) -> Trained:
    """Train and write the weights to the disk. Raises EvidenceError if they did not change."""
    loop = _load(request, events)
    events.enter(Phase.TRAIN, request.limit_bytes)
    mx.set_memory_limit(request.limit_bytes)
    mx.reset_peak_memory()
    loop.run()
    mx.synchronize()
    try:
        loop.evidence.check()
    except adapters.EvidenceError:
        (loop.folder / checkpoint.ADAPTERS).unlink(missing_ok=True)  # written by mlx-lm's trainer
        raise
    # mlx-lm's trainer writes the same file without flushing it to the disk.
    checkpoint.write_adapters(loop.folder, loop.model)
    done = loop.progress
    return Trained(events.now(), done.iteration, done.samples, done.longest)


def _load(request: TrainingRequest, events: EventPipe) -> TrainingLoop:
    """Return the training loop, ready to start or to resume after the newest checkpoint."""
    watch = loading.begin(events, request.budget_bytes, _SAMPLE_SECONDS)
    began = time.perf_counter()
    np.random.seed(request.seed)  # determines the order of the data, as in mlx_lm.lora
    data = load_data(request, events)  # before the weights, which take far longer
    model = loading.load_weights(request.model, request.configuration, watch)
    mx.random.seed(request.seed)
    keys = adapters.prepare(model, request.configuration, request.lora_scale)
    mx.eval(model.parameters())
    evidence = adapters.Evidence(model)
    schedule = build_schedule(request.lr_schedule) if request.lr_schedule else None
    optimizer = make_optimizer(request.configuration, schedule or request.learning_rate)
    folder = Path(request.adapter_path)
    _write_adapter_config(folder, request.adapter_config, keys)
    saved = checkpoint.load_newest(folder, model, optimizer) if request.resume else None
    progress = saved or Progress.start()
    loading.send_loaded(events, model, keys, began)
    if request.resume:
        events.send(Resumed(events.now(), progress.iteration))
    return TrainingLoop(request, events, model, optimizer, *data, progress, evidence)


def _write_adapter_config(folder: Path, config: dict[str, Any], keys: tuple[str, ...]) -> None:
    """Write the file that mlx-lm needs to load the adapters, atomically and durably."""
    lora = config["lora_parameters"]
    content = {**config, "lora_parameters": lora and {**lora, "keys": keys}}
    folder.mkdir(parents=True, exist_ok=True)
    target, copy = folder / "adapter_config.json", folder / ".adapter_config.json"
    copy.write_text(json.dumps(content, indent=4))
    durable.replace(copy, target)


@dataclass
class TrainingLoop(TrainingCallback):  # type: ignore[misc]  # mlx-lm is untyped
    """Trains with ``mlx_lm.tuner.trainer.train``, starting after ``progress``, which it updates.

    When the trainer asks for a batch, all earlier steps are complete. The loop therefore reports,
    validates and saves between two batches.
    """

    request: TrainingRequest
    events: EventPipe
    model: Any
    optimizer: Any
    data: Any
    validation_data: Any | None
    progress: Progress
    evidence: adapters.Evidence

    def __post_init__(self) -> None:
        self.folder = Path(self.request.adapter_path)
        self._accumulated = self.request.configuration.grad_accumulation_steps
        self._saved = self.progress.iteration
        self._micro_steps: list[tuple[float, int]] = []  # loss and tokens of each micro-batch
        self._tokens = 0
        self._watch = Stopwatch()
        self._must_stop = False

    def run(self) -> None:
        """Train for the remaining iterations."""
        request = self.request
        remaining = request.iters - self.progress.iteration
        if remaining <= 0:
            return
        train(
            model=self.model,
            optimizer=self.optimizer,
            train_dataset=self.data,
            args=TrainingArgs(
                iters=remaining * request.micro_batches,
                steps_per_report=1,
                steps_per_save=2**62,  # never, because `_end_iteration` saves
                grad_accumulation_steps=self._accumulated * request.micro_batches,
                adapter_file=str(self.folder / checkpoint.ADAPTERS),
            ),
            iterate_batches=self._micro_batches,
            training_callback=self,
        )
        self._end_iteration()

    def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
        """Record loss and tokens. mlx-lm calls this after each micro-batch."""
        loss = float(train_info["train_loss"])
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss is not finite in iteration {self.progress.iteration + 1}; "
                "try a smaller --learning-rate"
            )
        tokens = int(train_info["trained_tokens"])
        self._micro_steps.append((loss, tokens - self._tokens))
        self._tokens = tokens

    def _micro_batches(self, **_: Any) -> Iterator[Batch]:
        """Yield the remaining batches in micro-batches. The trainer's arguments are ignored.

        Once this runs, SIGTERM ends the process after the next iteration that can be saved.
        """
        reset_wired_limit()
        signal.signal(signal.SIGTERM, self._request_stop)
        for batch in resumed_batches(self.data, self.request.configuration, self.progress):
            self._validate()
            rows: Any = batch[1].tolist()
            self.progress.longest = max(self.progress.longest, *(length for _, length in rows))
            self._watch = Stopwatch()
            yield from split(batch, self.request.micro_batches)
            self._end_iteration()
            if self._must_stop and self._saved == self.progress.iteration:
                os._exit(1)  # no final event: the parent knows why

    def _request_stop(self, _number: int, _frame: object) -> None:
        self._must_stop = True

    def _end_iteration(self) -> None:
        """Report the iteration, and save a checkpoint if one is due."""
        seconds, compiling = self._watch.seconds()
        tokens = sum(tokens for _, tokens in self._micro_steps)
        loss = sum(loss * tokens for loss, tokens in self._micro_steps) / max(tokens, 1)
        self._micro_steps = []
        self.progress.iteration += 1
        self.progress.samples += self.request.configuration.batch_size
        now, peak, iteration = self.events.now(), mx.get_peak_memory(), self.progress.iteration
        self.events.send(Step(now, Phase.TRAIN, iteration, seconds, tokens, loss, peak, compiling))
        every = self.request.save_every
        is_due = iteration // every != self._saved // every or self._must_stop
        # A checkpoint does not contain accumulated gradients, so wait until they are applied.
        if is_due and iteration % self._accumulated == 0:
            checkpoint.save(self.folder, self.model, self.optimizer, self.progress)
            self._saved = iteration
            self.events.send(Saved(self.events.now(), iteration))

    def _validate(self) -> None:
        """Validate before the same iterations as mlx-lm: first, last, every ``steps_per_eval``."""
        iteration, request = self.progress.iteration + 1, self.request
        is_due = iteration in (1, request.iters) or iteration % request.steps_per_eval == 0
        if not (self.validation_data and request.val_batches and is_due):
            return
        began = time.perf_counter()
        loss = evaluate(
            model=self.model,
            dataset=self.validation_data,
            batch_size=request.configuration.batch_size,
            num_batches=max(-1, request.val_batches * request.micro_batches),  # -1 for all
            max_seq_length=request.configuration.seq_length,
            iterate_batches=self._validation_batches,
            progress_callback=lambda: self.events.send(Advanced(self.events.now())),
        )
        self.model.train()
        if self._must_stop:
            return  # the validation was cut short, so its loss is meaningless
        seconds = time.perf_counter() - began
        self.events.send(Validated(self.events.now(), iteration, float(loss), seconds))

    def _validation_batches(self, **arguments: Any) -> Iterator[Batch]:
        """Yield micro-batches of mlx-lm's batches, whose order must not depend on the split."""
        for batch in iterate_batches(**arguments):
            if self._must_stop:
                return
            yield from split(batch, self.request.micro_batches)
