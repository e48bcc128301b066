"""Estimate a trial's memory from the model's architecture: pure, without MLX.

Weights and adapters are counted exactly. What a training step adds is modeled as a number of
tensors, whose sizes follow from the architecture. They are the tensors that layers keep for the
backward pass, plus those alive at a peak. There are two peaks: the loss, when the logits and their
gradients exist, and the backward pass through a checkpointed layer. How many tensors are alive at a
peak depends on the backend's kernels and was fitted to measured needed memory.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

from worker.protocol.configuration import (
    ALL_KEYS,
    ATTENTION_KEYS,
    Configuration,
    FineTuneType,
    Optimizer,
    QuantizationMode,
)
from worker.protocol.requests import TrialRequest
from your_ai.models.architecture import Matrices, Shape, parameters, shape_of

_ADAPTER_BYTES = 4
"""Bytes per adapter weight: mlx-lm's LoRA layers use float32, whatever the model's type."""

_STATE_COPIES = {
    Optimizer.ADAM: 2,
    Optimizer.ADAMW: 2,
    Optimizer.MUON: 1,
    Optimizer.SGD: 1,
    Optimizer.ADAFACTOR: 0,
}
"""Arrays as large as the trained weights that an optimizer keeps (mlx.optimizers)."""

_FITTED_SIZES = {"cuda": (3e8, math.inf), "cpu": (0.0, 3e7)}
"""Smallest and largest number of parameters for which a backend's estimates were checked."""

_ERROR = 0.15
"""Relative error within `_FITTED_SIZES`; no later trial was off by more than 10%.

See docs/measurements.md.
"""

_UNFITTED_ERROR = 0.3
"""Relative error elsewhere and on Metal. It is not measured, so twice `_ERROR` is assumed."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimated memory of a trial, in bytes.

    ``resident_bytes`` is the size of the loaded weights and adapters, ``needed_bytes`` the needed
    memory, ``run_ahead_bytes`` the peak that MLX reaches without a memory limit.
    """

    resident_bytes: int
    needed_bytes: int
    run_ahead_bytes: int


def estimate(request: TrialRequest, backend: str) -> Estimate:
    """Estimate the memory of ``request`` on ``backend`` (``metal``, ``cuda`` or ``cpu``).

    Metal is not measured yet. It is assumed to behave like CUDA, because both have most of the
    fused kernels.

    Raises:
        UsageError: if the config lacks something that the estimate needs.
    """
    shape, configuration = shape_of(request.model.config), request.configuration
    kernels = _CPU if backend == "cpu" else _CUDA
    trained = _trained_bytes(shape, configuration)
    is_full = configuration.fine_tune_type is FineTuneType.FULL
    resident = _weight_bytes(shape, request, kernels.page_bytes) + (0 if is_full else trained)
    sizes = _Tensors.of(shape, configuration)
    # Those of adapters are small, so the fit of the kernels' tensors contains them.
    gradients = (is_full + (configuration.grad_accumulation_steps > 1)) * trained
    state = _STATE_COPIES[configuration.optimizer] * trained
    step = _step_bytes(sizes, configuration, kernels) + _dora_bytes(shape, configuration)
    needed = resident + state + gradients + step
    run_ahead = needed + min(kernels.queued.times(sizes), kernels.queued_bytes)
    return Estimate(resident, round(needed), round(run_ahead))


def error_share(request: TrialRequest, backend: str) -> float:
    """Return the relative error of an estimate: needed memory may be lower or higher by it.

    Raises:
        UsageError: if the config does not give the size of the model.
    """
    smallest, largest = _FITTED_SIZES.get(backend, (math.inf, math.inf))
    is_fitted = smallest <= parameters(request.model.config) <= largest
    return _ERROR if is_fitted and _is_fitted(request.configuration) else _UNFITTED_ERROR


