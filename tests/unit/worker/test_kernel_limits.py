"""Trainings whose quantized multiplications MLX's kernels on CUDA cannot compute are refused."""

from __future__ import annotations

import pytest
from mlx import nn

from worker.architecture import UnsupportedTrainingError
from worker.kernel_limits import check
from worker.protocol.configuration import Configuration

WIDE = 2**16


QUANTIZED = [
    nn.QuantizedLinear(64, WIDE, bias=False),
    nn.QuantizedLinear(WIDE, 64, bias=False),  # its backward pass has the wide result
    nn.QuantizedEmbedding(WIDE, 64),
]


def batch(length: int) -> Configuration:
    """Return a configuration with one batch of 2 × (length - 1) tokens that are multiplied."""
    return Configuration(batch_size=2, seq_length=length)


@pytest.mark.parametrize("layer", QUANTIZED, ids=["output", "input", "embedding"])
def test_a_result_of_2_to_the_31_elements_is_too_large(layer: nn.Module) -> None:
    with pytest.raises(UnsupportedTrainingError, match=f"32768 tokens by {WIDE} quantized weights"):
        check(nn.Sequential(layer), batch(2**14 + 1), "cuda")
    check(nn.Sequential(layer), batch(2**14), "cuda")


def test_other_backends_and_other_weights_have_no_such_limit() -> None:
    check(nn.Sequential(QUANTIZED[0]), batch(2**15), "metal")
    check(nn.Sequential(nn.Linear(8, WIDE)), batch(2**15), "cuda")
