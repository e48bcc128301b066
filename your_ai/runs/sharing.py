"""Select what can be published of a run: pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import cast

from worker.protocol.configuration import ALL_KEYS, ATTENTION_KEYS, Configuration
from your_ai.errors import UsageError
from your_ai.models.presets import all_presets
from your_ai.planning.lora_kinds import OPTIMIZERS
from your_ai.runs.results import Results
from your_ai.runs.shared_measurements import (
    CHIP,
    FORMAT,
    HUB_ID,
    RELEASE,
    VERSION,
    Backend,
    SharedDevice,
    SharedMeasurements,
    SharedSystem,
    SharedTrial,
    SharedVersions,
    System,
)
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.outcome import OutcomeKind

_SHA = r"[0-9a-f]{40}"
_SYSTEMS: dict[str, System] = {"macOS": "macOS", "Linux": "Linux"}

_MODULES = frozenset(
    (
        *("self_attn", "attn", "attention", "linear_attn", "mixer"),
        *("mlp", "feed_forward", "block_sparse_moe", "experts", "switch_mlp"),
        *("shared_expert", "shared_experts", "gate", "router"),
        *("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "in_proj", "out_proj"),
        *("in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "q_a_proj", "q_b_proj"),
        *("kv_a_proj_with_mqa", "kv_b_proj", "gate_proj", "up_proj", "down_proj", "gate_up_proj"),
        *("wq", "wk", "wv", "wo", "wqkv", "w1", "w2", "w3", "fc1", "fc2", "c_attn", "c_proj"),
        *("c_fc", "query_key_value", "dense"),
    )
)
"""Parts of modules' names in mlx-lm. Others may be anything that the user typed."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What to share of a run. ``left_out`` further trials ran, with free text in their settings."""

    document: SharedMeasurements
    left_out: int

    @property
    def model_names(self) -> list[str]:
        """The Hub ids in the document, each once."""
        return list(dict.fromkeys(t.model_name for t in self.document.trials if t.model_name))

    @property
    def unnamed(self) -> int:
        """The number of trials without the name of their model."""
        return sum(trial.model_name is None for trial in self.document.trials)


def select(results: Results) -> Selection:
    """Return what can be published of ``results``.

    Raises:
        UsageError: if that is nothing.
    """
    ran = list(_ran(results.trials))
    known = [trial for trial in ran if trial is not None]
    if not known:
        problem = "has settings without free text" if ran else "loaded a model"
        raise UsageError(f"No trial in these results {problem}, so there is nothing to share.")
    device, versions = results.device, results.device.versions
    document = SharedMeasurements(
        format=FORMAT,
        your_ai_version=_start(VERSION, results.your_ai_version),
        date=_day(results.started_at),
        device=SharedDevice(
            backend=cast(Backend, device.backend),  # `write` checks it
            name=_whole(CHIP, device.name),
            memory_bytes=device.memory_bytes,
            working_set_bytes=device.working_set_bytes,
        ),
        system=SharedSystem(
            name=_SYSTEMS.get(results.machine.system),
            release=_start(RELEASE, results.machine.release),
        ),
        versions=SharedVersions(
            python=_start(VERSION, versions.get("python", "")),
            mlx=_start(VERSION, versions.get("mlx", "")),
            mlx_lm=_start(VERSION, versions.get("mlx-lm", "")),
        ),
        budget_bytes=results.budget_bytes,
        trials=tuple(known),
    )
    return Selection(document, len(ran) - len(known))


def _ran(trials: Iterable[TrialResult]) -> Iterator[SharedTrial | None]:
    """Yield each trial that loaded its model; ``None`` if its settings contain free text."""
    for trial in trials:
        if trial.load is not None and trial.outcome is not OutcomeKind.INTERRUPTED:
            configuration = trial.config.configuration
            yield _shared(trial, configuration) if is_plain(configuration) else None


def _shared(trial: TrialResult, configuration: Configuration) -> SharedTrial:
    assert trial.load is not None
    return SharedTrial(
        model_name=_hub_id(trial),
        parameters=trial.load.parameters,
        weights_bytes=trial.weights_bytes,
        configuration=configuration,
        outcome=trial.outcome,
        resident_bytes=trial.load.resident_bytes,
        needed_bytes=trial.needed_memory_bytes,
        needed_limit_bytes=trial.needed_memory_limit_bytes,
        peak_bytes=trial.peak_memory_bytes,
        limit_bytes=trial.memory_limit_bytes,
        footprint_peak_bytes=trial.footprint_peak_bytes,
        tokens_per_second=trial.tokens_per_second,
        tokens_per_second_at_needed=trial.tokens_per_second_at_needed_memory,
    )


def _hub_id(trial: TrialResult) -> str | None:
    """Return the model's Hub id: that of a preset, or one of which the Hub told the commit."""
    preset = all_presets().get(trial.preset)
    if preset is not None and preset.model_name == trial.model_name:
        return preset.model_name
    is_from_hub = trial.revision is not None and _whole(_SHA, trial.revision) is not None
    return _whole(HUB_ID, trial.model_name) if is_from_hub else None


def is_plain(configuration: Configuration) -> bool:
    """Return whether all texts in it are words that mlx-lm and MLX define."""
    keys = configuration.lora_keys
    has_known_keys = keys in (ALL_KEYS, ATTENTION_KEYS) or all(
        part in _MODULES for key in keys for part in key.split(".")
    )
    kinds = OPTIMIZERS[configuration.optimizer]
    return has_known_keys and all(
        name in kinds and kinds[name].accepts(_parsed(value))
        for name, _, value in (text.partition("=") for text in configuration.optimizer_config)
    )


def _parsed(value: str) -> object:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _whole(pattern: str, text: str) -> str | None:
    return text if re.fullmatch(pattern, text, re.ASCII) else None


def _start(pattern: str, text: str) -> str | None:
    found = re.match(pattern, text, re.ASCII)
    return found and found[0]


def _day(started_at: str) -> date | None:
    try:
        return date.fromisoformat(started_at[:10])
    except ValueError:
        return None
