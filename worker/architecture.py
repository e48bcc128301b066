"""Models built by mlx-lm's own classes, before any weight is allocated."""

from __future__ import annotations

from typing import Any

import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes

from worker.protocol.messages import ModelFacts


class UnsupportedModelError(ValueError):
    """Mlx-lm's classes cannot build or train the model."""


def build(config: dict[str, Any]) -> nn.Module:
    """Build the model of ``config`` (a ``config.json``) without allocating: MLX arrays are lazy.

    Raises:
        UnsupportedModelError: if mlx-lm lacks the architecture, the config does not fit it, or it
            requires its own code, which is never run.
    """
    if config.get("model_file") is not None:
        raise UnsupportedModelError("its config requires running its own code (model_file)")
    if "model_type" not in config:
        raise UnsupportedModelError("its config has no model_type")
    try:
        model_class, arguments_class = _get_classes(config)
        model: nn.Module = model_class(arguments_class.from_dict(config))
    except Exception as error:
        raise UnsupportedModelError(str(error) or type(error).__name__) from error
    return model


def attention_projections(model: nn.Module) -> set[str]:
    """Paths, within a layer, of its attention's linear projections: q, k, v and o in most."""
    return {
        path
        for layer in model.layers
        for path, module in layer.named_modules()
        if "attn" in path or "attention" in path
        if isinstance(module, nn.Linear | nn.QuantizedLinear)
    }


def facts(config: dict[str, Any]) -> ModelFacts:
    """What the parent needs to plan trials of a model; raises as `build` does."""
    model = build(config)
    return ModelFacts(
        parameters=sum(array.size for _, array in tree_flatten(model.parameters())),
        layers=len(model.layers),
        lora_keys=tuple(sorted(attention_projections(model))),
    )