def _is_fitted(configuration: Configuration) -> bool:
    """Return whether estimates of this kind of training were checked."""
    return (
        configuration.fine_tune_type is FineTuneType.LORA
        and configuration.lora_keys in (ALL_KEYS, ATTENTION_KEYS)
        and configuration.optimizer in (Optimizer.ADAM, Optimizer.ADAMW)
        and (configuration.lora_keys == ATTENTION_KEYS or configuration.grad_checkpoint)
        and configuration.grad_accumulation_steps == 1
        and not configuration.lora_dropout
    )


def _adapted(shape: Shape, configuration: Configuration) -> tuple[Matrices, ...]:
    """Return the matrices of a layer with adapters; named ones are taken to be all."""
    if configuration.lora_keys == ATTENTION_KEYS:
        return tuple((1, rows, width) for rows, width in shape.projections)
    return shape.layer_matrices


def _trained_bytes(shape: Shape, configuration: Configuration) -> int:
    """Return the bytes of the weights that are trained."""
    layers = configuration.lora_layers
    if configuration.fine_tune_type is FineTuneType.FULL:
        return layers * shape.layer_parameters * shape.weight_bytes
    adapted = _adapted(shape, configuration)
    widths = sum(count * (rows + width) for count, rows, width in adapted if rows)
    return widths * configuration.lora_rank * layers * _ADAPTER_BYTES


def _dora_bytes(shape: Shape, configuration: Configuration) -> int:
    """Return the bytes of the adapted weights that DoRA computes in a step, as float32."""
    if configuration.fine_tune_type is not FineTuneType.DORA:
        return 0
    layers = 1 if configuration.grad_checkpoint else configuration.lora_layers
    weights = sum(count * rows * width for count, rows, width in _adapted(shape, configuration))
    return layers * weights * (_ADAPTER_BYTES + shape.weight_bytes)


