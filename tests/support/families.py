"""What adapters train in models of many families. Their configs are those of the test matrix."""

from __future__ import annotations

from typing import Any

from tests.matrix.configs import all_configs


def config(family: str) -> dict[str, Any]:
    """Return a copy of the config of a family."""
    return {**all_configs()[family]}


def _families(keys: dict[str, set[str]]) -> dict[str, tuple[dict[str, Any], set[str]]]:
    return {family: (config(family), names) for family, names in keys.items()}


GEMMA4_TEXT: dict[str, Any] = config("gemma4")["text_config"]

_QKVO = {"q_proj", "k_proj", "v_proj", "o_proj"}
_DELTA = ("in_proj_ba", "in_proj_qkvz", "out_proj")
_SELF = {f"self_attn.{name}" for name in _QKVO}

WITH_ATTENTION = _families(
    {
        **dict.fromkeys(("llama", "qwen2", "gemma4", "jamba", "falcon_h1"), _SELF),
        "granitemoehybrid": _SELF,
        "qwen3_next": _SELF
        | {f"linear_attn.{n}" for n in ("in_proj_ba", "in_proj_qkvz", "out_proj")},
        "phi3": {"self_attn.qkv_proj", "self_attn.o_proj"},
        "gpt_neox": {"attention.query_key_value", "attention.dense"},
        "deepseek_v2": {
            *("self_attn.q_a_proj", "self_attn.q_b_proj", "self_attn.kv_a_proj_with_mqa"),
            *("self_attn.kv_b_proj", "self_attn.o_proj"),
        },
        "lfm2": {f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj")},
    }
)
"""Config, and the keys of attention."""

HYBRID = _families(
    {
        "nemotron_h": {f"mixer.{name}" for name in _QKVO},
        "plamo2": {"mixer.qkv_proj", "mixer.o_proj"},
        "recurrent_gemma": {f"temporal_block.{name}" for name in _QKVO},
    }
)
"""Families whose attention is in modules with other names."""

WITHOUT_ATTENTION = _families({"mamba2": {"mixer.in_proj", "mixer.out_proj"}})
