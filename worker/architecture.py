"""Builds models with mlx-lm's own classes, without allocating their weights."""

from __future__ import annotations

import contextlib
import copy
import io
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
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            model_class, arguments_class = _get_classes(config)
            # Some classes of mlx-lm write defaults into the config: gemma4 into its text_config.
            model: nn.Module = model_class(arguments_class.from_dict(copy.deepcopy(config)))
    except (Exception, SystemExit) as error:
        # If a package is missing, mlx-lm's olmo prints that and exits.
        is_exit = isinstance(error, SystemExit)
        reason = printed.getvalue().strip() if is_exit else str(error)
        raise UnsupportedModelError(reason or type(error).__name__) from error
    return model


def lora_keys(model: nn.Module) -> set[str]:
    """Return the paths within a layer of what LoRA trains.

    These are the linear projections of attention, usually q, k, v and o. In a model without
    attention they are all linear layers, which is mlx-lm's own default.
    """
    return _attention_projections(model) or {
        path for layer in model.layers for path in _linears(layer)
    }


def has_attention(model: nn.Module) -> bool:
    """Return whether LoRA can train the projections of attention."""
    return bool(_attention_projections(model))


def _attention_projections(model: nn.Module) -> set[str]:
    return {
        path
        for layer in model.layers
        for attention in _attentions(layer)
        for path in _linears(layer)
        if path == attention or path.startswith(f"{attention}.")
    }


def _attentions(layer: nn.Module) -> list[str]:
    """Return the paths of modules that are attention, or part of it, by their name or class.

    Hybrid models often call every kind of block ``mixer``, so the name alone does not tell.
    """
    return [
        path
        for path, module in layer.named_modules()
        if "attn" in path or "attention" in path or "Attention" in type(module).__name__
    ]


def _linears(layer: nn.Module) -> list[str]:
    return [
        path
        for path, module in layer.named_modules()
        if isinstance(module, nn.Linear | nn.QuantizedLinear)
    ]


def facts(config: dict[str, Any]) -> ModelFacts:
    """Return what the parent needs to plan trials of a model. Raises UnsupportedModelError."""
    model = build(config)
    return ModelFacts(
        parameters=sum(array.size for _, array in tree_flatten(model.parameters())),
        layers=len(model.layers),
        lora_keys=tuple(sorted(lora_keys(model))),
        has_attention=has_attention(model),
    )
