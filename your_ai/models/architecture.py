"""Count a model's weights from its config.json, without MLX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from your_ai.errors import UsageError

# Model types whose classes in mlx-lm differ from Llama's.
_UNTIED = frozenset({"mixtral", "phi3", "qwen2_moe", "internlm2", "internlm3", "gemma3_text"})
"""These have a separate output head, unless the config ties it to the embeddings."""
_TIED = frozenset({"gemma", "gemma2", "cohere", "cohere2"})
"""These have no separate output head, whatever the config says."""
_UNGATED = frozenset({"starcoder2", "nemotron", "phi"})
"""The MLP of these has two matrices instead of three."""
_FUSED = frozenset({"phi3", "internlm2"})
"""These have one matrix for queries, keys and values together."""

Matrices = tuple[int, int, int]
"""So many matrices with these rows and this width."""

_Size = Annotated[int, msgspec.Meta(gt=0, lt=2**32)]
_SIZES = ("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size")

_UNSUPPORTED = (
    *("kv_lora_rank", "linear_num_value_heads", "conv_L_cache", "altup_num_inputs"),
    *("mamba_d_ssm", "mamba_d_state", "mamba_num_heads", "state_size", "lru_width"),
    *("block_types", "_block_types"),
    *("n_routed_experts", "interleave_moe_layer_step"),
)
"""Config keys of models with layers other than the attention and MLP counted here."""
_UNSUPPORTED_TYPES = frozenset({"gemma4_text", "gpt_oss"})
"""Model types with such layers whose config has none of these keys."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a decoder whose layers are alike, each with attention and an MLP.

    ``hidden`` is the width of a layer's input. ``queries`` and ``keys`` are the total widths of its
    query heads and of its key heads, ``inner`` is that of the MLPs that a token passes through.
    ``projections`` has the (rows, width) of a layer's attention matrices. ``layer_matrices`` and
    ``embeddings`` have the (count, rows, width) of all matrices in a layer and outside of layers.
    ``layer_vectors`` is the number of weights in a layer's norms and biases.
    """

    hidden: int
    heads: int
    queries: int
    keys: int
    inner: int
    vocabulary: int
    projections: tuple[tuple[int, int], ...]
    layers: int
    layer_matrices: tuple[Matrices, ...]
    embeddings: Matrices
    layer_vectors: int
    weight_bytes: int
    """Bytes per unquantized weight."""

    @property
    def matrices(self) -> tuple[Matrices, ...]:
        """The (count, rows, width) of all the model's matrices."""
        inside = self.layer_matrices
        layers = ((self.layers * count, rows, width) for count, rows, width in inside)
        return self.embeddings, *layers

    @property
    def vectors(self) -> int:
        """The number of weights in all norms and biases; the last norm is outside of layers."""
        return self.layers * self.layer_vectors + self.hidden

    @property
    def layer_parameters(self) -> int:
        """The number of weights in a layer."""
        return self.layer_vectors + _size(self.layer_matrices)

    @property
    def parameters(self) -> int:
        """The number of weights in the unquantized model."""
        return self.vectors + _size(self.matrices)


