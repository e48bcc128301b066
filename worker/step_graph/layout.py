"""How MLX lays out arrays in memory: which operations return views, and which copy their input."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from worker.step_graph.graph import Node

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape of an array and, for each dimension, its stride in elements."""

    shape: Shape
    strides: Shape

    @classmethod
    def row_major(cls, shape: Shape) -> Layout:
        """Return the layout of a new array."""
        strides = [1]
        for width in reversed(shape[1:]):
            strides.append(strides[-1] * width)
        return cls(shape, tuple(reversed(strides)) if shape else ())

    @property
    def order(self) -> tuple[tuple[int, int], ...]:
        """Width and stride of each dimension of several elements; other strides do not matter."""
        pairs = zip(self.shape, self.strides, strict=True)
        return tuple((width, stride) for width, stride in pairs if width != 1)

    @property
    def is_row_major(self) -> bool:
        """Whether the elements lie one after the other."""
        return self._is_dense(self.order[::-1])

    @property
    def is_dense(self) -> bool:
        """Whether the elements lie without gaps, in any order of the dimensions."""
        return self._is_dense(sorted(self.order, key=lambda pair: pair[1]))

    @property
    def can_be_multiplied(self) -> bool:
        """Whether a matrix product reads the array without a copy, as it is or transposed."""
        if len(self.shape) < 2:
            return True
        (rows, columns), (down, right) = self.shape[-2:], self.strides[-2:]
        is_row = (right == 1 or columns == 1) and (down == columns or rows == 1)
        return is_row or ((down == 1 or rows == 1) and (right == rows or columns == 1))

    @staticmethod
    def _is_dense(dimensions: Iterable[tuple[int, int]]) -> bool:
        expected = 1
        for width, stride in dimensions:
            if stride != expected:
                return False
            expected *= width
        return True


def view(node: Node, source: Layout, shape: Shape) -> Layout | None:
    """Return the layout of a node's output if it shares its input's memory, else ``None``."""
    strides = source.strides
    match node.name:
        case "Transpose":
            return Layout(shape, tuple(strides[axis] for axis in node.arguments[0]))
        case "Broadcast":
            return Layout(shape, _broadcast(source, shape))
        case "Slice":
            steps = node.arguments[2] if len(node.arguments) > 2 else (1,) * len(shape)
            return Layout(
                shape, tuple(stride * step for stride, step in zip(strides, steps, strict=True))
            )
        case "Split" | "Depends":
            return Layout(shape, strides)
        case "ExpandDims" | "Squeeze" | "Reshape" | "Flatten" | "Unflatten":
            return _reshaped(source, shape)
        case "View":
            return Layout.row_major(shape) if source.is_row_major else None
        case _:
            return None


def _broadcast(source: Layout, shape: Shape) -> Shape:
    missing = len(shape) - len(source.shape)
    own = tuple(
        stride if width == wanted else 0
        for width, stride, wanted in zip(source.shape, source.strides, shape[missing:], strict=True)
    )
    return (0,) * missing + own


def _reshaped(source: Layout, shape: Shape) -> Layout | None:
    """Return the layout of a reshaped array, or ``None`` if the elements must be copied."""
    if source.is_row_major or 0 in shape:
        return Layout.row_major(shape)
    groups = _common_groups(source, shape)
    if groups is None:
        return None
    strides: list[int] = []
    for old, new in groups:
        for (_, outer), (width, inner) in pairwise(old):
            if outer != width * inner:
                return None
        stride = old[-1][1] if old else 0
        group: list[int] = []
        for width in reversed(new):
            group.append(stride)
            stride *= width
        strides += reversed(group)
    return Layout(shape, tuple(strides))


_Groups = list[tuple[list[tuple[int, int]], list[int]]]


def _common_groups(source: Layout, shape: Shape) -> _Groups | None:
    """Pair dimensions (width, stride) of the source with widths of as many elements."""
    old = [*source.order]
    groups: _Groups = []
    new = list(shape)
    while old or new:
        taken: list[tuple[int, int]] = []
        widths = [new.pop(0)] if new else []
        while math.prod(width for width, _ in taken) != math.prod(widths):
            if math.prod(width for width, _ in taken) < math.prod(widths):
                if not old:
                    return None
                taken.append(old.pop(0))
            elif new:
                widths.append(new.pop(0))
            else:
                return None
        if not widths and old:
            return None
        groups.append((taken, widths))
    return groups
