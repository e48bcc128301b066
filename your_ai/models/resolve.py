"""From a name - of a preset, a folder or a Hub model - to a model that can be planned."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from worker.protocol.messages import ModelFacts
from your_ai.errors import UsageError, YourAIError
from your_ai.models import hub, presets
from your_ai.models.architecture import parameters
from your_ai.units import parameter_label

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Model:
    """A model as the plan needs it.

    ``name`` is the user's and ``model_name`` the Hub id or path; ``params`` is the size label,
    empty until a probe has counted; ``path`` is the local folder, if any; ``revision`` is the
    Hub's commit, and ``note`` what the user should know about it.
    """

    name: str
    model_name: str
    params: str
    config: dict[str, Any]
    layers: int = 0
    path: str | None = None
    is_preset: bool = False
    revision: str | None = None
    note: str | None = None

    @property
    def max_seq_length(self) -> int | None:
        """The longest sequence, in tokens, that the config declares."""
        return _declared(self.config, "max_position_embeddings")

    @property
    def stored_bits(self) -> int | None:
        """The bits that the model's own files are quantized to, ``None`` when they are not."""
        stored = self.config.get("quantization")
        return None if stored is None else int(stored["bits"])


def from_preset(preset: presets.Preset) -> Model:
    """A preset's model: its facts are known, so no probe needs to build it."""
    name, hub_id, params, config = preset.name, preset.model_name, preset.params, preset.config
    return Model(name, hub_id, params, config, config["num_hidden_layers"], is_preset=True)


def find(name: str) -> Model:
    """The model that ``name`` means: a preset first, then a folder, then an id on the hub.

    Raises UsageError if it is unknown, or its config cannot be downloaded or read.
    """
    known = presets.all_presets()
    if name in known:
        return from_preset(known[name])
    # os.path, because Path raises where a name is too long, or its user is unknown.
    path = os.path.expanduser(name)  # noqa: PTH111
    if os.path.isdir(path):  # noqa: PTH112
        folder = Path(path).resolve()
        config = _read_config(folder / "config.json", name)
        return Model(folder.name, str(folder), "", config, path=str(folder))
    if os.path.exists(path):  # noqa: PTH110
        raise UsageError(f"{name} is a file; name the folder that holds the model's config.json.")
    if _HUB_ID.fullmatch(name):
        found = hub.revision(name)
        config = _read_config(hub.config_file(name, found.sha), name)
        return Model(name, name, "", config, revision=found.sha, note=found.note)
    if "/" in name or name.startswith((".", "~")):
        raise UsageError(
            f"The folder {name!r} does not exist. Pass a folder with a model, a preset, or a Hub "
            "id (ORG/NAME)."
        )
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`your_ai models` lists the presets."
    raise UsageError(
        f"Unknown model {name!r}. {hint} You can also pass a folder or a Hub id (ORG/NAME)."
    )


def pinned(model: Model) -> Model:
    """The model with the Hub's current commit, if its files are to come from there.

    If the Hub cannot tell, the model is returned unchanged: that fails when its weights are needed.
    """
    if model.path is not None or model.revision is not None:
        return model
    try:
        found = hub.revision(model.model_name)
    except YourAIError:
        return model
    return replace(model, revision=found.sha, note=found.note)


def with_facts(model: Model, facts: Mapping[str, ModelFacts | str]) -> Model:
    """The model with the size and layers that a probe counted, by ``model_name``.

    A preset needs no facts; a string in place of facts says why the model cannot be built. Raises
    UsageError for that, and when LoRA finds nothing to train in it.
    """
    known = facts.get(model.model_name)
    if known is None:
        return model
    if isinstance(known, str):
        problem = known.partition("\n")[0]
        code = " Code of its own (auto_map) is never run." if "auto_map" in model.config else ""
        raise UsageError(f"mlx-lm cannot train {model.name}: {problem}{code}")
    if not known.lora_keys:
        raise UsageError(f"{model.name} has no attention projections that LoRA could train.")
    params = model.params or parameter_label(known.parameters)
    return replace(model, params=params, layers=known.layers)


def with_declared_facts(model: Model) -> Model:
    """The model with the size and layers that its config declares; UsageError if it does not."""
    if model.params and model.layers:
        return model
    try:
        count = parameters(model.config)
    except UsageError as error:
        raise UsageError(f"{model.name}: {error}") from error
    layers = _declared(model.config, "num_hidden_layers")
    if layers is None:
        raise UsageError(f"{model.name}: its config.json gives no usable num_hidden_layers.")
    return replace(model, params=model.params or parameter_label(count), layers=layers)


def _read_config(path: Path, name: str) -> dict[str, Any]:
    subject = f"The config.json of {name}"
    try:
        # Not orjson: configs in the wild hold Infinity, which is Python's own extension.
        config = json.loads(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(f"{name} has no config.json; name a folder that holds a model.") from error
    except OSError as error:
        raise UsageError(f"Cannot read the config.json of {name}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{subject} is not valid JSON: {error}.") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise UsageError(f"{subject} names no model_type; it is not a model's.")
    if (_declared(config, "vocab_size") or 0) < 1:
        raise UsageError(f"{subject} gives no usable vocab_size; it cannot be trained.")
    if not _is_usable(config.get("quantization")):
        raise UsageError(f"{subject} has a quantization without usable bits and group_size.")
    # Not auto_map: many models have that, and mlx-lm ignores it where it has a class of its own.
    if config.get("model_file") is not None:
        raise UsageError(
            f"mlx-lm cannot train {name}: its config asks to run code of its own (model_file), "
            "which is never run; name another model."
        )
    return config


def _is_usable(quantization: Any) -> bool:
    if not isinstance(quantization, dict):
        return quantization is None
    values = [quantization.get(key) for key in ("bits", "group_size")]
    return all(type(value) is int and value > 0 for value in values)


def _declared(config: Mapping[str, Any], key: str) -> int | None:
    """An integer of the config, or of its text part where the model is multimodal."""
    text = config.get("text_config")
    value = config.get(key) or (text.get(key) if isinstance(text, dict) else None)
    return value if type(value) is int else None
