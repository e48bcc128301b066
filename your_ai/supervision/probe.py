"""Ask a worker about the device and models, so that the parent need not import MLX."""

from __future__ import annotations

import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.protocol.codec import encode
from worker.protocol.messages import Device, ModelFacts, ProbeAnswer, ProbeRequest
from your_ai.errors import MachineError, UsageError
from your_ai.supervision.observation import Kill
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.supervision.trial_log import TrialLog


def probe_device() -> Device:
    """Return the device that MLX trains on; raise MachineError if MLX does not work."""
    answer = _probe({})
    if isinstance(answer, str):
        raise MachineError(f"MLX does not work ({answer}). Install it with: {install_line()}")
    return answer.device


def probe_models(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, ModelFacts | str]:
    """Return the facts about each model by name or, as a string, why mlx-lm cannot build it.

    Raises UsageError if a config crashes the worker.
    """
    if not configs:
        return {}
    answer = _probe(configs)
    if isinstance(answer, str):
        names = " or ".join(configs)
        raise UsageError(f"mlx-lm cannot create the model {names}: {answer}. Choose another model.")
    return {**answer.models, **answer.problems}


def install_line() -> str:
    """Return the command that installs the MLX backend for this machine."""
    pip = f"{shlex.quote(sys.executable)} -m pip install"
    if platform.system() == "Darwin":
        return f"{pip} --force-reinstall mlx"
    if shutil.which("nvidia-smi"):
        return f"{pip} 'mlx[cuda13]' (cuda12 for a driver older than 580)"
    return f"{pip} 'mlx[cpu]'"


def _probe(configs: Mapping[str, Mapping[str, Any]]) -> ProbeAnswer | str:
    """Return the answer, or why there is none; raise KeyboardInterrupt if the user stopped it."""
    request = ProbeRequest({name: dict(config) for name, config in configs.items()})
    with tempfile.TemporaryDirectory(prefix="your_ai-") as folder:
        observation = supervise(
            encode(request),
            log=TrialLog(Path(folder) / "probe.log"),
            limits=Limits(deadline=300),
        )
    if observation.killed is Kill.INTERRUPT:
        raise KeyboardInterrupt
    if observation.events and isinstance(answer := observation.events[-1], ProbeAnswer):
        return answer
    if observation.killed is not None:
        return "the worker did not answer"
    lines = observation.log_tail.strip().splitlines()
    return lines[-1] if lines else f"the worker ended with exit status {observation.returncode}"
