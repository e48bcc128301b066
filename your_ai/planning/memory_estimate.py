"""How much memory a trial will take, from the architecture alone: pure, and no MLX.

The weights and adapters are counted exactly. What a step takes on top is counted in tensors of the
model's own widths: what the layers keep for the backward pass, and two moments, the loss, when the
logits and their gradients exist, and the backward pass through a checkpointed layer. How many such
tensors are alive then depends on a backend's kernels and was fitted to measured needed memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from worker.protocol.messages import GROUP_SIZE, Configuration, TrialRequest
from your_ai.models.architecture import Shape, parameters, shape_of

_ADAPTER_BYTES = 4
"""A weight's: mlx-lm's LoRA layers draw them in float32, whatever the model's own type."""

_FITTED_SIZES = {"cuda": (3e8, math.inf), "cpu": (0.0, 3e7)}
"""Numbers of parameters between which a backend's estimates were held against measurements."""

_ERROR = 0.15
"""There: none of the trials made since was further off than 10 %, docs/measurements.md."""

_UNFITTED_ERROR = 0.3
"""Elsewhere, and on Metal: nobody has looked yet, so it is taken to be twice as much."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a trial is expected to take, in bytes.

    ``resident_bytes`` is what the weights and adapters take once they are loaded, ``needed_bytes``
    the needed memory, ``run_ahead_bytes`` the peak that MLX reaches when no limit holds it back.
    """

    resident_bytes: int
    needed_bytes: int
    run_ahead_bytes: int


def estimate(request: TrialRequest, backend: str) -> Estimate:
    """What ``request`` will take on ``backend`` (``metal``, ``cuda`` or ``cpu``).

    Metal is not measured yet: it is taken to be as CUDA, most of whose fused kernels it shares.

    Raises:
        UsageError: when the config does not say what the estimate needs.
    """
    shape, configuration = shape_of(request.model.config), request.configuration
    kernels = _CPU if backend == "cpu" else _CUDA
    widths = sum(rows + width for rows, width in shape.projections)
    adapters = widths * configuration.lora_rank * configuration.lora_layers * _ADAPTER_BYTES
    resident = _weight_bytes(shape, request, kernels.page_bytes) + adapters
    one = _Tensors.of(shape, configuration)
    # AdamW keeps two moments of each adapter weight, in its own type.
    needed = resident + 2 * adapters + _step_bytes(one, configuration, kernels)
    run_ahead = needed + min(kernels.queued.times(one), kernels.queued_bytes)
    return Estimate(resident, round(needed), round(run_ahead))


def error_share(config: Mapping[str, Any], backend: str) -> float:
    """How far the measured needed memory may be on either side of the estimate, as a share of it.

    Raises:
        UsageError: when the config does not say how large the model is.
    """
    least, most = _FITTED_SIZES.get(backend, (math.inf, math.inf))
    return _ERROR if least <= parameters(config) <= most else _UNFITTED_ERROR


