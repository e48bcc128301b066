"""Helpers for tests of real worker processes: requests, commands, and waiting."""

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
from worker.protocol.configuration import Configuration
from worker.protocol.messages import Event
from worker.protocol.requests import ModelSource, TrialRequest
from your_ai.supervision.observation import Observation
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.supervision.trial_log import TrialLog

T = TypeVar("T")

PATIENT = Limits(deadline=90.0, silence=60.0, grace=5.0)
"""Limits that no healthy worker reaches, even if MLX must compile its CPU kernels first."""

NO_BUDGET = 2**40
FOREVER = 100_000
"""Number of steps that takes longer than any test."""


def tiny_request(steps: int = 2, **config: Any) -> TrialRequest:
    """Return a trial with steps of a few milliseconds. ``config`` may make the model larger."""
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
    """Return a trial of a model with 4 GiB of weights, which are allocated from the start."""
    return tiny_request(hidden_size=1024, vocab_size=2**20)


def fake(behavior: Callable[..., None]) -> list[str]:
    """Return the command that runs a function of `tests.support.fakes` as a worker."""
    return [sys.executable, "-m", behavior.__module__, behavior.__name__]


def recorded_worker(events: Path) -> list[str]:
    """Return the command that runs the real worker and also writes its events to a file."""
    return [sys.executable, "-m", "tests.support.fakes.recorded_worker", str(events)]


def observe(behavior: Callable[..., None], log: TrialLog, limits: Limits = PATIENT) -> Observation:
    return supervise(b"{}\n", log=log, limits=limits, command=fake(behavior))


@contextmanager
def supervising(
    request: bytes, log: TrialLog, command: list[str], limits: Limits = PATIENT
) -> Iterator[Future[Observation]]:
    """Supervise a worker in a thread, so that the test can interfere with the worker."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(supervise, request, log=log, limits=limits, command=command)


def wait_for(
    find: Callable[[], T | None], what: str, within: float = 90.0, every: float = 0.005
) -> T:
    """Call ``find`` until it returns a true value, and return that. Fail after ``within`` s."""
    deadline = time.monotonic() + within
    while not (found := find()):
        assert time.monotonic() < deadline, f"waited {within} s for {what}"
        time.sleep(every)
    return found


def events_in(events: Path, kind: type[Event]) -> list[Event]:
    """Return the events of one kind that a `recorded_worker` has sent so far."""
    return [event for event in _events(events) if isinstance(event, kind)]


def _events(events: Path) -> Iterator[Event]:
    lines = events.read_bytes().splitlines() if events.exists() else []
    for line in lines:
        try:
            yield decode_event(line)
        except ProtocolError:  # the last line may be incomplete
            return


def is_gone(pid: int) -> bool:
    """Return whether the process has ended. A zombie has ended, too."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
