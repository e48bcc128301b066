"""The device that MLX trains on."""

from __future__ import annotations

import platform

import mlx.core as mx
import mlx_lm

from worker.protocol.messages import Device

MLX_VERSION: str = mx.__version__  # type: ignore[attr-defined] # missing in MLX's type stubs


def describe(at: float) -> Device:
    """Return MLX's default device, and the package versions that affect measurements."""
    versions = {"mlx": MLX_VERSION, "mlx-lm": mlx_lm.__version__}
    versions = {"python": platform.python_version(), **versions}
    return Device(at, backend(), dict(mx.device_info()), versions)


def backend() -> str:
    """Return MLX's default backend: metal, cuda or cpu."""
    if mx.default_device().type != mx.DeviceType.gpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"
