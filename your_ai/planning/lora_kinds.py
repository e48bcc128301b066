"""What mlx_lm.lora accepts for each key of its configuration file: pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from worker.protocol.configuration import FineTuneType, Optimizer

MAX_BATCH, MAX_RANK, MAX_LAYERS = 1024, 4096, 1024
MIN_TOKENS, MAX_TOKENS = 8, 2**24

_Test = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Kind:
    """The values that a key can have; ``name`` completes "must be"."""

    name: str
    accepts: _Test


def is_number(value: Any) -> bool:
    """Return whether it is a finite number. A boolean is none."""
    return type(value) in (int, float) and math.isfinite(value)


def _whole(least: int, most: int = 2**31) -> Kind:
    name = f"a whole number from {least} to {most}"
    return Kind(name, lambda value: type(value) is int and least <= value <= most)


def _number(name: str, test: _Test = lambda value: True) -> Kind:
    return Kind(name, lambda value: is_number(value) and test(value))


def _choice(choices: type[FineTuneType] | type[Optimizer], *, any_case: bool = False) -> Kind:
    values = [each.value for each in choices]
    return Kind(
        f"one of {', '.join(values)}",
        lambda value: isinstance(value, str) and (value.lower() if any_case else value) in values,
    )


def _pair(name: str, test: _Test) -> Kind:
    return Kind(
        name, lambda value: isinstance(value, list) and len(value) == 2 and all(map(test, value))
    )


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value < 1


_NAME = Kind("text that is not empty", lambda value: isinstance(value, str) and value != "")
_BOOL = Kind("true or false", lambda value: isinstance(value, bool))
_NUMBER = _number("a number")
_SHARE = Kind("a number from 0 to less than 1", _is_share)
_NOT_NEGATIVE = _number("a number of at least 0", lambda value: value >= 0)
_MAPPING = Kind("a mapping", lambda value: isinstance(value, dict))
_ANY = Kind("anything", lambda value: True)
_COUNT = _whole(1)
_BATCHES = _whole(-1)  # -1: all

IGNORED = ("clear_cache_threshold", "config", "project_name", "report_to", "trust_remote_code")
"""Keys that neither change a training nor, in a file, are read by mlx_lm.lora 0.32 for it: where
losses are reported, and options whose command-line default always replaces the file's value."""

TOP: Mapping[str, Kind] = {
    "model": _NAME,
    "train": _BOOL,
    "fine_tune_type": _choice(FineTuneType),
    "optimizer": _choice(Optimizer, any_case=True),
    "optimizer_config": _MAPPING,
    "data": _NAME,
    "seed": _whole(0, 2**32 - 1),
    "num_layers": _whole(-1, MAX_LAYERS),
    "batch_size": _whole(1, MAX_BATCH),
    "iters": _COUNT,
    "val_batches": _BATCHES,
    "learning_rate": _number("a number above 0", lambda value: value > 0),
    "steps_per_report": _COUNT,
    "steps_per_eval": _COUNT,
    "resume_adapter_file": _NAME,
    "adapter_path": _NAME,
    "save_every": _COUNT,
    "test": _BOOL,
    "test_batches": _BATCHES,
    "max_seq_length": _whole(MIN_TOKENS, MAX_TOKENS),
    "grad_checkpoint": _BOOL,
    "grad_accumulation_steps": _whole(1, 2**16),
    "lr_schedule": _MAPPING,
    "lora_parameters": _MAPPING,
    "mask_prompt": _BOOL,
    "hf_dataset": Kind("a mapping or a list", lambda value: isinstance(value, dict | list)),
    "prompt_feature": _NAME,
    "completion_feature": _NAME,
    "text_feature": _NAME,
    "chat_feature": _NAME,
    **dict.fromkeys(IGNORED, _ANY),
}
"""All keys of the file that mlx_lm.lora knows."""

LORA: Mapping[str, Kind] = {
    "rank": _whole(1, MAX_RANK),
    "scale": _NUMBER,
    "dropout": _SHARE,
    "keys": Kind(
        "a list of names of modules, such as self_attn.q_proj",
        lambda value: (
            value is None
            or (isinstance(value, list) and value != [] and all(map(_NAME.accepts, value)))
        ),
    ),
}

SCHEDULES: Mapping[str, tuple[int, int]] = {
    "cosine_decay": (2, 3),
    "exponential_decay": (2, 2),
    "linear_schedule": (3, 3),
    "step_decay": (3, 3),
}
"""The schedules of mlx.optimizers that a file can express, with their least and most arguments."""

SCHEDULE: Mapping[str, Kind] = {
    "name": Kind(f"one of {', '.join(SCHEDULES)}", lambda value: value in [*SCHEDULES]),
    "arguments": Kind(
        "a list of numbers", lambda value: isinstance(value, list) and all(map(is_number, value))
    ),
    "warmup": _whole(0),
    "warmup_init": _NOT_NEGATIVE,
}

HUB_DATA: Mapping[str, Kind] = {
    "path": _NAME,
    "config": _MAPPING,
    **{f"{split}_split": _NAME for split in ("train", "valid", "test")},
    **{f"{name}_feature": _NAME for name in ("prompt", "completion", "text", "chat")},
    "mask_prompt": _ANY,  # mlx_lm.lora replaces it by the key of the file
}

_ADAM: Mapping[str, Kind] = {
    "betas": _pair("two numbers from 0 to less than 1", _is_share),
    "eps": _NOT_NEGATIVE,
    "bias_correction": _BOOL,
}
OPTIMIZERS: Mapping[Optimizer, Mapping[str, Kind]] = {
    Optimizer.ADAM: _ADAM,
    Optimizer.ADAMW: {**_ADAM, "weight_decay": _NUMBER},
    Optimizer.MUON: {
        "momentum": _NUMBER,
        "weight_decay": _NUMBER,
        "nesterov": _BOOL,
        "ns_steps": _whole(0, 1000),
    },
    Optimizer.SGD: {
        "momentum": _NUMBER,
        "weight_decay": _NUMBER,
        "dampening": _NUMBER,
        "nesterov": _BOOL,
    },
    Optimizer.ADAFACTOR: {
        "eps": _pair("two numbers", is_number),
        "clip_threshold": _NUMBER,
        "decay_rate": _NUMBER,
        "beta_1": Kind("a number or null", lambda value: value is None or is_number(value)),
        "weight_decay": _NUMBER,
        "scale_parameter": _BOOL,
        "relative_step": _BOOL,
        "warmup_init": _BOOL,
    },
}
"""The arguments of each optimizer in mlx.optimizers, except for the learning rate."""

RENAMED = {
    "lora_layers": "num_layers",
    "use_dora": "fine_tune_type: dora",
    "rank": "lora_parameters.rank",
    "lora_rank": "lora_parameters.rank",
    "epochs": "iters",
}
"""Keys of earlier versions of mlx-lm and of other programs, and what to write instead."""
