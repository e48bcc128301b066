"""A tiny model with adapters, made as the worker makes it."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from tests.support import tiny
from worker import training, weights
from worker.protocol.messages import ModelSource, TrialRequest, Weights

SPEC = TrialRequest(
    model=ModelSource(tiny.LLAMA),
    weights=Weights.SYNTHETIC,
    quantization=None,
    batch_size=2,
    lora_rank=4,
    lora_layers=2,
    seq_length=32,
    steps=3,
    grad_checkpoint=False,
    budget_bytes=2**30,
)


def prepared_model() -> nn.Module:
    mx.random.seed(0)
    model = weights.plan(SPEC)
    weights.materialize(model, synthesize=True, after_each=lambda: None)
    training.add_adapters(model, SPEC)
    return model
