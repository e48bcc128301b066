"""Fixtures of the worker's tests, which run the worker's code in this process."""

from __future__ import annotations

import mlx.nn as nn
import pytest
from mlx_lm.tuner.trainer import grad_checkpoint

from worker import adapters


@pytest.fixture(autouse=True)
def restored_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo gradient checkpointing after each test: mlx-lm changes the class of the layer."""

    def checkpoint_until_the_end(layer: nn.Module) -> None:
        monkeypatch.setattr(type(layer), "__call__", type(layer).__call__)
        grad_checkpoint(layer)

    monkeypatch.setattr(adapters, "grad_checkpoint", checkpoint_until_the_end)
