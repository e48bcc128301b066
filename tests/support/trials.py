"""What the tests of real processes share: trials to run, and ways to wait for what they do."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

from worker.protocol.codec import ProtocolError, decode_event
from worker.protocol.messages import Configuration, Event, ModelSource, TrialRequest
from your_ai.supervision.observation import Observation
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.supervision.trial_log import TrialLog

T = TypeVar("T")

PATIENT = Limits(deadline=90.0, silence=60.0, grace=5.0)
"""For what must end by itself. MLX compiles its CPU kernels at their first use on a machine."""

NO_BUDGET = 2**40
FOREVER = 100_000
"""Counted steps that no test waits for."""


def tiny_request(steps: int = 2, **config: Any) -> TrialRequest:
    """A training that takes milliseconds a step, unless ``config`` makes the model larger."""
    tiny = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "intermediate_size": 192,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-5,
        "vocab_size": 512,
        "rope_theta": 10000.0,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
    }
    return TrialRequest(
        model=ModelSource({**tiny, **config}),
        configuration=Configuration(batch_size=1, lora_rank=8, lora_layers=4, seq_length=16),
        steps=steps,
        budget_bytes=NO_BUDGET,
    )


def giant_request() -> TrialRequest:
    """4 GiB of weights, the first of them asked for at once: nothing is left to the last moment."""
    return tiny_request(hidden_size=1024, vocab_size=2**20)


def fake(part: Callable[..., None]) -> list[str]:
    """The command that runs this part of a module of fakes."""
    return [sys.executable, "-m", part.__module__, part.__name__]


def tapped(tap: Path) -> list[str]:
    """The command that runs the real worker and copies its events to ``tap``."""
    return [sys.executable, "-m", "tests.support.fakes.tapped", str(tap)]


def observe(part: Callable[..., None], log: TrialLog, limits: Limits = PATIENT) -> Observation:
    return supervise(b"{}\n", log=log, limits=limits, command=fake(part))


@contextmanager
def supervising(
    request: bytes, log: TrialLog, command: list[str], limits: Limits = PATIENT
) -> Iterator[Future[Observation]]:
    """Supervise beside the test, so that it can interfere."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(supervise, request, log=log, limits=limits, command=command)


def wait_for(
    find: Callable[[], T | None], what: str, within: float = 90.0, every: float = 0.005
) -> T:
    """What ``find`` finds as soon as that is something; fails when it takes too long."""
    deadline = time.monotonic() + within
    while not (found := find()):
        assert time.monotonic() < deadline, f"waited {within} s for {what}"
        time.sleep(every)
    return found


def events_in(tap: Path, kind: type[Event]) -> list[Event]:
    """The events of one kind that a tapped worker has sent so far."""
    return [event for event in _events(tap) if isinstance(event, kind)]


def _events(tap: Path) -> Iterator[Event]:
    lines = tap.read_bytes().splitlines() if tap.exists() else []
    for line in lines:
        try:
            yield decode_event(line)
        except ProtocolError:  # the last line, still being written
            return


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that only waits to be reaped has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
