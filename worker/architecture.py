"""Builds models with mlx-lm's own classes, without allocating their weights."""

from __future__ import annotations

from typing import Any

import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes

from worker.protocol.messages import ModelFacts


class UnsupportedModelError(ValueError):
    """Mlx-lm cannot build or train the model."""


def build(config: dict[str, Any]) -> nn.Module:
    """Return the model that ``config`` (a ``config.json``) describes, with lazy arrays as weights.

    Raises:
        UnsupportedModelError: if mlx-lm does not support the architecture, if the config is
            invalid, or if it requires custom code, which is never run.
    """
    if config.get("model_file") is not None:
        raise UnsupportedModelError("its config.json requires custom code (model_file)")
    if "model_type" not in config:
        raise UnsupportedModelError("its config.json has no model_type")
    try:
        model_class, arguments_class = _get_classes(config)
        model: nn.Module = model_class(arguments_class.from_dict(config))
    except Exception as error:
        raise UnsupportedModelError(str(error) or type(error).__name__) from error
    return model


def attention_projections(model: nn.Module) -> set[str]:
    """Return the paths of the linear attention projections within a layer (usually q, k, v, o)."""
    return {
        path
        for layer in model.layers
        for path, module in layer.named_modules()
        if "attn" in path or "attention" in path
        if isinstance(module, nn.Linear | nn.QuantizedLinear)
    }


def facts(config: dict[str, Any]) -> ModelFacts:
    """Return what the parent needs to plan trials of a model. Raises UnsupportedModelError."""
    model = build(config)
    return ModelFacts(
        parameters=sum(array.size for _, array in tree_flatten(model.parameters())),
        layers=len(model.layers),
        lora_keys=tuple(sorted(attention_projections(model))),
    )
