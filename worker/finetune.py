"""A real training through mlx-lm's own trainer, which can be killed at any moment and go on."""

from __future__ import annotations

import json
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from worker.events import EventPipe
from worker.protocol.messages import (
    Failed,
    Loaded,
    Phase,
    Resumed,
    Trained,
    TrainingRequest,
    Truncated,
)

if TYPE_CHECKING:
    from worker.memory import MemoryWatch

_SAMPLE_SECONDS = 1.0
"""Between two samples of memory: a training takes hours, in which no more are needed."""


def run(request: TrainingRequest, events: EventPipe) -> NoReturn:
    """Train, and leave with the final event; any exception becomes one."""
    events.enter(Phase.IMPORT)
    try:
        final = _train(request, events)
    except Exception as error:  # noqa: BLE001 - the parent classifies it; this only reports
        traceback.print_exc()
        events.finish(Failed(events.now(), events.phase, type(error).__name__, str(error)))
    events.finish(final)


def _train(request: TrainingRequest, events: EventPipe) -> Trained:
    # Imported here, so that the phase and the lifeline cover the seconds that they take.
    import mlx.core as mx
    import mlx.optimizers as optim
    import numpy as np
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.trainer import TrainingArgs, train
    from mlx_lm.utils import get_total_parameters

    from worker import architecture, checkpoint, device, lora
    from worker.batches import Course, loss_of
    from worker.memory import MemoryWatch

    events.send(device.describe(events.now()))
    watch = MemoryWatch(events, request.budget_bytes, _SAMPLE_SECONDS)
    watch.start()

    events.enter(Phase.LOAD)
    began = time.perf_counter()
    np.random.seed(request.seed)  # as mlx_lm.lora does: it determines the order of the data
    model = _load_model(request, watch)
    parameters = get_total_parameters(model)
    sets = _load_data(request, events)
    mx.random.seed(request.seed)
    keys = sorted(architecture.attention_projections(model))
    lora.add_adapters(model, request.configuration)
    mx.eval(model.parameters())
    optimizer = optim.AdamW(learning_rate=request.learning_rate)
    target = Path(request.adapter_path)
    _describe(target / "adapter_config.json", request.adapter_config, keys)
    place = checkpoint.load_newest(target, model, optimizer) if request.resume else None
    trainable = sum(v.size for _, v in tree_flatten(model.trainable_parameters()))
    seconds = time.perf_counter() - began
    resident, peak = mx.get_active_memory(), mx.get_peak_memory()
    events.send(Loaded(events.now(), seconds, resident, peak, parameters, trainable))
    if request.resume:
        events.send(Resumed(events.now(), place.iteration if place else 0))

    events.enter(Phase.TRAIN, request.limit_bytes)
    mx.set_memory_limit(request.limit_bytes)
    mx.reset_peak_memory()
    course = Course(request, events, model, optimizer, sets, place)
    done = course.iteration
    if done < request.iters:
        train(
            model=model,
            optimizer=optimizer,
            train_dataset=sets[0],
            args=TrainingArgs(
                iters=(request.iters - done) * request.micro_batches,
                # What is reported and saved when, the course decides: mlx-lm counts from 1 again.
                steps_per_report=1,
                steps_per_save=2**62,
                grad_accumulation_steps=request.grad_accumulation_steps * request.micro_batches,
                adapter_file=str(target / "adapters.safetensors"),
            ),
            loss=loss_of(request),
            iterate_batches=course.batches,
            training_callback=course,
        )
        course.finish()
        course.save()
    mx.synchronize()
    # Before anybody is told that they are there; mlx-lm's own file may not have reached the disk.
    checkpoint.write_adapters(target, model)
    return Trained(events.now(), course.iteration, course.samples, course.longest)


def _load_model(request: TrainingRequest, watch: MemoryWatch) -> Any:
    """The model of real weights, resident; over budget at once if its weights alone are."""
    from worker import weights

    model = weights.plan(request.model, request.configuration)
    watch.require(weights.planned_bytes(model), planned=True)
    weights.materialize(model, synthesize=False, after_each=lambda: None)
    return model


def _load_data(request: TrainingRequest, events: EventPipe) -> tuple[Any, Any]:
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
            if tokens > request.configuration.seq_length and not Sequences.is_told:
                Sequences.is_told = True
                events.send(Truncated(events.now(), tokens))
            return found

    eos = request.model.config.get("eos_token_id")
    tokenizer = load_tokenizer(Path(request.model.path or ""), eos_token_ids=eos)
    wanted = SimpleNamespace(
        data=request.data, train=True, test=False, mask_prompt=request.mask_prompt
    )
    data, valid, _ = load_dataset(wanted, tokenizer)
    return Sequences(data), Sequences(valid) if valid else None


def _describe(path: Path, config: dict[str, Any], keys: list[str]) -> None:
    """Write what mlx-lm loads the adapters by: all of it, or nothing."""
    content = {**config, "lora_parameters": {**config["lora_parameters"], "keys": keys}}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    aside.write_text(json.dumps(content, indent=4))
    aside.replace(path)
