"""Resolve a model's name: a preset, a folder or a Hub id."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from worker.protocol.configuration import Configuration, QuantizationMode
from worker.protocol.memory import MemoryFacts
from worker.protocol.messages import ModelFacts
from your_ai.errors import UsageError, YourAIError
from your_ai.models import hub, presets
from your_ai.models.quantization import Quantization, stored
from your_ai.units import parameter_label

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_REPAIR = "Correct the file, or choose another model."


class UnknownModelError(UsageError):
    """A name is that of no preset and no folder with a model, and no Hub id."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that trials can be planned for.

    ``name`` is what the user calls it, ``model_name`` its Hub id or path. ``params`` is the size
    label, empty until it is known. ``path`` is the local folder, if any. ``revision`` is the
    commit on the Hub, and ``note`` what the user should know about the model. ``weights_bytes`` is
    the memory that the weights take, with the quantization for which the model was probed, and
    ``memory`` that of its training step, if the probe was asked for it. ``parameters`` is 0 until
    it is known.
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
    weights_bytes: int | None = None
    memory: MemoryFacts | None = None
    parameters: int = 0

    @property
    def max_seq_length(self) -> int | None:
        """The longest sequence that the config allows, in tokens; ``None`` if it does not say."""
        return _declared(self.config, "max_position_embeddings")

    @property
    def stored(self) -> Quantization | None:
        """The quantization of the model's files; ``None`` if there is none in MLX's format."""
        return stored(self.config)

    def weights_in(self, configuration: Configuration) -> int:
        """Return the memory that the weights take, 0 if it is not known."""
        quantization = Quantization.of(configuration)
        if self.weights_bytes is not None:
            return self.weights_bytes
        if not (self.is_preset and quantization.is_default_group):
            return 0
        return presets.all_presets()[self.name].weights_bytes.get(quantization.name, 0)


def from_preset(preset: presets.Preset) -> Model:
    """Return a preset's model. Its size and layers are known, so it need not be probed."""
    return Model(
        preset.name,
        preset.model_name,
        preset.params,
        preset.config,
        preset.layers,
        is_preset=True,
        parameters=preset.parameters,
    )


def find(name: str) -> Model:
    """Return the model called ``name``: a preset, else a folder, else a Hub id.

    Raises:
        UnknownModelError: if there is no such model, and the name is no Hub id.
        UsageError: if the Hub refuses the model, or its config is missing or invalid.
        MachineError: if the Hub cannot be reached.
    """
    known = presets.all_presets()
    if name in known:
        return from_preset(known[name])
    # os.path, because Path raises if the name is too long, or starts with an unknown ~user.
    path = os.path.expanduser(name)  # noqa: PTH111
    if os.path.isdir(path):  # noqa: PTH112
        folder = Path(path).resolve()
        config = _read_config(folder / "config.json", name)
        return Model(folder.name, str(folder), "", config, path=str(folder))
    if os.path.exists(path):  # noqa: PTH110
        raise UnknownModelError(
            f"{name} is a file. Pass the folder that contains the model's config.json."
        )
    if _HUB_ID.fullmatch(name):
        found = hub.revision(name)
        config = _read_config(hub.config_file(name, found.sha), name)
        return Model(name, name, "", config, revision=found.sha, note=found.note)
    if "/" in name or name.startswith((".", "~")):
        raise UnknownModelError(
            f"The folder {name!r} does not exist. Pass a folder with a model, a preset, or a Hub "
            "id (ORG/NAME)."
        )
    near = presets.similar(name)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`your_ai models` lists the presets."
    raise UnknownModelError(
        f"Unknown model {name!r}. {hint} You can also pass a folder or a Hub id (ORG/NAME)."
    )


def pinned(model: Model) -> Model:
    """Return the model with its current commit, if its files come from the Hub.

    If the Hub cannot be reached, the model is returned unchanged; the error is reported later,
    when the weights are needed.
    """
    if model.path is not None or model.revision is not None:
        return model
    try:
        found = hub.revision(model.model_name)
    except YourAIError:
        return model
    return replace(model, revision=found.sha, note=found.note)


def with_facts(model: Model, facts: Mapping[str, ModelFacts | str]) -> Model:
    """Return the model with the sizes and the number of layers that a probe found.

    ``facts`` is keyed by ``model_name``. A preset needs no facts. A string says why mlx-lm cannot
    build the model.

    Raises:
        UsageError: if mlx-lm cannot build the model, or cannot train it like that.
    """
    known = facts.get(model.model_name)
    if known is None:
        return model
    if isinstance(known, str):
        problem = known.partition("\n")[0]
        end = "" if problem.endswith(("?", ".")) else "."
        code = (
            " The model's own code (auto_map) is never run." if "auto_map" in model.config else ""
        )
        raise UsageError(f"mlx-lm cannot train {model.name}: {problem}{end}{code}")
    params = model.params or parameter_label(known.parameters)
    note = model.note
    if known.lacks_attention:
        trained = f"{model.name} has no attention, so LoRA trains its other linear layers."
        note = trained if note is None else f"{note} {trained}"
    return replace(
        model,
        params=params,
        layers=known.layers,
        note=note,
        weights_bytes=known.weights_bytes,
        memory=known.memory,
        parameters=known.parameters,
    )


def _read_config(path: Path, name: str) -> dict[str, Any]:
    subject = f"The config.json of {name}"
    try:
        # Not orjson, which rejects the Infinity that some published configs contain.
        config = json.loads(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(f"{name} has no config.json. Pass a folder with a model.") from error
    except OSError as error:
        raise UsageError(f"{subject} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{subject} is not valid JSON: {error}. {_REPAIR}") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise UsageError(f"{subject} has no model_type, so it does not describe a model. {_REPAIR}")
    if (_declared(config, "vocab_size") or 0) < 1:
        raise UsageError(f"{subject} has no valid vocab_size. {_REPAIR}")
    if not _is_usable(config.get("quantization")):
        raise UsageError(
            f"{subject} has a quantization without valid bits, group_size and mode. {_REPAIR}"
        )
    # auto_map is accepted: many models have it, and mlx-lm ignores it for models it implements.
    if config.get("model_file") is not None:
        raise UsageError(
            f"Cannot train {name}: its config requires the model's own code (model_file), which "
            "your_ai never runs. Choose another model."
        )
    return config


def _is_usable(quantization: Any) -> bool:
    if not isinstance(quantization, dict):
        return quantization is None
    values = [quantization.get(key) for key in ("bits", "group_size")]
    is_mode = quantization.get("mode", "affine") in list(QuantizationMode)
    return is_mode and all(type(value) is int and value > 0 for value in values)


def _declared(config: Mapping[str, Any], key: str) -> int | None:
    """Return an integer from the config or, for a multimodal model, from its text part."""
    text = config.get("text_config")
    value = config.get(key) or (text.get(key) if isinstance(text, dict) else None)
    return value if type(value) is int else None
