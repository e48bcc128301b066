"""What a configuration trains in a model: adapters, or all weights of the last layers."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.tuner.trainer import grad_checkpoint
from mlx_lm.tuner.utils import linear_to_lora_layers

from worker.architecture import UnsupportedTrainingError
from worker.protocol.configuration import ALL_KEYS, ATTENTION_KEYS, Configuration, FineTuneType
from worker.protocol.requests import LORA_SCALE

_LINEAR = (nn.Linear, nn.QuantizedLinear)
_EXPERTS = (SwitchLinear, QuantizedSwitchLinear)
_EMBEDDINGS = (nn.Embedding, nn.QuantizedEmbedding)

_ATTENTION = {"scaled_dot_product_attention", "gated_delta_update", "recurrent_gla"}
"""The functions of MLX and mlx-lm that compute attention, and linear attention."""
_MIN_PROJECTIONS = 3
"""A module that computes a softmax over queries and keys has a projection for each, and for values.
A router, which also computes a softmax, has at most two."""


class EvidenceError(RuntimeError):
    """The steps ran, but there is no evidence that they trained the model."""


def prepare(
    model: nn.Module, configuration: Configuration, scale: float = LORA_SCALE
) -> tuple[str, ...]:
    """Freeze ``model`` except for what is trained: adapters, or the last layers.

    Evaluates nothing. Returns the keys of the adapters: names of modules within a layer, or of the
    whole model; none in full fine-tuning.

    Raises:
        UnsupportedTrainingError: if mlx-lm cannot train the model like that.
    """
    if not hasattr(model, "_no_grad"):
        nn.Module.__init__(model)  # mlx-lm's recurrent_gemma omits this call
    model.freeze()
    keys: tuple[str, ...] = ()
    if configuration.fine_tune_type is FineTuneType.FULL:
        for layer in model.layers[-configuration.lora_layers :]:
            layer.unfreeze()
    else:
        keys = resolve_keys(model, configuration.lora_keys)
        _add_adapters(model, configuration, keys, scale)
    if not tree_flatten(model.trainable_parameters()):
        is_all = configuration.lora_keys in (ALL_KEYS, ())
        what = "weight to train" if is_all else " or ".join(configuration.lora_keys)
        raise UnsupportedTrainingError(f"there is no {what} in the last {_layers(configuration)}")
    if configuration.grad_checkpoint:
        grad_checkpoint(model.layers[0])
    model.train()
    return keys


def resolve_keys(model: nn.Module, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the modules that adapters are added to, sorted.

    In a model without attention, ``ATTENTION_KEYS`` means all linear layers.

    Raises:
        UnsupportedTrainingError: if a name is that of no such module.
    """
    if wanted == ALL_KEYS:
        found = {path for layer in model.layers for path, _ in _adaptable(layer)}
    elif wanted == ATTENTION_KEYS:
        found = attention_projections(model) or _linears(model)
    else:
        found = set(wanted)
        _check_names(model, found)
    if not found:
        raise UnsupportedTrainingError("it has no layers that LoRA can train; use another model")
    return tuple(sorted(found))


def attention_projections(model: nn.Module) -> set[str]:
    """Return the names within a layer of the linear projections of attention.

    Linear attention is attention, too; state-space models and other recurrent blocks are not.
    """
    used = {kind: _names_in(kind) for kind in {type(module) for module in model.modules()}}
    return {
        path
        for layer in model.layers
        for attention, module in layer.named_modules()
        if _computes_attention(module, used[type(module)])
        for path in _paths(layer, _LINEAR)
        if path == attention or path.startswith(f"{attention}.")
    }


def _linears(model: nn.Module) -> set[str]:
    return {path for layer in model.layers for path in _paths(layer, _LINEAR)}


def _paths(layer: nn.Module, types: tuple[type, ...]) -> Iterator[str]:
    for path, module in layer.named_modules():
        if isinstance(module, types) or (types is _LINEAR and hasattr(module, "to_lora")):
            yield path


