"""What MLX reports on Macs that tests cannot run on: recorded by others, with the source."""

from __future__ import annotations

from typing import Any

NO_METAL = (
    "[metal::load_device] No Metal device available. This typically occurs in headless, sandboxed, "
    "or virtualized macOS sessions where the GPU is not accessible."
)
"""Raised by MLX from 0.32 on (mlx #3428, mlx/backend/metal/device.cpp)."""

NO_METAL_BEFORE_0_32 = (
    "*** Terminating app due to uncaught exception 'NSRangeException', reason: "
    "'*** -[__NSArray0 objectAtIndex:]: index 0 beyond bounds for empty array'\n"
    "libc++abi: terminating due to uncaught exception of type NSException\n"
)
"""Printed by earlier versions before they abort (mlx #2691, #3148, #3397)."""

PARAVIRTUAL: dict[str, Any] = {
    "device_name": "Apple Paravirtual device",
    "architecture": "air64_v27",
    "memory_size": 7516192768,
    "max_recommended_working_set_size": 5010800640,
    "max_buffer_length": 3758096384,
    "resource_limit": 499000,
}
"""GitHub's runner macos-15 with MLX 0.32.2 (rajveer43/VeloxQuant-MLX #395)."""

SMALL_PARAVIRTUAL: dict[str, Any] = {**PARAVIRTUAL, "max_recommended_working_set_size": 2**30}
"""The same with the 1 GB that PyTorch could allocate there (actions/runner-images #11899)."""
