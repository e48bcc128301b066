"""Ask a worker how many tokens the samples of a data folder have."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.protocol.codec import encode
from worker.protocol.messages import Event, Failed, Lengths, LengthsDone
from worker.protocol.requests import LengthsRequest, ModelSource
from your_ai.errors import MachineError, UsageError, YourAIError
from your_ai.supervision.observation import Kill, Notice, Observation
from your_ai.supervision.probe import blameless, last_words
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.supervision.trial_log import TrialLog

LIMITS = Limits(deadline=math.inf)
"""A large file takes as long as it takes; the worker reports every few hundred samples."""


@dataclass(frozen=True, slots=True)
class DataLengths:
    """The tokens of each training and validation sample, in the order of mlx-lm's batches.

    ``seconds_per_sample`` is the time for tokenizing one.
    """

    train: tuple[int, ...]
    valid: tuple[int, ...]
    seconds_per_sample: float


def tokenized_lengths(
    tokenizer: Path,
    config: dict[str, Any],
    data: Path,
    on_progress: Callable[[int], None] = lambda _: None,
) -> DataLengths:
    """Return the lengths of the samples in the folder ``data``, which must have a ``train.jsonl``.

    ``tokenizer`` is a folder with the tokenizer of the model with that ``config``. ``on_progress``
    is called with the number of samples that are done.

    Raises:
        UsageError: if a sample cannot be tokenized, or the tokenizer cannot be loaded.
        MachineError: if the machine is short of memory or mlx-lm does not answer.
    """
    done = 0

    def on_event(event: Notice) -> None:
        nonlocal done
        if isinstance(event, Lengths):
            done += len(event.tokens)
            on_progress(done)

    request = LengthsRequest(ModelSource(config, str(tokenizer)), str(data))
    with tempfile.TemporaryDirectory(prefix="your_ai-") as folder:
        log = TrialLog(Path(folder) / "lengths.log")
        seen = supervise(encode(request), log=log, limits=LIMITS, on_event=on_event)
    if seen.killed is Kill.INTERRUPT:
        raise KeyboardInterrupt
    last = seen.events[-1] if seen.events else None
    if isinstance(last, LengthsDone):
        return _collected(seen.events)
    raise _error(seen, tokenizer)


def _error(seen: Observation, tokenizer: Path) -> YourAIError:
    last = seen.final
    if isinstance(last, Failed) and last.error == "DataError":
        return UsageError(f"{last.message.rstrip('.')}.")  # starts with the file's path
    if isinstance(last, Failed) and not last.error.endswith("MemoryError"):
        problem = last.message.strip().partition("\n")[0] or last.error
        return UsageError(
            f"Cannot tokenize the data with the tokenizer in {tokenizer}: {problem.rstrip('.')}. "
            "Check the tokenizer's files, or leave out --data."
        )
    return blameless(seen) or MachineError(f"The data could not be tokenized: {last_words(seen)}.")


def _collected(events: Iterable[Event]) -> DataLengths:
    found = [event for event in events if isinstance(event, Lengths)]
    train, valid = (
        tuple(tokens for event in found if event.file == name for tokens in event.tokens)
        for name in ("train", "valid")
    )
    seconds = sum(event.seconds for event in found)
    return DataLengths(train, valid, seconds / (len(train) + len(valid)))
