"""Refuses trainings that MLX's kernels cannot compute."""

from __future__ import annotations

from mlx import nn

from worker.architecture import UnsupportedTrainingError
from worker.protocol.configuration import Configuration

MOST_ELEMENTS = 2**31 - 1
"""The largest result of a multiplication with quantized weights on CUDA (MLX 0.32.4, H200).

A larger one fails with "invalid argument" or "illegal memory access", and in a training MLX then
waits forever. Without quantization, larger ones work.
"""


def check(model: nn.Module, configuration: Configuration, backend: str) -> None:
    """Raise UnsupportedTrainingError if a multiplication has too large a result."""
    if backend != "cuda":
        return
    tokens = configuration.batch_size * (configuration.seq_length - 1)
    widest = max((_width(module) for module in model.modules()), default=0)
    if tokens * widest > MOST_ELEMENTS:
        raise UnsupportedTrainingError(
            f"MLX on CUDA cannot multiply {tokens} tokens by {widest} quantized weights, because "
            "the result has more than 2^31 elements; use fewer tokens per batch, or --quantize none"
        )


def _width(module: nn.Module) -> int:
    """Return the larger side of quantized weights that a linear layer or embedding has, else 0."""
    if "scales" not in module or module.scales.ndim != 2:
        return 0
    rows, groups = module.scales.shape
    return int(max(rows, groups * module.group_size))
