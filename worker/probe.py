"""Describes the device and models for the parent, which never imports MLX."""

from __future__ import annotations

import os
import traceback
from dataclasses import replace
from typing import NoReturn

from worker import device
from worker.events import EventPipe
from worker.protocol.configuration import ATTENTION_KEYS, Configuration, Weights
from worker.protocol.memory import MemoryFacts, lengths_around
from worker.protocol.messages import ModelFacts, ProbeAnswer
from worker.protocol.requests import ModelSource, PlannedModel, ProbeRequest


def run(request: ProbeRequest, events: EventPipe) -> NoReturn:
    """Send the device, then a `ProbeAnswer`, and exit.

    A worker that reported the device and dies was ended by a model, not by a broken MLX. Slow
    modules are imported only if there are models to build.
    """
    events.send(device.describe(events.now()))
    models: dict[str, ModelFacts] = {}
    problems: dict[str, str] = {}
    if request.models:
        from worker.architecture import UnsupportedModelError, UnsupportedTrainingError

        for name, planned in request.models.items():
            try:
                models[name] = facts(planned)
            except UnsupportedTrainingError as error:
                problems[name] = str(error)
            except UnsupportedModelError as error:
                problems[name] = f"{str(error).partition(chr(10))[0]}. Choose another model"
    events.send(ProbeAnswer(models, problems))
    os._exit(0)


def facts(planned: PlannedModel) -> ModelFacts:
    """Return what the parent needs to plan trials of a model, without allocating weights.

    Raises:
        UnsupportedModelError: if mlx-lm cannot build the model, or cannot train it like that.
    """
    from mlx.utils import tree_flatten

    from worker import adapters, weights

    # The shapes of the weights do not depend on whether they are real. mlx-lm's checkpointing would
    # change the class of the layers for good.
    configuration = replace(planned.configuration, weights=Weights.SYNTHETIC, grad_checkpoint=False)
    model = weights.plan(ModelSource(planned.config), configuration)
    parameters, layers = weights.parameters(model), len(model.layers)
    weights_bytes = weights.total_bytes(model)  # without the adapters
    wants_attention = configuration.lora_keys == ATTENTION_KEYS
    lacks_attention = wants_attention and not adapters.attention_projections(model)
    configuration = replace(configuration, lora_layers=min(configuration.lora_layers, layers))
    keys = adapters.prepare(model, configuration)
    trainable = sum(array.size for _, array in tree_flatten(model.trainable_parameters()))
    return ModelFacts(
        parameters,
        trainable,
        layers,
        keys,
        lacks_attention,
        weights_bytes,
        _memory(planned, configuration) if planned.memory_on else None,
    )


def _memory(planned: PlannedModel, configuration: Configuration) -> MemoryFacts | None:
    from worker import memory_facts
    from worker.step_graph.step_memory import Grid

    backend, grid = planned.memory_on or "", Grid(lengths_around(configuration.seq_length))
    source = ModelSource(planned.config)
    try:
        return memory_facts.find(source, configuration, (backend,), grid)[backend]
    except Exception:  # noqa: BLE001 - a model that cannot be traced can still be trained
        traceback.print_exc()
        return None
