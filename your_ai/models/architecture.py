"""The sizes of a model's weights, read from its config.json without MLX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from your_ai.errors import UsageError

_UNTIED = frozenset({"mixtral", "phi3", "qwen2_moe", "internlm2", "internlm3", "gemma3_text"})
"""Model types whose mlx-lm class has an output head of its own unless the config ties it."""

_TIED = frozenset({"gemma", "gemma2", "cohere", "cohere2"})
"""Model types without an output head of their own, whatever the config says."""

_UNGATED = frozenset({"starcoder2", "nemotron", "phi"})
"""Model types whose MLP is two matrices, not three."""

_UNSUPPORTED = (
    *("kv_lora_rank", "linear_num_value_heads", "conv_L_cache", "altup_num_inputs"),
    *("mamba_d_ssm", "mamba_d_state", "mamba_num_heads"),
    *("n_routed_experts", "interleave_moe_layer_step"),
)
"""Config keys of models whose layers are not the attention and MLP counted here."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder of equal layers, each an attention and an MLP; sizes are numbers of weights.

    Attributes:
        hidden: Width of a layer's input.
        heads: Attention heads of a layer.
        queries: Width of all query heads together.
        keys: Width of all key heads together.
        inner: Width of the MLPs that a token passes through in a layer.
        vocabulary: Rows of the embedding.
        projections: (rows, width) of a layer's attention matrices, which LoRA trains.
        matrices: (number, rows, width) of all matrices.
        vectors: Weights of all norms and biases.
        weight_bytes: Size of an unquantized weight.
    """

    hidden: int
    heads: int
    queries: int
    keys: int
    inner: int
    vocabulary: int
    projections: tuple[tuple[int, int], ...]
    matrices: tuple[tuple[int, int, int], ...]
    vectors: int
    weight_bytes: int

    @property
    def parameters(self) -> int:
        """The number of weights of the unquantized model."""
        return self.vectors + sum(count * rows * width for count, rows, width in self.matrices)


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Read the shape that a config.json declares.

    Raises:
        UsageError: when a size is missing or unusable, or the layers are of another kind.
    """
    try:
        text = {**config, **(config.get("text_config") or {})}
        other = next((key for key in _UNSUPPORTED if text.get(key)), None)
        if other is None:
            return _read(text)
        problem = f"describes layers of another form ({other})"
    except KeyError as error:
        problem = f"lacks {error.args[0]}"
    except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        problem = f"is not usable ({error})"
    raise UsageError(
        f"The model's config.json {problem}, so its memory cannot be estimated; "
        "`your_ai benchmark --model …` measures it."
    )


def parameters(config: Mapping[str, Any]) -> int:
    """The number of weights of the unquantized model; raises UsageError as `shape_of` does."""
    return shape_of(config).parameters


def _read(text: Mapping[str, Any]) -> Shape:
    kind = str(text.get("model_type"))
    hidden, heads, layers, vocabulary = (
        int(text[key])
        for key in ("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size")
    )
    if not all(0 < size < 2**32 for size in (hidden, heads, layers, vocabulary)):
        raise ValueError("it has a size that no model has")
    head = int(text.get("head_dim") or hidden // heads)
    queries, keys = heads * head, int(text.get("num_key_value_heads") or heads) * head
    projections = [(queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries)]
    if kind in ("phi3", "internlm2"):  # one matrix for queries, keys and values
        projections[:3] = [(queries + 2 * keys, hidden)]
    inner, mlp = _mlp(text, kind, hidden)
    tied = kind in _TIED or text.get("tie_word_embeddings", kind not in _UNTIED)
    norms = (4 if kind.startswith(("gemma2", "gemma3")) else 2) * hidden
    head_norms = 2 * head if kind.startswith(("qwen3", "gemma3")) else 0
    has_biases = kind.startswith("qwen2") or text.get("attention_bias")
    biases = queries + 2 * keys if has_biases else 0
    of_a_layer = [*((1, *projection) for projection in projections), *mlp]
    return Shape(
        hidden=hidden,
        heads=heads,
        queries=queries,
        keys=keys,
        inner=inner,
        vocabulary=vocabulary,
        projections=tuple(projections),
        matrices=(
            (1 if tied else 2, vocabulary, hidden),
            *((layers * count, rows, width) for count, rows, width in of_a_layer),
        ),
        vectors=layers * (norms + head_norms + biases) + hidden,
        weight_bytes=4 if "float32" in (text.get("dtype"), text.get("torch_dtype")) else 2,
    )


def _mlp(text: Mapping[str, Any], kind: str, hidden: int) -> tuple[int, list[tuple[int, int, int]]]:
    """The width of the MLPs that a token passes through in a layer, and the layer's matrices."""
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
