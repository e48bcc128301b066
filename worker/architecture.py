"""Builds models with mlx-lm's own classes, without allocating their weights."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import mlx.nn as nn
from mlx_lm.utils import _get_classes


class UnsupportedModelError(ValueError):
    """Mlx-lm cannot build or train the model."""


class UnsupportedTrainingError(UnsupportedModelError):
    """Mlx-lm can train the model, but not like that; the message says what to change."""


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
