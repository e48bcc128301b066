"""A real training with mlx-lm's trainer that can be killed at any moment and resumed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np

from worker import checkpoint, loading, lora
from worker.batches import load_data
from worker.checkpoint import Progress
from worker.events import EventPipe
from worker.protocol.messages import Phase, Resumed, Trained, TrainingRequest
from worker.training_loop import TrainingLoop

_SAMPLE_SECONDS = 1.0
"""Between two memory samples. A training takes hours, so fewer are needed than in a trial."""


def run(request: TrainingRequest, events: EventPipe) -> Trained:
    """Train, and return when the adapters are on disk."""
    loop = _load(request, events)
    events.enter(Phase.TRAIN, request.limit_bytes)
    mx.set_memory_limit(request.limit_bytes)
    mx.reset_peak_memory()
    loop.run()
    mx.synchronize()
    # The file from mlx-lm's trainer may not have reached the disk.
    checkpoint.write_adapters(Path(request.adapter_path), loop.model)
    done = loop.progress
    return Trained(events.now(), done.iteration, done.samples, done.longest)


def _load(request: TrainingRequest, events: EventPipe) -> TrainingLoop:
    """Return the training, ready to run from its start or its newest checkpoint."""
    watch = loading.begin(events, request.budget_bytes, _SAMPLE_SECONDS)
    began = time.perf_counter()
    np.random.seed(request.seed)  # determines the order of the data, as in mlx_lm.lora
    model = loading.load_weights(request.model, request.configuration, watch)
    data = load_data(request, events)
    mx.random.seed(request.seed)
    keys = lora.add_adapters(model, request.configuration)
    optimizer = optim.AdamW(learning_rate=request.learning_rate)
    folder = Path(request.adapter_path)
    _write_adapter_config(folder, request.adapter_config, keys)
    saved = checkpoint.load_newest(folder, model, optimizer) if request.resume else None
    progress = saved or Progress.start()
    loading.send_loaded(events, model, began)
    if request.resume:
        events.send(Resumed(events.now(), progress.iteration))
    return TrainingLoop(request, events, model, optimizer, *data, progress)


def _write_adapter_config(folder: Path, config: dict[str, Any], keys: list[str]) -> None:
    """Write the file by which mlx-lm loads the adapters, atomically."""
    content = {**config, "lora_parameters": {**config["lora_parameters"], "keys": keys}}
    folder.mkdir(parents=True, exist_ok=True)
    target, copy = folder / "adapter_config.json", folder / ".adapter_config.json"
    copy.write_text(json.dumps(content, indent=4))
    copy.replace(target)
