"""What MLX's answers depend on, found without importing MLX, in a few milliseconds."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import worker
from your_ai import __version__
from your_ai.system import macos, memory
from your_ai.system.machine import boot_id

_NVIDIA_DRIVER = Path("/proc/driver/nvidia")
_GPU_CHOICE = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
"""Environment variables that determine which GPU is CUDA's first, the one that MLX uses."""


def installation() -> tuple[object, ...]:
    """Return what determines the facts about models: the versions of Python, MLX and the worker."""
    sources = Path(worker.__path__[0]).rglob("*.py")
    return (
        *(sys.prefix, sys.version),  # another environment, or another Python in the same one
        tuple(sorted(_packages())),
        # A worker that asks MLX differently; some installers keep the times of the archive.
        *(__version__, max(path.stat().st_mtime_ns for path in sources)),
    )


def device_state() -> tuple[object, ...]:
    """Return what else determines the device that MLX finds."""
    return (
        boot_id(),  # another machine with the same home folder, or changed hardware or kernel
        memory.read().total_bytes,  # another container on this machine
        macos.wired_limit_mb(),  # changes Metal's working set at any time
        tuple(os.environ.get(name) for name in _GPU_CHOICE),
        tuple(sorted(_nvidia_driver())),
    )


def _packages() -> Iterator[tuple[str, int]]:
    """Yield the path of everything of MLX that can be imported: mlx, its backend, and mlx-lm.

    A package's metadata has the version in its name. Its time changes if the same version is
    installed again. That of the package itself also changes when Python writes bytecode.
    """
    for folder in sys.path:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                is_editable = "editable" in entry.name and "mlx" in entry.name
                if entry.name.startswith("mlx") or is_editable:
                    is_metadata = entry.name.endswith(".dist-info")
                    yield entry.path, entry.stat().st_mtime_ns if is_metadata else 0


def _nvidia_driver() -> Iterator[str]:
    """Yield the version of NVIDIA's driver and the place of each GPU; on WSL there are no files.

    A driver can be updated, and a container be given a GPU, without a restart. Unlike nvidia-smi,
    this does not load the driver, which can take seconds.
    """
    with contextlib.suppress(OSError):
        yield (_NVIDIA_DRIVER / "version").read_text(errors="replace")
        yield from (gpu.name for gpu in (_NVIDIA_DRIVER / "gpus").iterdir())
