"""Run the system's small tools, such as nvidia-smi and pmset."""

from __future__ import annotations

import subprocess


def output_of(*command: str, seconds: float) -> str | None:
    """Return what a tool prints; ``None`` if it is missing, fails or exceeds ``seconds``."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
