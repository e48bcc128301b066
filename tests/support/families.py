"""Configs of tiny models of many families, to build with mlx-lm's classes."""

from __future__ import annotations

from typing import Any

from tests.support import tiny

_TINY = {**tiny.LLAMA, "rope_theta": 10000.0, "max_position_embeddings": 256}
_MAMBA = {"mamba_d_conv": 4, "mamba_d_state": 16, "mamba_proj_bias": False, "mamba_conv_bias": True}
_MAMBA_HEADS = {**_MAMBA, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_DELTA = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_conv_kernel_dim": 3,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "partial_rotary_factor": 0.5,
}
GEMMA4_TEXT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "head_dim": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "global_head_dim": 32,
    "vocab_size": 512,
    "vocab_size_per_layer_input": 512,
    "hidden_size_per_layer_input": 16,
    "num_kv_shared_layers": 0,
    "sliding_window": 8,
}

_YARN = {"type": "yarn", "factor": 2, "original_max_position_embeddings": 128}

_QKVO = {"q_proj", "k_proj", "v_proj", "o_proj"}
_SELF = {f"self_attn.{name}" for name in _QKVO}

WITH_ATTENTION: dict[str, tuple[dict[str, Any], set[str]]] = {
    "llama": (_TINY, _SELF),
    "qwen2": (_TINY, _SELF),
    "phi3": (_TINY, {"self_attn.qkv_proj", "self_attn.o_proj"}),
    "gpt_neox": (
        {**_TINY, "layer_norm_eps": 1e-5, "rotary_emb_base": 10000, "rotary_pct": 0.25},
        {"attention.query_key_value", "attention.dense"},
    ),
    "deepseek_v2": (
        {
            **_TINY,
            "moe_intermediate_size": 64,
            "kv_lora_rank": 8,
            "q_lora_rank": 8,
            "v_head_dim": 16,
            "qk_rope_head_dim": 16,
            "qk_nope_head_dim": 16,
            "rope_scaling": _YARN,
        },
        {
            *("self_attn.q_a_proj", "self_attn.q_b_proj", "self_attn.kv_a_proj_with_mqa"),
            *("self_attn.kv_b_proj", "self_attn.o_proj"),
        },
    ),
    "gemma4": ({"vocab_size": 512, "text_config": GEMMA4_TEXT}, _SELF),
    "jamba": (
        {
            **_TINY,
            **_MAMBA,
            **_EXPERTS,
            "attn_layer_offset": 1,
            "attn_layer_period": 2,
            "mamba_expand": 2,
            "expert_layer_offset": 1,
            "expert_layer_period": 2,
        },
        _SELF,
    ),
    "falcon_h1": (
        {**_TINY, **_MAMBA_HEADS, "head_dim": 32, "mamba_d_ssm": 64, "mamba_expand": 1},
        _SELF,
    ),
    "granitemoehybrid": (
        {
            **_TINY,
            **_MAMBA_HEADS,
            "layer_types": ["mamba", "attention"],
            "mlp_bias": False,
            "embedding_multiplier": 1.0,
            "attention_multiplier": 1.0,
            "logits_scaling": 1.0,
            "residual_multiplier": 1.0,
            "attention_bias": False,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "shared_intermediate_size": 64,
            "position_embedding_type": "rope",
        },
        _SELF,
    ),
    "lfm2": (
        {
            **_TINY,
            "norm_eps": 1e-5,
            "conv_bias": True,
            "conv_L_cache": 3,
            "block_dim": 64,
            "block_ff_dim": 128,
            "block_multiple_of": 32,
            "block_ffn_dim_multiplier": 1.0,
            "block_auto_adjust_ff_dim": True,
            "full_attn_idxs": [1],
        },
        {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"},
    ),
    "qwen3_next": (
        {
            **_TINY,
            **_EXPERTS,
            **_DELTA,
            "head_dim": 32,
            "decoder_sparse_step": 1,
            "shared_expert_intermediate_size": 64,
            "mlp_only_layers": [],
            "full_attention_interval": 2,
            "norm_topk_prob": False,
        },
        _SELF,
    ),
}
"""Config without its ``model_type``, and the keys that LoRA has trained since version 0.1."""

HYBRID: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nemotron_h": (
        {
            **_TINY,
            "attention_bias": False,
            "mlp_bias": False,
            "layer_norm_epsilon": 1e-5,
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "mamba_proj_bias": False,
            "ssm_state_size": 16,
            "conv_kernel": 4,
            "n_groups": 1,
            "use_bias": False,
            "use_conv_bias": True,
            "time_step_limit": [0.001, 100.0],
            "hybrid_override_pattern": ["M", "*"],
        },
        {f"mixer.{name}" for name in _QKVO},
    ),
    "plamo2": (
        {
            **_TINY,
            "hidden_size_per_head": 32,
            "mamba_d_state": 16,
            "mamba_num_heads": 4,
            "rms_norm_eps": 1e-5,
        },
        {"mixer.qkv_proj", "mixer.o_proj"},
    ),
    "recurrent_gemma": (
        {
            **_TINY,
            "attention_bias": False,
            "conv1d_width": 4,
            "logits_soft_cap": 30.0,
            "attention_window_size": 64,
            "block_types": ["recurrent", "attention"],
        },
        {f"temporal_block.{name}" for name in _QKVO},
    ),
}
"""Families whose attention is in modules with other names."""

WITHOUT_ATTENTION: dict[str, tuple[dict[str, Any], set[str]]] = {
    "mamba2": (
        {
            "num_heads": 4,
            "head_dim": 32,
            "hidden_size": 64,
            "intermediate_size": 128,
            "vocab_size": 512,
            "state_size": 16,
            "num_hidden_layers": 2,
            "n_groups": 1,
            "layer_norm_epsilon": 1e-5,
            "conv_kernel": 4,
            "use_bias": False,
            "use_conv_bias": True,
            "tie_word_embeddings": True,
            "time_step_rank": "auto",
            "time_step_limit": [0.001, 100.0],
        },
        {"mixer.in_proj", "mixer.out_proj"},
    ),
}


def config(family: str) -> dict[str, Any]:
    """Return the whole config of a family."""
    facts, _ = {**WITH_ATTENTION, **HYBRID, **WITHOUT_ATTENTION}[family]
    return {**facts, "model_type": family}