def _size(matrices: Iterable[Matrices]) -> int:
    return sum(count * rows * width for count, rows, width in matrices)


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Return the shape described by a config.json; raise UsageError if that is not possible."""
    nested = config.get("text_config") or {}
    if isinstance(nested, Mapping):
        text = {**config, **nested}
        unsupported = _unsupported(text)
        if unsupported is not None:
            raise UsageError(f"activations not estimated ({unsupported}): run `your_ai benchmark`.")
        problem = _problem(text)
        if problem is None:
            return _read(text)
    else:
        problem = "is invalid (text_config is not an object)"
    raise UsageError(
        f"The model's config.json {problem}, so the model's memory cannot be estimated. "
        "Measure it with `your_ai benchmark --model …`."
    )


def parameters(config: Mapping[str, Any]) -> int:
    """Return the number of weights in the unquantized model; raise UsageError like `shape_of`."""
    return shape_of(config).parameters


@dataclass(frozen=True)
class _Sizes:
    """The numbers in a config.json that `_read` uses."""

    hidden_size: _Size
    num_attention_heads: _Size
    num_hidden_layers: _Size
    vocab_size: _Size
    intermediate_size: int | None = None
    head_dim: int | None = None
    num_key_value_heads: int | None = None
    num_experts: int | None = None
    num_local_experts: int | None = None
    num_experts_per_tok: int | None = None
    moe_intermediate_size: int | None = None
    shared_expert_intermediate_size: int | None = None


def _unsupported(text: Mapping[str, Any]) -> str | None:
    """Return the key or model type that tells that a model has other layers, or ``None``."""
    kind = text.get("model_type")
    if isinstance(kind, str) and kind in _UNSUPPORTED_TYPES:
        return kind
    return next((key for key in _UNSUPPORTED if text.get(key)), None)


def _problem(text: Mapping[str, Any]) -> str | None:
    """Return why `_read` cannot read the config, or ``None``."""
    for key in _SIZES:
        if key not in text:
            return f"has no {key}"
    try:
        sizes = msgspec.convert(text, _Sizes, strict=False)
    except msgspec.ValidationError as error:
        return f"is invalid ({error})"
    experts = sizes.num_experts or sizes.num_local_experts
    if sizes.intermediate_size is None and not (experts and sizes.moe_intermediate_size):
        return "has no intermediate_size"
    return None


def _read(text: Mapping[str, Any]) -> Shape:
    kind = str(text.get("model_type"))
    hidden, heads, layers, vocabulary = (int(text[key]) for key in _SIZES)
    head = int(text.get("head_dim") or hidden // heads)
    queries, keys = heads * head, int(text.get("num_key_value_heads") or heads) * head
    input_rows = [queries + 2 * keys] if kind in _FUSED else [queries, keys, keys]
    projections = (*((rows, hidden) for rows in input_rows), (hidden, queries))
    inner, mlp = _mlp(text, kind, hidden)
    is_tied = kind in _TIED or text.get("tie_word_embeddings", kind not in _UNTIED)
    return Shape(
        hidden=hidden,
        heads=heads,
        queries=queries,
        keys=keys,
        inner=inner,
        vocabulary=vocabulary,
        projections=projections,
        layers=layers,
        layer_matrices=(*((1, *projection) for projection in projections), *mlp),
        embeddings=(1 if is_tied else 2, vocabulary, hidden),
        layer_vectors=_vectors(text, kind, hidden, head, sum(input_rows)),
        weight_bytes=4 if "float32" in (text.get("dtype"), text.get("torch_dtype")) else 2,
    )


def _vectors(text: Mapping[str, Any], kind: str, hidden: int, head: int, biases: int) -> int:
    """Return the number of weights in a layer's norms and biases."""
    norms = (4 if kind.startswith(("gemma2", "gemma3")) else 2) * hidden
    head_norms = 2 * head if kind.startswith(("qwen3", "gemma3")) else 0
    has_biases = kind.startswith("qwen2") or text.get("attention_bias")
    return norms + head_norms + (biases if has_biases else 0)


def _mlp(text: Mapping[str, Any], kind: str, hidden: int) -> tuple[int, list[tuple[int, int, int]]]:
    """Return the total width of the MLPs that a token uses in a layer, and the layer's matrices."""
    experts = int(text.get("num_experts") or text.get("num_local_experts") or 0)
    expert = experts and text.get("moe_intermediate_size")
    inner = int(expert or text["intermediate_size"])
    shared = int(text.get("shared_expert_intermediate_size") or 0)
    inputs = 1 if kind in _UNGATED else 2
    matrices = [
        (max(experts, 1) * inputs, inner, hidden),
        (max(experts, 1), hidden, inner),
        (2, shared, hidden),
        (1, hidden, shared),
        (1, experts + bool(shared), hidden),
    ]
    return inner * int(text.get("num_experts_per_tok") or 1) + shared, matrices
