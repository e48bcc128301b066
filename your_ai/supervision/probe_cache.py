"""Keep what MLX said about the device and models, so that most commands need no probe.

One small file per answer, in the user's cache folder; it can be deleted at any time. What cannot be
read or written is ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from worker import durable
from worker.protocol.codec import encode
from worker.protocol.configuration import Optimizer, Weights
from worker.protocol.memory import lengths_around
from worker.protocol.messages import Device, ModelFacts
from worker.protocol.requests import PlannedModel, ProbeRequest
from your_ai.files import write_atomically
from your_ai.system.installation import device_state, installation

_MAX_FILES = 200
"""The newest answers are kept; each takes one block on the disk, usually 4 KB."""

FREE_MEMORY = "free_memory"
"""The key of ``mx.device_info()`` whose value changes all the time."""

Kind = Mapping[str, PlannedModel]
"""Models by name, each with a training of the same kind."""

Facts = dict[str, ModelFacts | str]
"""The facts about models by name or, as a string, why mlx-lm cannot train one."""

T = TypeVar("T", Device, ModelFacts)


@dataclass(frozen=True, slots=True)
class ProbeCache:
    """The answers that are valid for this installation, on this machine, at this moment."""

    folder: Path
    installation: tuple[object, ...]
    device_state: tuple[object, ...]

    @classmethod
    def open(cls) -> ProbeCache:
        """Return the user's cache."""
        return cls(cache_dir(), installation(), device_state())

    def device(self) -> Device | None:
        """Return the device, without the memory that is free; ``None`` if MLX must be asked."""
        return _read(self._device_file, Device)

    def facts(self, kind: Kind) -> Facts:
        """Return the facts about those of the models for which MLX need not be asked."""
        found = {name: _read(self._model_file(kind[name]), ModelFacts) for name in kind}
        return {name: facts for name, facts in found.items() if facts is not None}

    def keep(self, device: Device, kinds: Sequence[Kind], found: Sequence[Facts]) -> None:
        """Keep the answers of a probe, except those about models that cannot be trained."""
        info = {name: value for name, value in device.info.items() if name != FREE_MEMORY}
        with contextlib.suppress(OSError):
            durable.make_folder(self.folder, mode=0o700)
            for kind, facts in zip(kinds, found, strict=True):
                for name in kind:
                    # A package may be missing for a model, which the user then installs.
                    if isinstance(facts[name], ModelFacts):
                        _write(self._model_file(kind[name]), facts[name])
            _write(self._device_file, replace(device, at=0.0, info=info))
            self._discard_oldest()

    def forget_device(self) -> None:
        """Let the next command ask MLX about the device."""
        with contextlib.suppress(OSError):
            self._device_file.unlink()

    @property
    def _device_file(self) -> Path:
        return self.folder / f"device-{_digest(self.installation, self.device_state)}.json"

    def _model_file(self, planned: PlannedModel) -> Path:
        request = encode(ProbeRequest({"": _normalized(planned)}))
        return self.folder / f"model-{_digest(self.installation, request)}.json"

    def _discard_oldest(self) -> None:
        files = sorted(self.folder.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in files[_MAX_FILES:]:
            file.unlink()


def cache_dir() -> Path:
    """Return the folder in the user's cache directory for the answers."""
    import platformdirs

    return platformdirs.user_cache_path("your_ai", appauthor=False) / "probes"


def _normalized(planned: PlannedModel) -> PlannedModel:
    """Return a training with the same facts for every batch size, sequence length, and so on.

    Tables of memory have some lengths around the one that is asked for.
    """
    length = planned.configuration.seq_length
    same = replace(
        planned.configuration,
        weights=Weights.SYNTHETIC,
        batch_size=1,
        seq_length=lengths_around(length)[1] if planned.memory_on else 1,
        grad_checkpoint=False,
        optimizer=Optimizer.ADAM,
        optimizer_config=(),
        grad_accumulation_steps=1,
    )
    return replace(planned, configuration=same)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _write(path: Path, answer: object) -> None:
    write_atomically(path, msgspec.json.encode(answer))


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError):
        return None
