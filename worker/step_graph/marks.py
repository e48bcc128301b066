"""Marks parts of a step in its graph: layers, and operations for which GPUs have a kernel.

A part's floating-point inputs and outputs are multiplied by numbers that occur nowhere else. The
gradients pass through the same numbers, so the part's gradients can be found as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map


class Kind(StrEnum):
    """What a part of the graph is."""

    LAYER = "layer"
    NORM = "norm"
    ROPE = "rope"
    ATTENTION = "attention"
    EXPERTS = "experts"
    COPY = "copy"
    LOSS = "loss"


@dataclass(frozen=True, slots=True)
class Mark:
    """The part with number ``index``. ``is_fusable`` if GPUs have a kernel for its shape."""

    index: int
    kind: Kind
    is_fusable: bool = True

    @property
    def entry(self) -> float:
        """The number by which its inputs are multiplied."""
        return number(2 * self.index)

    @property
    def exit(self) -> float:
        """The number by which its outputs are multiplied."""
        return number(2 * self.index + 1)


_EXPONENTS = 30
"""How many exponents float16 has."""


def number(index: int) -> float:
    """Return a number that is exact as float16 and bfloat16, and that no model multiplies by.

    Raises:
        OverflowError: if there are no more such numbers.
    """
    # Even digits make rounder numbers, so they are only used if the odd ones do not suffice.
    is_odd = index < 64 * _EXPONENTS
    exponent, place = divmod(index, 64) if is_odd else divmod(index - 64 * _EXPONENTS, 63)
    if exponent >= _EXPONENTS:
        raise OverflowError("the step has too many parts to mark")
    digits = 2 * place + (1 if is_odd else 2)
    return float(-(1 + digits / 128) * 2.0 ** (exponent - 14))


class Marker:
    """Marks the parts of a step while it is traced."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Mark the layers that gradient checkpointing would recompute, and fused operations."""
        layer = type(model.layers[0])
        original = layer.__call__
        operations = [(module, name, getattr(module, name)) for module, name, _ in _OPERATIONS]
        # mlx-lm's checkpointing changes the class of the layers for good.
        checkpoint = mx.checkpoint

        def marked_layer(this: nn.Module, *args: Any, **kwargs: Any) -> Any:
            def call(parameters: Any, args: Any, kwargs: Any) -> Any:
                this.update(parameters)
                return original(this, *args, **kwargs)

            inputs = (this.trainable_parameters(), args, kwargs)
            return self._call(Kind.LAYER, call, inputs, is_fusable=False)

        try:
            layer.__call__ = marked_layer
            mx.checkpoint = lambda fun: fun
            for (module, name, kind), (*_, operation) in zip(_OPERATIONS, operations, strict=True):
                setattr(module, name, self._marked(kind, operation))
            yield
        finally:
            layer.__call__ = original
            mx.checkpoint = checkpoint
            for module, name, operation in operations:
                setattr(module, name, operation)

    def _marked(self, kind: Kind, operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(args: Any, kwargs: Any) -> Any:
            output = operation(*args, **kwargs)
            return _stand_in(args, output) if kind in _ALWAYS_FUSED else output

        def marked(*args: Any, **kwargs: Any) -> Any:
            is_fusable = kind is not Kind.ATTENTION or _has_kernel(*args, **kwargs)
            return self._call(kind, call, (args, kwargs), is_fusable=is_fusable)

        return marked

    def _call(self, kind: Kind, call: Callable[..., Any], inputs: Any, *, is_fusable: bool) -> Any:
        mark = Mark(len(self.marks), kind, is_fusable)
        self.marks.append(mark)
        return _multiplied(call(*_multiplied(inputs, mark.entry)), mark.exit)


_OPERATIONS: tuple[tuple[Any, str, Kind], ...] = (
    (mx.fast, "rms_norm", Kind.NORM),
    (mx.fast, "layer_norm", Kind.NORM),
    (mx.fast, "rope", Kind.ROPE),
    (mx.fast, "scaled_dot_product_attention", Kind.ATTENTION),
    (mx, "gather_mm", Kind.EXPERTS),
    (mx, "contiguous", Kind.COPY),
    (nn.losses, "cross_entropy", Kind.LOSS),
)

_ALWAYS_FUSED = (Kind.EXPERTS, Kind.COPY)
"""MLX cannot export these operations, or not their gradients."""


def _stand_in(args: Any, output: mx.array) -> mx.array:
    """Return an array like ``output`` that depends on the floating-point ``args``."""
    arrays = [a for a in args if isinstance(a, mx.array) and mx.issubdtype(a.dtype, mx.floating)]
    return mx.broadcast_to(sum(map(mx.sum, arrays)), output.shape).astype(output.dtype)


def _has_kernel(queries: mx.array, _: mx.array, values: mx.array, **__: object) -> bool:
    """Return whether attention of this shape has a fused kernel (mlx/backend/cuda)."""
    widths = queries.shape[-1], values.shape[-1]
    is_half = queries.dtype in (mx.float16, mx.bfloat16)
    return is_half and all(width % 8 == 0 and width <= 128 for width in widths)


def _multiplied(tree: Any, factor: float) -> Any:
    def multiplied(leaf: Any) -> Any:
        is_number = isinstance(leaf, mx.array) and mx.issubdtype(leaf.dtype, mx.floating)
        return leaf * factor if is_number else leaf

    return tree_map(multiplied, tree, is_leaf=lambda part: isinstance(part, nn.Module))
