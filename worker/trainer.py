"""Training as mlx-lm does it, one step at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map
from mlx_lm.tuner.trainer import default_loss

from worker.adapters import Evidence, EvidenceError
from worker.kernels import Stopwatch
from worker.protocol.configuration import Configuration, Optimizer
from worker.protocol.requests import TrialRequest

LEARNING_RATE = 1e-5  # mlx_lm.lora's default
_SGD_LEARNING_RATE = 0.1
"""With a lower one, SGD would leave bfloat16 weights unchanged. It changes nothing else."""

MAX_ACCUMULATED = 2
"""Batches per optimizer step in a trial, at most. Further ones take no more memory, since mlx-lm
adds each batch's gradients to those before, and no more time each."""

_OPTIMIZERS = {
    Optimizer.ADAM: optim.Adam,
    Optimizer.ADAMW: optim.AdamW,
    Optimizer.MUON: optim.Muon,
    Optimizer.SGD: optim.SGD,
    Optimizer.ADAFACTOR: optim.Adafactor,
}

Batch = tuple[mx.array, mx.array]
"""Token ids of shape [batch, sequence], and (offset, length) of each row; both int32."""


def make_optimizer(configuration: Configuration, learning_rate: Any) -> optim.Optimizer:
    """Return the optimizer; ``learning_rate`` is a number or a schedule.

    Raises:
        ValueError, TypeError: if MLX rejects an argument in ``optimizer_config``.
    """
    pairs = (text.partition("=") for text in configuration.optimizer_config)
    arguments = {name: json.loads(value) for name, _, value in pairs}
    optimizer: optim.Optimizer = _OPTIMIZERS[configuration.optimizer](
        learning_rate=learning_rate, **arguments
    )
    return optimizer


class Trainer:
    """Trains on batches, one per step. Updates the weights after ``accumulated`` of them.

    Compiles and evaluates the step and clears the cache as ``mlx_lm.tuner.trainer.train`` does.
    That function cannot stop between two steps, so it is not used here.
    """

    def __init__(self, model: nn.Module, request: TrialRequest) -> None:
        configuration = request.configuration
        is_sgd = configuration.optimizer is Optimizer.SGD
        rate = _SGD_LEARNING_RATE if is_sgd else LEARNING_RATE
        optimizer = make_optimizer(configuration, rate)
        self.model = model
        self.accumulated = min(configuration.grad_accumulation_steps, MAX_ACCUMULATED)
        self._state = [model.state, optimizer.state, mx.random.state]
        self._step = _compiled_step(model, optimizer, self._state, self.accumulated)
        self._gradients: Any = None
        self._batches = full_batches(request, model)
        self._evidence = Evidence(model)
        self.losses: list[float] = []

    def step(self, batch: Batch | None = None) -> tuple[float, float, int, float]:
        """Train on ``batch``, by default the next one of full length.

        Returns the step's seconds, compile seconds, tokens and loss.
        """
        batch = batch or next(self._batches)
        is_update = (len(self.losses) + 1) % self.accumulated == 0
        watch = Stopwatch()
        loss, tokens, self._gradients = self._step(batch, self._gradients, is_update)
        mx.eval(self._state, loss, tokens, self._gradients)
        mx.clear_cache()
        seconds, compile_seconds = watch.seconds()
        self.losses.append(float(loss.item()))
        return seconds, compile_seconds, int(tokens.item()), self.losses[-1]

    def check(self) -> None:
        """Raise EvidenceError unless losses and weights show that the steps trained the model.

        Synchronizes first, because since MLX 0.32 a Metal failure may surface only in a later call.
        """
        mx.synchronize()
        if not all(math.isfinite(loss) for loss in self.losses):
            raise EvidenceError(f"a loss is not finite: {self.losses}")
        if len(set(self.losses)) == 1:
            raise EvidenceError(f"the loss never changed: {self.losses}")
        self._evidence.check()


def _compiled_step(
    model: nn.Module, optimizer: optim.Optimizer, state: Any, accumulated: int
) -> Callable[..., Any]:
    """Return a function like the one in mlx-lm's trainer.

    It takes a batch, the gradients of earlier ones, and whether to update the weights. It returns
    the loss, the number of tokens, and the gradients if the weights were not updated.
    """
    loss_and_gradients = nn.value_and_grad(model, default_loss)

    @partial(mx.compile, inputs=state, outputs=state)
    def step(batch: Batch, earlier: Any, is_update: bool) -> Any:
        (loss, tokens), gradients = loss_and_gradients(model, *batch)
        if earlier is not None:
            gradients = tree_map(lambda new, old: new + old, gradients, earlier)
        if is_update:
            if accumulated > 1:
                gradients = tree_map(lambda gradient: gradient / accumulated, gradients)
            optimizer.update(model, gradients)
            gradients = None
        return loss, tokens, gradients

    return step


def full_batches(request: TrialRequest, model: nn.Module) -> Iterator[Batch]:
    """Yield random batches of full length, the worst case of any training."""
    # Do not use MLX's global key: it is part of the compiled step's state.
    key = mx.random.key(request.seed)
    # MLX does not check indices: a token outside of the embedding is a segmentation fault.
    vocabulary = min(filter(None, (_declared(request.model.config), _embeddings(model))))
    batch_size, length = request.configuration.batch_size, request.configuration.seq_length
    lengths = mx.array([(0, length)] * batch_size)
    while True:
        key, batch_key = mx.random.split(key)
        tokens = mx.random.randint(0, vocabulary, (batch_size, length), key=batch_key)
        mx.eval(key, tokens)
        yield tokens, lengths


def _declared(config: dict[str, Any]) -> int:
    """Return the size of the vocabulary in a config, 0 if it is missing or has another name."""
    size: int | None = (config.get("text_config") or {}).get("vocab_size")
    return config.get("vocab_size") or size or 0


def _embeddings(model: nn.Module) -> int:
    """Return the size of the model's vocabulary, 0 if its embeddings have an unknown class.

    Other embeddings, of positions, are smaller.
    """
    types = (nn.Embedding, nn.QuantizedEmbedding)
    sizes = (len(m.weight) for _, m in model.named_modules() if isinstance(m, types))
    return max(sizes, default=0)