def _weight_bytes(shape: Shape, request: TrialRequest, page: int) -> int:
    """The weights as they are loaded, every matrix quantized whose width the groups divide."""
    stored = request.model.config.get("quantization") or {}
    bits = request.configuration.quantization_bits
    group = stored.get("group_size", GROUP_SIZE)
    # A group has a scale and a bias in the weights' type; in microscaling modes a byte for a scale.
    affine = stored.get("mode", "affine") == "affine"
    scales = [shape.weight_bytes] * 2 if affine else [1]

    def tensors(rows: int, width: int) -> list[int]:
        if not bits or width % group:
            return [rows * width * shape.weight_bytes]
        return [rows * width * bits // 8, *(rows * width // group * scale for scale in scales)]

    matrices = sum(
        count * (size if size < page else math.ceil(size / page) * page)
        for count, rows, width in shape.matrices
        for size in tensors(rows, width)
    )
    return matrices + shape.vectors * shape.weight_bytes


@dataclass(frozen=True, slots=True)
class _Tensors:
    """Tensors of a step by their kind: one of each in bytes, or how many of each.

    ``stream`` is a layer's input, ``hidden`` as wide as that or as its queries (their mean),
    ``keys`` as its keys, ``inner`` as its MLP, ``rank`` as an adapter; ``scores`` is the
    attention's [heads, tokens, tokens].
    """

    stream: float = 0
    hidden: float = 0
    keys: float = 0
    inner: float = 0
    rank: float = 0
    scores: float = 0
    logits: float = 0

    @classmethod
    def of(cls, shape: Shape, configuration: Configuration) -> _Tensors:
        """One of each, in bytes, for a whole batch."""
        length = max(1, configuration.seq_length - 1)  # mlx-lm's loss feeds all tokens but the last
        row = configuration.batch_size * length * shape.weight_bytes
        return cls(
            stream=row * shape.hidden,
            hidden=row * (shape.hidden + shape.queries) / 2,
            keys=row * shape.keys,
            inner=row * shape.inner,
            rank=row * configuration.lora_rank,
            scores=row * length * shape.heads,
            logits=row * shape.vocabulary,
        )

    def times(self, one: _Tensors) -> float:
        """Bytes of so many tensors, of the sizes in ``one``."""
        counts, sizes = astuple(self), astuple(one)
        return math.fsum(count * size for count, size in zip(counts, sizes, strict=True))


@dataclass(frozen=True, slots=True)
class _Kernels:
    """What a backend holds, as numbers of tensors.

    ``saved``: for a layer's backward pass, without checkpointing. ``backward`` and ``scores``: in a
    checkpointed layer's backward pass. ``loss`` and ``logits``: at the loss. The two moments
    overlap: together they take a norm of degree ``sharpness``. A graph of kernels also holds what
    it is done with until it has run, of all that is ``allocated`` in a layer no more than
    ``graph_bytes``. ``queued``, up to ``queued_bytes``, comes on top when no limit makes MLX wait.
    Buffers from ``page_bytes`` on are whole pages.

    ``scores`` and ``logits`` are copies of one large tensor: so many up to so many bytes in all,
    beyond that one less. MLX writes a result over its input once the graph of kernels that reads it
    has run. A CUDA graph ends when it has read 10^9 numbers, so larger tensors are always
    overwritten.
    """

    saved: _Tensors
    backward: _Tensors
    scores: tuple[int, float]
    loss: _Tensors
    logits: tuple[int, float]
    sharpness: float
    queued: _Tensors
    queued_bytes: float = math.inf
    allocated: _Tensors = _Tensors(hidden=math.inf)
    graph_bytes: float = 0
    page_bytes: int = 1

    def held(self, alive: float, allocated: float) -> float:
        """Bytes at a moment with ``alive`` of them alive, of all that are ``allocated`` then."""
        return 1 / math.hypot(1 / allocated, 1 / (alive + self.graph_bytes))


# ``saved`` follows from mlx-lm's layers and their gradients, but for the MLP's, which MLX fuses.
# The rest was fitted to needed memory, 2026-11-23, MLX 0.32.4.
_CUDA = _Kernels(  # 54 trials on an H200: 0.5B to 70B, batch 1-12, rank 32-128, 512-4096 tokens
    saved=_Tensors(hidden=7, keys=2, inner=3.5, rank=8),
    backward=_Tensors(hidden=3, inner=4, rank=8),
    scores=(3, 4.8e9),
    loss=_Tensors(),
    logits=(2, 2.9e9),
    sharpness=8,
    queued=_Tensors(hidden=325, inner=130, scores=18),
    queued_bytes=10e9,
    allocated=_Tensors(hidden=70, inner=28, rank=16, scores=4),
    graph_bytes=0.85e9,
    page_bytes=16384,
)
_CPU = _Kernels(  # 92 trials: 0.1M to 8M parameters, batch 1-8, rank 4-64, 32-256 tokens
    saved=_Tensors(hidden=7, keys=2, inner=4.2, rank=8, scores=1),
    backward=_Tensors(hidden=19, keys=7, inner=5, rank=37),
    scores=(1, math.inf),
    loss=_Tensors(hidden=11),
    logits=(3, math.inf),
    sharpness=2,
    queued=_Tensors(hidden=24, inner=3, scores=1.4, logits=1),
)


def _step_bytes(one: _Tensors, configuration: Configuration, kernels: _Kernels) -> float:
    """What a step takes at its worst, on top of weights, adapters and the optimizer's state."""
    saved = one.stream if configuration.grad_checkpoint else kernels.saved.times(one)
    layer = kernels.allocated.times(one)
    logits_most, logits_bytes = kernels.logits
    # MLX is ahead of a small model's logits: 0.5B kept both copies at any batch, 3B to 14B did not.
    is_small = 20 * one.hidden + 5 * one.inner < 0.65 * one.logits
    logits = _copies(one.logits, logits_most, math.inf if is_small else logits_bytes)
    loss = saved + kernels.held(logits + kernels.loss.times(one), layer + logits)
    backward = 0.0
    if configuration.grad_checkpoint:  # else nothing is computed again, and the loss is the worst
        # With a single layer none below waits for its gradients.
        alive = kernels.backward.times(one) * (1 if configuration.lora_layers > 1 else 0.5)
        backward = kernels.held(alive + _copies(one.scores, *kernels.scores), layer)
    degree = kernels.sharpness
    worst: float = (loss**degree + backward**degree) ** (1 / degree)
    return (configuration.lora_layers - 1) * saved + worst


def _copies(size: float, most: int, most_bytes: float) -> float:
    """Bytes of the copies of a tensor of ``size`` bytes."""
    return min(most * size, max((most - 1) * size, most_bytes))
