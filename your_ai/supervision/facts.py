"""Find the device and the facts about models in the cache; ask a probe only for what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from worker.protocol.messages import Device
from your_ai.supervision.probe import probe
from your_ai.supervision.probe_cache import FREE_MEMORY, Facts, Kind, ProbeCache
from your_ai.system import nvidia


def find_device() -> Device:
    """Return the device that MLX trains on; raise MachineError if MLX does not work here."""
    device, _ = find_device_and_facts([])
    return device


def find_device_and_facts(kinds: Sequence[Kind]) -> tuple[Device, list[Facts]]:
    """Return the device, and the facts about the models of each kind; raise like `probe`."""
    cache = ProbeCache.open()
    known, missing = _split(cache, kinds)
    device = _with_free_memory(cache.device())
    if device is None or any(missing):
        device, found = probe(missing)
        known = [{**old, **new} for old, new in zip(known, found, strict=True)]
    return device, known


def find_facts(kinds: Sequence[Kind]) -> list[Facts]:
    """Return the facts about the models of each kind; raise like `probe`."""
    known, missing = _split(ProbeCache.open(), kinds)
    if any(missing):
        _, found = probe(missing)
        known = [{**old, **new} for old, new in zip(known, found, strict=True)]
    return known


def _split(cache: ProbeCache, kinds: Sequence[Kind]) -> tuple[list[Facts], list[Kind]]:
    """Return what the cache knows, and the models that it does not know."""
    known = [cache.facts(kind) for kind in kinds]
    missing = [
        {name: kind[name] for name in kind if name not in facts}
        for kind, facts in zip(kinds, known, strict=True)
    ]
    return known, [*missing]


def _with_free_memory(device: Device | None) -> Device | None:
    """Return a device from the cache with the GPU memory that is free now.

    ``None`` if only MLX can tell: nvidia-smi does not know the GPU or its memory.
    """
    if device is None or device.backend != "cuda":
        return device
    uuid = device.info.get("uuid")
    memory = nvidia.Gpu(uuid).read().memory if uuid else None
    if memory is None:
        return None
    return replace(device, info={**device.info, FREE_MEMORY: memory.free_bytes})
