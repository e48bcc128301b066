"""What MLX says of the device that it trains on."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import mlx.core as mx

from worker.protocol.messages import Device


def describe(at: float) -> Device:
    """The default device, with MLX's own facts of it and the versions that shape a measurement."""
    info: dict[str, Any] = dict(mx.device_info())
    return Device(at=at, backend=_backend(), info=info, versions=_versions())


def _backend() -> str:
    if mx.default_device().type != mx.DeviceType.gpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def _versions() -> dict[str, str]:
    packages = {name: metadata.version(name) for name in ("mlx", "mlx-lm")}
    return {"python": platform.python_version(), **packages}
