"""A tiny model with adapters, prepared as in the worker."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from tests.support import tiny
from worker import adapters, weights
from worker.protocol.configuration import Configuration
from worker.protocol.requests import ModelSource, TrialRequest

REQUEST = TrialRequest(
    model=ModelSource(tiny.LLAMA),
    configuration=Configuration(
        batch_size=2, lora_rank=4, lora_layers=2, seq_length=32, grad_checkpoint=False
    ),
    steps=3,
    budget_bytes=2**30,
)


def prepared_model() -> nn.Module:
    mx.random.seed(0)
    model = weights.plan(REQUEST.model, REQUEST.configuration)
    weights.materialize(model, synthesize=True)
    adapters.prepare(model, REQUEST.configuration)
    return model