def _adaptable(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield what mlx-lm can add adapters to, as in ``linear_to_lora_layers``."""
    for path, part in module.named_modules():
        if isinstance(part, (*_LINEAR, *_EXPERTS, *_EMBEDDINGS)) or hasattr(part, "to_lora"):
            yield path, part


def _check_names(model: nn.Module, names: Iterable[str]) -> None:
    known = {path for part in (*model.layers, model) for path, _ in _adaptable(part)}
    for name in sorted(names):
        if name not in known:
            # The names within a layer are what users mean, not those with a layer's number.
            within = {path for layer in model.layers for path, _ in _adaptable(layer)}
            same = [path for path in sorted(within) if path.endswith(f".{name}")]
            near = same or difflib.get_close_matches(name, sorted(within), n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {_list(within)}"
            raise UnsupportedTrainingError(f"it has no module {name!r} to add adapters to; {hint}")


def _add_adapters(
    model: nn.Module, configuration: Configuration, keys: tuple[str, ...], scale: float
) -> None:
    is_dora = configuration.fine_tune_type is FineTuneType.DORA
    if is_dora:
        _check_dora(model, configuration, set(keys))
    config = {
        "rank": configuration.lora_rank,
        "scale": scale,
        "dropout": configuration.lora_dropout,
        "keys": set(keys),
    }
    try:
        linear_to_lora_layers(model, configuration.lora_layers, config, use_dora=is_dora)
    except ValueError as error:
        raise UnsupportedTrainingError(str(error)) from error


def _check_dora(model: nn.Module, configuration: Configuration, keys: set[str]) -> None:
    """Raise UnsupportedTrainingError for modules that mlx-lm's DoRA cannot train.

    It takes the width of quantized weights for a whole number of weights per word
    (mlx_lm/tuner/dora.py).
    """
    parts = (*model.layers[-configuration.lora_layers :], model)
    modules = {path: part for each in parts for path, part in _adaptable(each) if path in keys}
    for path, module in modules.items():
        problem = None
        if isinstance(module, _EXPERTS):
            problem = "expert layers"
        elif isinstance(module, nn.QuantizedEmbedding):
            problem = "quantized embeddings"
        elif isinstance(module, nn.QuantizedLinear) and 32 % module.bits:
            problem = f"{module.bits}-bit weights"
        if problem is not None:
            raise UnsupportedTrainingError(
                f"mlx-lm's DoRA does not support {problem} ({path}); use --fine-tune-type lora"
                + ("" if isinstance(module, nn.QuantizedLinear) else ", or other --lora-keys")
            )


def _layers(configuration: Configuration) -> str:
    count = configuration.lora_layers
    return f"{count} layer{'' if count == 1 else 's'}; train more layers"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _computes_attention(module: nn.Module, names: frozenset[str]) -> bool:
    """Return whether a module is attention, by the ``names`` that the code of its class uses."""
    if names & _ATTENTION:
        return True
    own = [part for part in module.children().values() if isinstance(part, _LINEAR)]
    return "softmax" in names and len(own) >= _MIN_PROJECTIONS


def _names_in(kind: type) -> frozenset[str]:
    """Return the names used in a class's own methods, and in its module's functions they call."""
    functions = vars(inspect.getmodule(kind))
    found, left = set[str](), [f.__code__ for f in vars(kind).values() if inspect.isfunction(f)]
    while left:
        for name in {*_names(left.pop())} - found:
            found.add(name)
            called = functions.get(name)
            if inspect.isfunction(called) and called.__module__ == kind.__module__:
                left.append(called.__code__)
    return frozenset(found)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _names(constant)


class Evidence:
    """Shows whether training changes what is trained. Created before training."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before = self._digests()

    def check(self) -> None:
        """Raise EvidenceError unless the trained weights are finite and have changed."""
        leaves = tree_flatten(self._model.trainable_parameters())
        if not all(mx.isfinite(leaf).all().item() for _, leaf in leaves):
            raise EvidenceError("a trained weight is not finite")
        if self._digests() == self._before:
            raise EvidenceError("no trained weight changed, so the training had no effect")

    def _digests(self) -> list[Any]:
        """Return the sum of each array's bytes, which takes no further memory."""
        leaves = tree_flatten(self._model.trainable_parameters())
        return [mx.sum(leaf.reshape(-1).view(mx.uint8)).item() for _, leaf in leaves]
