"""A real training through mlx-lm's own trainer, which can be killed at any moment and go on."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from worker.events import EventPipe
from worker.protocol import (
    Failed,
    Loaded,
    ModelSource,
    Phase,
    Resumed,
    Saved,
    Step,
    Trained,
    TrainingSpec,
    TrialSpec,
    Truncated,
    Validated,
    Weights,
)

if TYPE_CHECKING:
    from worker.memory import MemoryWatch

_SAMPLE_SECONDS = 1.0
"""Between two samples of memory: a training takes hours, in which no more are needed."""


def run(spec: TrainingSpec, events: EventPipe) -> NoReturn:
    """Train, and leave with the final event; any exception becomes one."""
    events.enter(Phase.IMPORT)
    try:
        final = _train(spec, events)
    except Exception as error:  # noqa: BLE001 - the parent classifies it; this only reports
        traceback.print_exc()
        events.finish(Failed(events.now(), events.phase, type(error).__name__, str(error)))
    events.finish(final)


def _train(spec: TrainingSpec, events: EventPipe) -> Trained:
    # Imported here, so that the phase and the lifeline cover the seconds that they take.
    import mlx.core as mx
    import mlx.optimizers as optim
    import numpy as np
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.trainer import TrainingArgs, train
    from mlx_lm.utils import get_total_parameters

    from worker import checkpoint, device, training
    from worker.memory import MemoryWatch

    events.send(device.describe(events.now()))
    watch = MemoryWatch(events, spec.budget_bytes, _SAMPLE_SECONDS)
    watch.start()

    events.enter(Phase.LOAD)
    began = time.perf_counter()
    np.random.seed(spec.seed)  # where and as mlx_lm.lora does it: the order of the data is its own
    trial = as_trial(spec)
    model = _load_model(trial, watch)
    parameters = get_total_parameters(model)
    sets = _load_data(spec, events)
    mx.random.seed(spec.seed)
    training.add_adapters(model, trial)
    mx.eval(model.parameters())
    optimizer = optim.AdamW(learning_rate=spec.learning_rate)
    target = Path(spec.adapter_path)
    target.mkdir(parents=True, exist_ok=True)
    place = checkpoint.load_newest(target, model, optimizer) if spec.restart else None
    if place is None:
        checkpoint.discard(target)
    trainable = sum(v.size for _, v in tree_flatten(model.trainable_parameters()))
    seconds = time.perf_counter() - began
    resident, peak = mx.get_active_memory(), mx.get_peak_memory()
    events.send(Loaded(events.now(), seconds, resident, peak, parameters, trainable))
    if place is not None:
        events.send(Resumed(events.now(), place.iteration))

    events.enter(Phase.TRAIN, spec.limit_bytes)
    mx.set_memory_limit(spec.limit_bytes)
    mx.reset_peak_memory()
    course = Course(spec, events, model, optimizer, sets, place)
    done = course.iteration
    if done < spec.iters:
        train(
            model=model,
            optimizer=optimizer,
            train_dataset=sets[0],
            args=TrainingArgs(
                iters=(spec.iters - done) * spec.parts,
                # What is reported and saved when, the course decides: mlx-lm counts from 1 again.
                steps_per_report=1,
                steps_per_save=2**62,
                grad_accumulation_steps=spec.grad_accumulation_steps * spec.parts,
                adapter_file=str(target / "adapters.safetensors"),
            ),
            iterate_batches=course.batches,
            training_callback=course,
        )
        course.finish()
        course.save()
    mx.synchronize()
    return Trained(
        events.now(), course.iteration, course.samples, course.longest, mx.get_peak_memory()
    )


def _load_model(trial: TrialSpec, watch: MemoryWatch) -> Any:
    """The model of real weights, resident; over budget at once if its weights alone are."""
    from worker import weights

    model = weights.plan(trial)
    watch.require(weights.planned_bytes(model), planned=True)
    weights.materialize(model, synthesize=False, after_each=lambda: None)
    return model


def _load_data(spec: TrainingSpec, events: EventPipe) -> tuple[Any, Any]:
    """The sequences to train on, and those to validate with or ``None``, as mlx-lm reads them.

    They are turned into tokens when they are first asked for; the first that is too long is told.
    """
    from mlx_lm.tuner.datasets import CacheDataset, load_dataset
    from mlx_lm.utils import load_tokenizer

    class Sequences(CacheDataset):  # type: ignore[misc]  # mlx-lm is untyped
        is_told = False

        def __getitem__(self, index: int) -> Any:
            found = super().__getitem__(index)
            tokens = len(found[0])
            if tokens > spec.max_seq_length and not Sequences.is_told:
                Sequences.is_told = True
                events.send(Truncated(events.now(), tokens))
            return found

    eos = spec.model.config.get("eos_token_id")
    tokenizer = load_tokenizer(Path(spec.model.path or ""), eos_token_ids=eos)
    wanted = SimpleNamespace(data=spec.data, train=True, test=False, mask_prompt=spec.mask_prompt)
    data, valid, _ = load_dataset(wanted, tokenizer)
    return Sequences(data), Sequences(valid) if valid else None


class Course:
    """What happens between the steps of mlx-lm's trainer, which asks it for each next batch.

    When it asks, all steps before are done: the moment to report, to save, and to validate. It
    takes the batches from mlx-lm's own function, whose order depends on numpy's random state alone.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        events: EventPipe,
        model: Any,
        optimizer: Any,
        sets: tuple[Any, Any],
        place: Any,
    ) -> None:
        from worker.checkpoint import numpy_state

        self._spec = spec
        self._events = events
        self._model = model
        self._optimizer = optimizer
        self._data, self._valid = sets
        self.iteration = place.iteration if place else 0
        self.samples = place.samples if place else 0
        self.longest = 0
        self._drawn = place.drawn if place else 0
        self._epoch_state = place.epoch_state if place else numpy_state()
        self._state = place.state if place else self._epoch_state
        self._source = self._open()
        self._parts: list[tuple[float, int]] = []
        self._tokens = 0
        self._began = 0.0

    def batches(self, **_: Any) -> Iterator[Any]:
        """The batches from here on, each in its parts; mlx-lm's arguments say nothing new."""
        from worker.memory import leave_wired_limit

        leave_wired_limit()
        while True:
            batch = self._draw()
            self._validate()
            self._began = time.perf_counter()
            yield from self._split(batch)
            self.finish()
            self.save()

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
        import mlx.core as mx

        if not self._parts:
            return
        seconds = time.perf_counter() - self._began
        tokens = sum(tokens for _, tokens in self._parts)
        loss = sum(loss * tokens for loss, tokens in self._parts) / tokens
        self._parts = []
        self.iteration += 1
        self.samples += self._spec.batch_size
        self._events.send(
            Step(
                self._events.now(),
                Phase.TRAIN,
                self.iteration,
                seconds,
                tokens,
                loss,
                mx.get_peak_memory(),
            )
        )

    def _open(self) -> Iterator[Any]:
        """Mlx-lm's batches from the present place on."""
        from mlx_lm.tuner.trainer import iterate_batches

        from worker.checkpoint import set_numpy_state

        set_numpy_state(self._epoch_state if self._drawn else self._state)
        source: Iterator[Any] = iterate_batches(
            self._data, self._spec.batch_size, self._spec.max_seq_length, loop=True
        )
        for _ in range(self._drawn):
            next(source)
        if self._drawn:
            set_numpy_state(self._state)
        return source

    def _draw(self) -> Any:
        from worker.checkpoint import numpy_state

        if self._drawn == len(self._data) // self._spec.batch_size:
            self._drawn = 0
        if self._drawn == 0:
            self._epoch_state = numpy_state()
        batch = next(self._source)
        self._drawn += 1
        return batch

    def _split(self, batch: tuple[Any, Any]) -> Iterator[tuple[Any, Any]]:
        """Its equal parts, for one step each."""
        tokens, lengths = batch
        self.longest = max(self.longest, *lengths[:, 1].tolist())
        size = self._spec.batch_size // self._spec.parts
        for start in range(0, self._spec.batch_size, size):
            yield tokens[start : start + size], lengths[start : start + size]

    def _validate(self) -> None:
        """Before the first iteration, the last, and each one that is due, as mlx-lm does."""
        from mlx_lm.tuner.trainer import evaluate

        coming, spec = self.iteration + 1, self._spec
        if not self._valid or not (coming in (1, spec.iters) or coming % spec.steps_per_eval == 0):
            return
        began = time.perf_counter()
        loss = evaluate(
            model=self._model,
            dataset=self._valid,
            batch_size=spec.batch_size // spec.parts,
            num_batches=spec.val_batches * (spec.parts if spec.val_batches > 0 else 1),
            max_seq_length=spec.max_seq_length,
        )
        self._model.train()
        seconds = time.perf_counter() - began
        self._events.send(Validated(self._events.now(), coming, float(loss), seconds))

    def save(self) -> None:
        """Write a checkpoint, if one is due."""
        from worker.checkpoint import Place, numpy_state, random_key, save

        spec = self._spec
        whole = self.iteration % spec.grad_accumulation_steps == 0  # no gradient is half gathered
        if self.iteration % spec.save_every or not whole:
            return
        place = Place(
            self.iteration,
            self.samples,
            self._drawn,
            self._epoch_state,
            numpy_state(),
            random_key(),
        )
        save(Path(spec.adapter_path), self._model, self._optimizer, place)
        self._events.send(Saved(self._events.now(), self.iteration))


def as_trial(spec: TrainingSpec) -> TrialSpec:
    """The trial with the same model and adapters."""
    return TrialSpec(
        model=ModelSource(spec.model.config, spec.model.path),
        weights=Weights.REAL,
        quantization=spec.quantization,
        batch_size=spec.batch_size,
        lora_rank=spec.lora_rank,
        lora_layers=spec.lora_layers,
        seq_length=spec.max_seq_length,
        steps=spec.iters,
        grad_checkpoint=spec.grad_checkpoint,
        budget_bytes=spec.budget_bytes,
        seed=spec.seed,
    )
