"""The configuration of a training, in the terms of mlx-lm.

Imports only the standard library, because the parent imports this module and must start fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

GROUP_SIZE = 64  # default quantization group size: weights that share a scale and a bias

ALL_KEYS = ("all",)
"""LoRA trains every linear, expert and embedding module of the layers, as mlx-lm does."""
ATTENTION_KEYS = ("attention",)
"""LoRA trains the linear projections of attention."""


class Weights(StrEnum):
    """Random weights with the model's shapes, or the weights from its files."""

    SYNTHETIC = "synthetic"
    REAL = "real"


class QuantizationMode(StrEnum):
    """How MLX quantizes weights. All modes except affine are microscaling formats."""

    AFFINE = "affine"
    MXFP4 = "mxfp4"
    MXFP8 = "mxfp8"
    NVFP4 = "nvfp4"


class FineTuneType(StrEnum):
    """What is trained: adapters (LoRA or DoRA), or all weights of the last layers."""

    LORA = "lora"
    DORA = "dora"
    FULL = "full"


class Optimizer(StrEnum):
    """The optimizers of mlx_lm.lora."""

    ADAM = "adam"
    ADAMW = "adamw"
    MUON = "muon"
    SGD = "sgd"
    ADAFACTOR = "adafactor"


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything about a training that changes its memory or speed.

    The defaults are what a results file of an earlier version means that lacks the field. The
    defaults of the command line are those of `TrainingOptions`.
    """

    weights: Weights = Weights.SYNTHETIC
    """Random weights with the model's shapes, or the weights from its files."""
    quantization_bits: int | None = None
    """Bits per weight; null if the weights are not quantized."""
    batch_size: int = 2
    """Sequences per step."""
    lora_rank: int = 64
    """Rank of the adapters; 0 if there are none, as in full fine-tuning."""
    lora_layers: int = 16
    """Number of layers that are trained, counted from the last."""
    seq_length: int = 1024
    """Tokens per sequence."""
    grad_checkpoint: bool = True
    """Whether activations are recomputed to save memory."""
    fine_tune_type: FineTuneType = FineTuneType.LORA
    """What is trained: adapters (lora or dora), or all weights of the layers (full)."""
    lora_keys: tuple[str, ...] = ATTENTION_KEYS
    """What adapters train: "all", "attention", or names of modules as in mlx-lm's
    `lora_parameters.keys`; empty in full fine-tuning."""
    lora_dropout: float = 0.0
    """Dropout in front of the adapters."""
    optimizer: Optimizer = Optimizer.ADAMW
    """The optimizer."""
    optimizer_config: tuple[str, ...] = ()
    """Arguments of the optimizer other than the learning rate, each as NAME=JSON."""
    grad_accumulation_steps: int = 1
    """Batches per optimizer step."""
    quantization_mode: QuantizationMode = QuantizationMode.AFFINE
    """How weights are quantized."""
    group_size: int = GROUP_SIZE
    """Number of weights that share a scale."""

    @property
    def capacity(self) -> int:
        """The capacity score: batch × rank × layers; batch × layers in full fine-tuning."""
        return self.batch_size * (self.lora_rank or 1) * self.lora_layers

    @property
    def kind(self) -> tuple[object, ...]:
        """What is trained and how, apart from sizes: memory is only comparable within a kind."""
        return (
            *(self.fine_tune_type, self.lora_keys, self.lora_dropout),
            *(self.optimizer, self.optimizer_config, min(self.grad_accumulation_steps, 2)),
        )
