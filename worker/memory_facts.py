"""What an estimate of a model's memory requires, from its class and without allocating anything."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

import mlx.nn as nn
from mlx.utils import tree_flatten

from worker import adapters, weights
from worker.architecture import UnsupportedTrainingError
from worker.protocol.configuration import Configuration, Weights
from worker.protocol.memory import MemoryFacts, TrainedLayers
from worker.protocol.requests import ModelSource
from worker.step_graph.backends import BACKENDS
from worker.step_graph.step_memory import Grid, TracedModel


def find(
    source: ModelSource, configuration: Configuration, backends: tuple[str, ...], grid: Grid
) -> dict[str, MemoryFacts]:
    """Return the facts for each backend about training a model like that, with tables of ``grid``.

    Raises:
        UnsupportedTrainingError: if the step cannot be traced.
    """
    planned = _Planned(source, replace(configuration, weights=Weights.SYNTHETIC))
    layers = planned.layers
    try:
        traced = TracedModel.of(planned.build, layers)
    except (ValueError, RuntimeError, OverflowError) as error:
        raise UnsupportedTrainingError(f"its training step cannot be traced: {error}") from error
    trained = tuple(_trained_layers(planned))
    return {
        backend: MemoryFacts(
            trained,
            traced.memory(BACKENDS[backend], grid, grad_checkpoint=True),
            traced.memory(BACKENDS[backend], grid, grad_checkpoint=False),
        )
        for backend in backends
    }


class _Planned:
    """Builds a model as often as necessary, each time with other adapters."""

    def __init__(self, source: ModelSource, configuration: Configuration) -> None:
        self._source = source
        # The parts that checkpointing recomputes are found when the step is traced.
        self._configuration = replace(configuration, grad_checkpoint=False)

    @property
    def layers(self) -> int:
        """The number of layers that the model has."""
        return len(self._plan().layers)

    def build(self, layers: int, rank: int) -> nn.Module:
        """Return the model, prepared to train the last ``layers`` with this rank."""
        model = self._plan()
        has_rank = self._configuration.lora_rank > 0
        adapters.prepare(
            model,
            replace(self._configuration, lora_layers=layers, lora_rank=rank if has_rank else 0),
        )
        return model

    def _plan(self) -> nn.Module:
        with contextlib.redirect_stdout(io.StringIO()):  # mlx-lm prints the bits per weight
            return weights.plan(self._source, self._configuration)


def _trained_layers(planned: _Planned) -> Iterator[TrainedLayers]:
    """Yield the layers from the last to the first, equal neighbors together."""
    first, second = (_sizes(planned.build(planned.layers, rank)) for rank in (1, 2))
    pairs = list(zip(first, second, strict=True))
    for ((count, size), (more, larger)), group in groupby(reversed(pairs)):
        per_rank = more - count, larger - size
        own = count - per_rank[0], size - per_rank[1]
        yield TrainedLayers(len(list(group)), *own, *per_rank)


def _sizes(model: nn.Module) -> list[tuple[int, int]]:
    """Return the number of trained weights and their bytes for each layer.

    What is trained outside of the layers, such as the output layer, counts as part of the last one.
    """
    others = [_size(layer) for layer in model.layers[:-1]]
    count, size = _size(model)
    last = count - sum(each for each, _ in others), size - sum(each for _, each in others)
    return [*others, last]


def _size(module: nn.Module) -> tuple[int, int]:
    arrays = [array for _, array in tree_flatten(module.trainable_parameters())]
    return sum(array.size for array in arrays), sum(array.nbytes for array in arrays)
