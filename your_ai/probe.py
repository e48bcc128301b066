"""Asks a worker what MLX trains on here, so that the parent need not import MLX."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.protocol import PROBE_FLAG, ProbeAnswer, ProbeRequest, encode_request
from your_ai.errors import MachineError
from your_ai.log import TrialLog
from your_ai.observation import Kill, Observation
from your_ai.supervisor import Limits, supervise


def probe(configs: Mapping[str, Mapping[str, Any]], log: Path) -> ProbeAnswer:
    """The device, and the facts of each model whose config is given.

    Raises:
        MachineError: when MLX is missing, has no backend for this machine, or does not answer.
        KeyboardInterrupt: when the user stopped it.
    """
    request = encode_request(ProbeRequest({name: dict(c) for name, c in configs.items()}))
    seen = supervise(
        request, log=TrialLog(log), limits=Limits(deadline=300), arguments=[PROBE_FLAG]
    )
    if seen.killed is Kill.INTERRUPT:
        raise KeyboardInterrupt
    answer = seen.events[-1] if seen.events else None
    if isinstance(answer, ProbeAnswer):
        return answer
    raise MachineError(
        f"MLX does not work here ({_cause(seen)}). Install it with: {install_line()}"
    )


def install_line() -> str:
    """The command that installs the MLX backend that fits this machine."""
    if platform.system() == "Darwin":
        return "pip install --upgrade your_ai"
    return f"pip install 'your_ai[{'cuda13' if shutil.which('nvidia-smi') else 'cpu'}]'"


def _cause(seen: Observation) -> str:
    if seen.killed is not None:
        return "it did not answer"
    lines = seen.log_tail.strip().splitlines()
    return lines[-1] if lines else f"the worker ended with exit status {seen.returncode}"
