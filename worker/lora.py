"""LoRA training as mlx-lm does it, one step at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten
from mlx_lm.tuner.trainer import default_loss, grad_checkpoint
from mlx_lm.tuner.utils import linear_to_lora_layers

from worker.architecture import UnsupportedModelError, lora_keys
from worker.kernels import Stopwatch
from worker.protocol.configuration import Configuration
from worker.protocol.requests import LORA_SCALE, TrialRequest

LEARNING_RATE = 1e-5  # mlx_lm.lora's default

Batch = tuple[mx.array, mx.array]
"""Token ids of shape [batch, sequence], and (offset, length) of each row; both int32."""


class EvidenceError(RuntimeError):
    """The steps ran, but there is no evidence that they trained the model."""


def add_adapters(model: nn.Module, configuration: Configuration) -> list[str]:
    """Freeze ``model``, add adapters and return their keys.

    Raises UnsupportedModelError if the last layers contain nothing that LoRA could train.
    """
    keys = lora_keys(model)
    if not keys:
        raise UnsupportedModelError("the model has no linear layers for LoRA to train")
    if not hasattr(model, "_no_grad"):
        nn.Module.__init__(model)  # mlx-lm's recurrent_gemma omits this call
    model.freeze()
    config = {"rank": configuration.lora_rank, "scale": LORA_SCALE, "dropout": 0.0, "keys": keys}
    linear_to_lora_layers(model, configuration.lora_layers, config)
    if not tree_flatten(model.trainable_parameters()):  # in a hybrid, few layers have attention
        count = f"{(n := configuration.lora_layers)} layer{'' if n == 1 else 's'}"
        raise UnsupportedModelError(f"there is no attention in the last {count}; train more layers")
    if configuration.grad_checkpoint:
        grad_checkpoint(model.layers[0])
    model.train()
    mx.eval(model.parameters())
    return sorted(keys)


def check_adapters(model: nn.Module) -> None:
    """Raise EvidenceError unless the adapters are finite and training has changed them."""
    leaves = tree_flatten(model.trainable_parameters())
    if not all(mx.isfinite(leaf).all().item() for _, leaf in leaves):
        raise EvidenceError("an adapter weight is not finite")
    # LoRA's b matrices start at zero, and only a gradient changes them.
    if not any(leaf.any().item() for path, leaf in leaves if path.endswith("lora_b")):
        raise EvidenceError("no adapter weight changed, so the training had no effect")


class Trainer:
    """Trains on full-length batches, one optimizer step per call.

    Compiles and evaluates the step and clears the cache as ``mlx_lm.tuner.trainer.train`` does.
    That function cannot stop between two steps, so it is not used here.
    """

    def __init__(self, model: nn.Module, request: TrialRequest) -> None:
        optimizer = optim.AdamW(learning_rate=LEARNING_RATE)
        loss_and_grad = nn.value_and_grad(model, default_loss)
        self._state = [model.state, optimizer.state, mx.random.state]

        @partial(mx.compile, inputs=self._state, outputs=self._state)
        def step(batch: Batch) -> Batch:
            (loss, tokens), grad = loss_and_grad(model, *batch)
            optimizer.update(model, grad)
            return loss, tokens

        self._step: Callable[[Batch], Batch] = step
        self._model = model
        self._batches = full_batches(request, model)
        self.losses: list[float] = []

    def step(self) -> tuple[float, float, int, float]:
        """Train on the next batch. Return the step's seconds, compile seconds, tokens and loss."""
        batch = next(self._batches)
        watch = Stopwatch()
        loss, tokens = self._step(batch)
        mx.eval(self._state, loss, tokens)
        mx.clear_cache()
        seconds, compile_seconds = watch.seconds()
        # According to MLX's stubs an item may be complex. A loss and a count never are.
        self.losses.append(float(loss.item()))  # type: ignore[arg-type]
        return seconds, compile_seconds, int(tokens.item()), self.losses[-1]  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise EvidenceError unless losses and adapters show that the steps trained the model.

        Synchronizes first, because since MLX 0.32 a Metal failure may surface only in a later call.
        """
        mx.synchronize()
        if not all(math.isfinite(loss) for loss in self.losses):
            raise EvidenceError(f"a loss is not finite: {self.losses}")
        if len(set(self.losses)) == 1:
            raise EvidenceError(f"the loss never changed: {self.losses}")
        check_adapters(self._model)


def full_batches(request: TrialRequest, model: nn.Module) -> Iterator[Batch]:
    """Yield random batches of full length, the worst case of any training."""
    # Do not use MLX's global key: it is part of the compiled step's state.
    key = mx.random.key(request.seed)
    config = request.model.config
    declared = config.get("vocab_size") or config["text_config"]["vocab_size"]
    # MLX does not check indices: a token outside of the embedding is a segmentation fault.
    vocabulary = min(declared, _embeddings(model) or declared)
    batch_size, length = request.configuration.batch_size, request.configuration.seq_length
    lengths = mx.array([(0, length)] * batch_size)
    while True:
        key, batch_key = mx.random.split(key)
        tokens = mx.random.randint(0, vocabulary, (batch_size, length), key=batch_key)
        mx.eval(key, tokens)
        yield tokens, lengths


def _embeddings(model: nn.Module) -> int:
    """Return the size of the model's vocabulary, 0 if its embeddings have an unknown class.

    Other embeddings, of positions, are smaller.
    """
    types = (nn.Embedding, nn.QuantizedEmbedding)
    sizes = (len(m.weight) for _, m in model.named_modules() if isinstance(m, types))
    return max(sizes, default=0)
