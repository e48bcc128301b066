"""Loads a model's weights, synthesized or from files, and quantizes them as requested.

Modules are loaded one by one, so that the whole unquantized model is never in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_lm.utils import load_model, quantize_model

from worker import architecture
from worker.protocol.configuration import Configuration, Weights
from worker.protocol.requests import ModelSource

_FLOATING_TYPES = {"bfloat16": mx.bfloat16, "float16": mx.float16, "float32": mx.float32}
_MICROSCALING: dict[object, dict[str, Any]] = {
    "mxfp4": {"bits": 4, "group_size": 32, "mode": "mxfp4"},
    "mxfp8": {"bits": 8, "group_size": 32, "mode": "mxfp8"},
}
"""Formats of other programs that mlx-lm keeps (`mlx_lm.utils.load_model`)."""
_BLOCK_BYTES = 64 * 2**20


def plan(source: ModelSource, configuration: Configuration) -> nn.Module:
    """Return the model with the shape, type and quantization of every weight, not yet allocated."""
    if configuration.weights is Weights.REAL:
        if source.path is None:
            raise ValueError("real weights require a local folder")
        model, config = load_model(Path(source.path), lazy=True)
    else:
        config = source.config
        model = architecture.build(config)
        _as_stored(model, config)
        _quantize_as_stored(model, config)
    bits = configuration.quantization_bits
    if bits is not None and _stored(config) is None:
        # Like mlx_lm.convert, this skips the modules that the model's class excludes. It takes a
        # "quantization" of null for one of other modules, so remove that.
        config = {key: value for key, value in config.items() if key != "quantization"}
        group_size, mode = configuration.group_size, configuration.quantization_mode.value
        model, _ = quantize_model(model, config, group_size, bits, mode)
        if not any(hasattr(module, "bits") for module in model.modules()):
            raise architecture.UnsupportedTrainingError(
                f"it has no weights that can be quantized in groups of {group_size}; use a smaller "
                "--group-size, or --quantize none"
            )
    return model


def total_bytes(model: nn.Module) -> int:
    """Return the memory that all weights of a model take, planned or loaded."""
    return sum(array.nbytes for _, array in tree_flatten(model.parameters()))


def parameters(model: nn.Module) -> int:
    """Return the number of a model's parameters.

    `mlx_lm.utils.get_total_parameters` leaves out those of modules that contain other modules, such
    as the sinks of attention in gpt-oss.
    """
    count: int = sum(array.size for _, array in tree_flatten(model.parameters()))
    for module in model.modules():
        if hasattr(module, "bits"):
            packed = [module.get(name) for name in ("weight", "scales", "biases")]
            count -= sum(array.size for array in packed if array is not None)
            count += module.weight.size * 32 // module.bits
    return count


def materialize(
    model: nn.Module, *, synthesize: bool, after_each: Callable[[], None] = lambda: None
) -> None:
    """Load or synthesize the weights of a planned model, and call ``after_each`` after each module.

    Synthesized quantized weights are drawn as packed words, because quantizing random floats would
    need many times the memory.
    """
    for _, module in model.named_modules():
        own = {
            name: value
            for name, value in module.items()
            if isinstance(value, mx.array) and not name.startswith("_")
        }
        if not own:
            continue
        if synthesize:
            own = {name: _synthesize(name, value, module) for name, value in own.items()}
            module.update(own)
        mx.eval(list(own.values()))
        mx.clear_cache()
        after_each()


def _stored(config: dict[str, Any]) -> dict[str, Any] | None:
    """Return the quantization of the model's files, as mlx-lm loads them."""
    foreign = config.get("quantization_config") or {}
    stored: dict[str, Any] | None = config.get("quantization")
    return stored or _MICROSCALING.get(foreign.get("quant_method"))


def _as_stored(model: nn.Module, config: dict[str, Any]) -> None:
    """Cast floating-point weights to the type of the model's files, bfloat16 if it is unknown."""
    sections = (config, config.get("text_config") or {})
    names = [section.get(key) for section in sections for key in ("dtype", "torch_dtype")]
    floating_type = _FLOATING_TYPES.get(str(next(filter(None, names), "")), mx.bfloat16)
    # Some model classes keep some weights in float32. mlx_lm.convert respects that, too.
    is_cast = getattr(model, "cast_predicate", lambda path: True)

    def as_stored(path: str, weight: mx.array) -> mx.array:
        castable = mx.issubdtype(weight.dtype, mx.floating) and is_cast(path)
        return weight.astype(floating_type) if castable else weight

    model.update(tree_map_with_path(as_stored, model.parameters()))