def _weight_bytes(shape: Shape, request: TrialRequest, page: int) -> int:
    """Return the bytes of the loaded weights, in buffers rounded up to whole pages.

    Only matrices whose width is a multiple of the group size are quantized.
    """
    configuration = request.configuration
    bits, group = configuration.quantization_bits, configuration.group_size
    # A group has a scale and a bias in the weights' type or, in microscaling modes, a 1-byte scale.
    is_affine = configuration.quantization_mode is QuantizationMode.AFFINE
    scales = [shape.weight_bytes] * 2 if is_affine else [1]

    def tensor_sizes(rows: int, width: int) -> list[int]:
        if not bits or width % group:
            return [rows * width * shape.weight_bytes]
        return [rows * width * bits // 8, *(rows * width // group * scale for scale in scales)]

    matrices = sum(
        count * (size if size < page else math.ceil(size / page) * page)
        for count, rows, width in shape.matrices
        for size in tensor_sizes(rows, width)
    )
    return matrices + shape.vectors * shape.weight_bytes


@dataclass(frozen=True, slots=True)
class _Tensors:
    """The tensors of a step by kind: either the size of one in bytes, or a number of tensors.

    ``stream`` is a layer's input. The width of ``hidden`` is the mean of the layer's input and its
    queries; ``keys`` is as wide as the layer's keys, ``inner`` as its MLP, ``rank`` as an adapter.
    ``scores`` is the attention matrix of [heads, tokens, tokens].
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
        """Return the size of one tensor of each kind for a whole batch, in bytes."""
        length = max(1, configuration.seq_length - 1)  # one token less in mlx-lm's loss
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

    def times(self, sizes: _Tensors) -> float:
        """Return the total bytes of this number of tensors with the given sizes."""
        pairs = zip(astuple(self), astuple(sizes), strict=True)
        return math.fsum(count * size for count, size in pairs)


@dataclass(frozen=True, slots=True)
class _Kernels:
    """The memory use of a backend's kernels, mostly as numbers of tensors.

    ``saved`` is what each layer keeps for its backward pass without checkpointing. ``backward`` and
    ``scores`` are alive in the backward pass of a checkpointed layer, ``loss`` and ``logits`` at
    the loss. These two peaks overlap; they are combined by a norm of degree ``sharpness``. Adapters
    of the MLP add ``adapted`` tensors as wide as the MLP, which they compute in float32.

    A running graph of kernels also holds tensors that it no longer needs: at most ``graph_bytes``,
    and no more than the tensors ``allocated`` in a layer. Without a memory limit, MLX allocates
    ``queued`` in addition, up to ``queued_bytes``. Buffers of ``page_bytes`` and more are rounded
    up to whole pages.

    ``scores`` and ``logits`` are copies of one large tensor, given as (number, bytes). There is one
    copy fewer if all copies would take more than these bytes. The reason is that MLX overwrites an
    input once the graph that reads it has run. A CUDA graph ends after reading 10^9 numbers, so
    larger inputs are always overwritten.
    """

    saved: _Tensors
    backward: _Tensors
    scores: tuple[int, float]
    adapted: float
    loss: _Tensors
    logits: tuple[int, float]
    sharpness: float
    queued: _Tensors
    queued_bytes: float = math.inf
    allocated: _Tensors = _Tensors(hidden=math.inf)
    graph_bytes: float = 0
    page_bytes: int = 1

    def held(self, alive: float, allocated: float) -> float:
        """Return the bytes held at a peak, as a smooth minimum of two limits.

        One is ``allocated``, the other ``alive`` plus what the graph holds.
        """
        return 1 / math.hypot(1 / allocated, 1 / (alive + self.graph_bytes))


# ``saved`` follows from mlx-lm's layers and their gradients, except in the MLP, which MLX fuses.
# The other numbers were fitted to measured needed memory on 2026-11-23, with MLX 0.32.4.
_CUDA = _Kernels(  # 54 trials on an H200: 0.5B to 70B, batch 1-12, rank 32-128, 512-4096 tokens
    saved=_Tensors(hidden=7, keys=2, inner=3.5, rank=8),
    backward=_Tensors(hidden=3, inner=4, rank=8),
    scores=(3, 4.8e9),
    adapted=9,  # 6 trials with all modules on an H200: 7B to 70B
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
    adapted=16,  # 4 trials with all modules: the smoke suite
    loss=_Tensors(hidden=11),
    logits=(3, math.inf),
    sharpness=2,
    queued=_Tensors(hidden=24, inner=3, scores=1.4, logits=1),
)


def _step_bytes(sizes: _Tensors, configuration: Configuration, kernels: _Kernels) -> float:
    """Return the peak memory of a step, without weights, adapters and optimizer state."""
    saved = sizes.stream if configuration.grad_checkpoint else kernels.saved.times(sizes)
    layer = kernels.allocated.times(sizes)
    logits_copies, logits_bytes = kernels.logits
    # MLX runs ahead of a small model's logits: 0.5B kept both copies at any batch size, 3B to 14B
    # did not.
    is_small = 20 * sizes.hidden + 5 * sizes.inner < 0.65 * sizes.logits
    logits = _copies(sizes.logits, logits_copies, math.inf if is_small else logits_bytes)
    loss = saved + kernels.held(logits + kernels.loss.times(sizes), layer + logits)
    backward = 0.0
    if configuration.grad_checkpoint:  # otherwise nothing is recomputed, and the loss is the peak
        # A single layer passes no gradients on to a layer below.
        alive = kernels.backward.times(sizes) * (1 if configuration.lora_layers > 1 else 0.5)
        backward = kernels.held(alive + _copies(sizes.scores, *kernels.scores), layer)
    degree = kernels.sharpness
    peak: float = (loss**degree + backward**degree) ** (1 / degree)
    is_adapted = configuration.lora_rank and configuration.lora_keys != ATTENTION_KEYS
    adapted = kernels.adapted * sizes.inner if is_adapted else 0.0
    return (configuration.lora_layers - 1) * saved + peak + adapted


def _copies(size: float, number: int, max_bytes: float) -> float:
    """Return the bytes of the copies of a tensor of ``size`` bytes, as `_Kernels` describes."""
    return min(number * size, max((number - 1) * size, max_bytes))
