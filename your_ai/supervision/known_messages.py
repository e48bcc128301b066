"""What MLX and drivers write when they fail, and what it means."""

from __future__ import annotations

import re
from dataclasses import replace

from your_ai.supervision.outcome import Certainty, Outcome, OutcomeKind, Remedy

_OOM, _ERROR, _CRASH = OutcomeKind.OOM, OutcomeKind.ERROR, OutcomeKind.CRASH

_MESSAGES = {
    r"cudaMalloc\w*\(.*\) failed: out of memory": Outcome(_OOM, "the GPU ran out of memory"),
    r"\[malloc\] Unable to allocate \d+ bytes": Outcome(
        _OOM, "the device ran out of memory", Certainty.HIGH
    ),
    # MLX up to 0.31 aborts with this text, later versions raise it (mlx #3390, #3523, #3742).
    r"kIOGPUCommandBufferCallbackErrorOutOfMemory": Outcome(
        _OOM, "the GPU ran out of memory", Certainty.HIGH
    ),
    r"\[metal::malloc\] Attempting to allocate .* maximum allowed buffer size": Outcome(
        _ERROR,
        "a tensor is larger than Metal allows",
        advice="a smaller batch or a shorter sequence",
    ),
    # The buffers of a process add up over time, so a new process can continue.
    r"\[metal::malloc\] Resource limit \(\d+\) exceeded": Outcome(
        _ERROR,
        "MLX used more buffers than Metal allows; memory is not the cause (mlx-lm #1185)",
        remedy=Remedy.FRESH_PROCESS,
    ),
    # MLX from 0.32 raises the first message (mlx #3428); earlier ones abort with the second while
    # they are imported (mlx #2691, #3148, #3397).
    r"\[metal::load_device\]|\[__NSArray0 objectAtIndex:\]: index 0": Outcome(
        _ERROR,
        "there is no Metal device (GPU) in this session, as in a virtual machine without one, in a "
        "sandbox, or if nobody is logged in",
        advice="use a Mac or a runner with a GPU",
    ),
    # Seen with MLX 0.32.4: its CPU backend multiplies unquantized experts only in float32.
    r"\[GatherMM::eval\] Currently only supports float32": Outcome(
        _ERROR,
        "on a CPU, MLX trains a mixture of experts only if it is quantized or float32",
        advice=(  # also shown by `train`, which takes the quantization from the results
            'measure it with --quantize 4, or set "dtype" to "float32" in the model\'s config.json'
        ),
    ),
    # This often happens while the display is on (mlx #3267), or on a machine that swaps (#3896).
    r"ImpactingInteractivity|Impacting Interactivity|GPU Timeout|CallbackErrorTimeout": Outcome(
        _CRASH,
        "macOS stopped the GPU work for taking too long",
        Certainty.HIGH,
        advice=(
            "close other programs, and let the display sleep (or close the lid with power "
            "connected); workers run with AGX_RELAX_CDM_CTXSTORE_TIMEOUT=1 unless you set it"
        ),
        remedy=Remedy.RETRY,
    ),
    r"kIOGPUCommandBufferCallbackError(Hang|PageFault|InnocentVictim|SubmissionsIgnored)": Outcome(
        _CRASH,
        "the GPU driver failed, or rejected work after an earlier failure",
        Certainty.MEDIUM,
        advice="run it again; if that fails too, restart the machine",
        remedy=Remedy.RETRY,
    ),
}
"""Messages of MLX and drivers (regular expressions), and the outcome if they end a worker."""


def known_message(text: str) -> Outcome | None:
    """Return the outcome for the last line with a known message; ``None`` without one.

    The last one counts, because the worker survived the earlier ones.
    """
    for line in reversed(text.splitlines()):
        for pattern, outcome in _MESSAGES.items():
            if re.search(pattern, line):
                return replace(outcome, evidence=line.strip())
    return None
