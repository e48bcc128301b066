"""Query NVIDIA GPUs with nvidia-smi. If it is missing or fails, all functions return ``None``."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass

from your_ai.units import MB

# Loading the driver takes a second or two if no other program keeps it loaded.
TIMEOUT_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """A GPU's own memory, in bytes; ``free_bytes`` is used by no program."""

    total_bytes: int
    free_bytes: int


def query(fields: str, *options: str) -> list[str] | None:
    """Return one line per GPU with the values of ``fields``, separated by ", ".

    ``fields`` are names from `nvidia-smi --help-query-gpu`, separated by commas. Sizes are in MiB.
    """
    text = _smi(*options, f"--query-gpu={fields}", "--format=csv,noheader,nounits")
    return None if text is None else text.splitlines()


def memory(uuid: str | None = None) -> GpuMemory | None:
    """Return the memory of the GPU that MLX reports as ``uuid``.

    Without it, that of the first visible one is returned; this may not be the one that MLX uses,
    because nvidia-smi sorts GPUs by their PCI bus and CUDA the fastest first. ``None`` also if the
    GPU shares the machine's memory; nvidia-smi then prints "[N/A]".
    """
    # An index or a UUID; nvidia-smi accepts both.
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    wanted = uuid or first or "0"
    fields = "memory.total,memory.free,mig.mode.current"
    match (query(fields, f"--id={wanted}") or [""])[0].split(", "):
        case [total, free, mig] if total.isdecimal() and free.isdecimal() and mig != "Enabled":
            return GpuMemory(int(total) * MB, int(free) * MB)
    return _part_memory(wanted)


def _part_memory(uuid: str) -> GpuMemory | None:
    """Return the memory of a part of a GPU (a MIG device).

    It is only in the description of the whole GPU, where parts have an index but no UUID; the list
    of all GPUs has both. CUDA reports a part's own UUID (cuDeviceGetUuid_v2), which MLX prefixes
    with "GPU-" like any other (mlx/backend/cuda/device_info.cpp).
    """
    own, whole = uuid.partition("-")[2], ""
    for line in (_smi("-L") or "").splitlines():
        match _LISTED.search(line):
            case None:
                continue
            case found if found["kind"] == "GPU":
                whole = found[0]
            case found if own and found["hex"] == own:
                return _described_part(_smi("-q", "-x", f"--id={whole}") or "", found["index"])
    return None


_LISTED = re.compile(r"(?:Device +(?P<index>\d+): \(UUID: )?(?P<kind>GPU|MIG)-(?P<hex>[\w-]+)")


def _described_part(description: str, index: str) -> GpuMemory | None:
    from xml.etree import ElementTree  # slow, and rarely needed

    try:
        parts = ElementTree.fromstring(description).iter("mig_device")  # noqa: S314 - the driver's
    except ElementTree.ParseError:
        return None
    for part in parts:
        if part.findtext("index") == index:
            sizes = (part.findtext(f"fb_memory_usage/{name}", "") for name in ("total", "free"))
            total, free = (size.removesuffix(" MiB") for size in sizes)
            if total.isdecimal() and free.isdecimal():
                return GpuMemory(int(total) * MB, int(free) * MB)
    return None


def _smi(*arguments: str) -> str | None:
    """Return the output of nvidia-smi; ``None`` if it fails or does not answer."""
    try:
        done = subprocess.run(
            ["nvidia-smi", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
