"""The load phase, shared by trials and trainings."""

from __future__ import annotations

import time

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from worker import device, weights
from worker.events import EventPipe
from worker.memory import MemoryWatch
from worker.protocol.configuration import Configuration, Weights
from worker.protocol.messages import Loaded, Phase
from worker.protocol.requests import ModelSource


def begin(events: EventPipe, budget_bytes: int, sample_seconds: float) -> MemoryWatch:
    """Report the device, start sampling memory and enter the load phase."""
    events.send(device.describe(events.now()))
    watch = MemoryWatch(events, budget_bytes, sample_seconds)
    watch.start()
    events.enter(Phase.LOAD)
    return watch


def load_weights(
    source: ModelSource, configuration: Configuration, watch: MemoryWatch
) -> nn.Module:
    """Return the model with its weights in memory. Ends the process if they exceed the budget."""
    model = weights.plan(source, configuration)
    watch.require(weights.total_bytes(model), planned=True)
    weights.materialize(
        model,
        synthesize=configuration.weights is Weights.SYNTHETIC,
        after_each=lambda: watch.require(mx.get_active_memory()),
    )
    return model


def send_loaded(events: EventPipe, model: nn.Module, keys: tuple[str, ...], began: float) -> None:
    """Report that weights and adapters are in memory. ``began`` is a `time.perf_counter` value."""
    trainable = sum(array.size for _, array in tree_flatten(model.trainable_parameters()))
    events.send(
        Loaded(
            at=events.now(),
            seconds=time.perf_counter() - began,
            resident_bytes=mx.get_active_memory(),
            peak_bytes=mx.get_peak_memory(),
            parameters=weights.parameters(model) - (trainable if keys else 0),  # not the adapters
            trainable_parameters=trainable,
            lora_keys=keys,
        )
    )