def _quantize_as_stored(model: nn.Module, config: dict[str, Any]) -> None:
    """Apply the quantization in the model's own config, if there is one."""
    stored = _stored(config)
    if stored is None:
        return
    excluded = (config.get("quantization_config") or {}).get("modules_to_not_convert") or []
    # The config does not list the modules that the model's class never quantizes.
    is_quantized = getattr(model, "quant_predicate", None) or (lambda path, module: True)

    def as_stored(path: str, module: nn.Module) -> bool | dict[str, Any]:
        if not hasattr(module, "to_quantized"):
            return False
        if any(fnmatch(path, name) or fnmatch(path, f"{name}.*") for name in excluded):
            return False
        if path in stored:
            settings: bool | dict[str, Any] = stored[path]
            return settings
        is_divisible = module.weight.shape[-1] % stored["group_size"] == 0
        return bool(is_divisible and is_quantized(path, module))

    nn.quantize(
        model,
        group_size=stored["group_size"],
        bits=stored["bits"],
        mode=stored.get("mode", "affine"),
        class_predicate=as_stored,
    )


def _synthesize(name: str, planned: mx.array, module: nn.Module) -> mx.array:
    """Return a random array with ``planned``'s shape and type, scaled to keep activations finite.

    Quantized weights are as large as those of `nn.Linear` at the start, which are uniform in
    ±1/√width.
    """
    bits = getattr(module, "bits", None)
    if bits is not None and name in ("weight", "scales", "biases"):
        mode = getattr(module, "mode", "affine")  # some modules of mlx-lm have only this mode
        if planned.dtype == mx.uint32:
            return _draw(planned, _random_words if mode != "mxfp8" else _random_fp8)
        bound = 1 / math.sqrt(module.weight.shape[-1] * 32 / bits)
        if mode in _SCALES:
            return mx.full(planned.shape, _SCALES[mode](bound), dtype=mx.uint8)
        # A weight is ``scale * word + bias``, with words uniform in [0, 2^bits).
        value = -bound if name == "biases" else 2 * bound / (2**bits - 1)
        return mx.full(planned.shape, value, dtype=planned.dtype)
    # Norms and biases keep their initial values, and so do packed weights of unknown meaning, such
    # as those of mlx-lm's bitnet.
    if planned.ndim < 2 or not mx.issubdtype(planned.dtype, mx.floating):
        return planned
    bound = 1 / math.sqrt(planned.shape[-1])
    return _draw(planned, lambda shape: mx.random.uniform(-bound, bound, shape, planned.dtype))


def _random_words(shape: tuple[int, ...]) -> mx.array:
    """Return uniform 32-bit words, made of 16-bit halves: `randint` has only 24 random bits."""
    halves = mx.random.randint(0, 2**16, (*shape[:-1], shape[-1] * 2), dtype=mx.uint16)
    return halves.view(mx.uint32)


def _random_fp8(shape: tuple[int, ...]) -> mx.array:
    """Return random 8-bit floats (e4m3), four in each word, smaller than 2 in magnitude.

    Their highest exponent bit is 0, so none is NaN (0x7f and 0xff).
    """
    return _random_words(shape) & 0xBFBFBFBF


def _power_of_two(scale: float) -> int:
    """Return the byte that encodes about this scale as a power of two (e8m0)."""
    return 127 + round(math.log2(scale))


def _fp8(scale: float) -> int:
    """Return the byte that encodes about this scale as an 8-bit float (e4m3), at least 2^-9."""
    return max(1, bytes(mx.to_fp8(mx.array([scale])))[0])


# The scales for weights in ±bound in the microscaling modes, whose codes are floats: random 4-bit
# codes (e2m1) are 5 times as spread as numbers in ±1, random codes of `_random_fp8` equally.
_SCALES: dict[str, Callable[[float], int]] = {
    "mxfp4": lambda bound: _power_of_two(bound / 5),
    "mxfp8": _power_of_two,
    "nvfp4": lambda bound: _fp8(bound / 5),
}


def _draw(planned: mx.array, draw: Callable[[tuple[int, ...]], mx.array]) -> mx.array:
    """Return an array like ``planned``, drawn in blocks of rows.

    MLX draws float32s first, so a draw takes up to three times the memory of its result: 6 GB for
    the embedding of a 70B model. Drawing in blocks keeps this from raising the peak of loading.
    """
    rows = planned.shape[0]
    block = max(1, rows * _BLOCK_BYTES // max(planned.nbytes, 1))
    if block >= rows:
        return draw(planned.shape)
    drawn = mx.zeros(planned.shape, dtype=planned.dtype)
    for start in range(0, rows, block):
        end = min(start + block, rows)
        drawn[start:end] = draw((end - start, *planned.shape[1:]))
        mx.eval(drawn)
    return drawn
