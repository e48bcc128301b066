"""The training data as mlx-lm's datasets, checked before the weights are loaded."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from mlx_lm.tuner.datasets import CacheDataset, ChatDataset, TextDataset, create_dataset
from mlx_lm.utils import load_tokenizer

from worker.events import EventPipe
from worker.protocol.messages import Advanced, Tokenized, Truncated
from worker.protocol.requests import TrainingRequest

_REPORTS = 10
"""Number of reports while all sequences of a file are tokenized, each of at least 1000."""

_ADVANCE = 100
"""Number of sequences after which reading them is known not to hang. A resumed training reads
those before its checkpoint again, and that tokenizes them."""


class DataError(ValueError):
    """The data cannot be trained on; the message says why and what to do."""


def load_data(request: TrainingRequest, events: EventPipe) -> tuple[Any, Any]:
    """Return the training set and the validation set, ``None`` if missing.

    Tokenization is lazy. Only if prompts are masked, all sequences are tokenized here, and those
    without a completion are dropped.

    Raises:
        DataError: if a sequence cannot be tokenized, or too few of them have a completion.
    """
    eos = request.model.config.get("eos_token_id")
    tokenizer = load_tokenizer(Path(request.model.path or ""), eos_token_ids=eos)
    train, valid = (Path(request.data) / f"{name}.jsonl" for name in ("train", "valid"))
    data = _Dataset(train, tokenizer, request, events)
    return data, _Dataset(valid, tokenizer, request, events) if valid.exists() else None


class TokenizedFile(CacheDataset):  # type: ignore[misc]  # mlx-lm is untyped
    """A file's samples as mlx-lm's dataset, which tokenizes each of them when it is first read.

    ``folder`` is that of the tokenizer. Reading a sample raises DataError if it cannot be
    tokenized.
    """

    def __init__(
        self, path: Path, tokenizer: Any, folder: str | None, *, mask_prompt: bool
    ) -> None:
        self._path = path
        # Not mlx-lm's reader, which fails if the file starts with a byte order mark.
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            self._rows = [json.loads(line) for line in file]
        self._lines = list(range(1, len(self._rows) + 1))
        super().__init__(
            create_dataset(self._rows, tokenizer, SimpleNamespace(mask_prompt=mask_prompt))
        )
        if not (isinstance(self._data, TextDataset) or tokenizer.has_chat_template):
            raise DataError(
                f"{path} has prompts or messages, but the tokenizer in {folder} has no "
                "chat template; use a chat or instruct model, add a chat_template.jinja to that "
                'folder, or write the data as "text"'
            )

    def __getitem__(self, index: int) -> Any:
        try:
            return super().__getitem__(index)
        except MemoryError:
            raise
        except Exception as error:
            problem = str(error).strip().partition("\n")[0] or type(error).__name__
            where = f"{self._path}, line {self._lines[index]}"
            raise DataError(f"{where}: cannot be tokenized ({problem})") from error


class _Dataset(TokenizedFile):
    """A file to train on. The first sequence of all files to be truncated is reported."""

    _has_truncated: ClassVar[bool] = False

    def __init__(
        self, path: Path, tokenizer: Any, request: TrainingRequest, events: EventPipe
    ) -> None:
        self._events = events
        self._seq_length = request.configuration.seq_length
        self._read = 0
        super().__init__(path, tokenizer, request.model.path, mask_prompt=request.mask_prompt)
        if request.mask_prompt:
            self._drop_prompts(request.configuration.batch_size)
        else:
            self[0]  # a template that does not suit the data fails before the weights are loaded

    def __getitem__(self, index: int) -> Any:
        self._read += 1
        if self._read % _ADVANCE == 0:
            self._events.send(Advanced(self._events.now()))
        sequence = super().__getitem__(index)
        tokens = len(sequence[0])
        if tokens > self._seq_length and not _Dataset._has_truncated:
            _Dataset._has_truncated = True
            self._events.send(Truncated(self._events.now(), tokens))
        return sequence

    def _drop_prompts(self, batch_size: int) -> None:
        """Drop the sequences in which masking the prompt leaves nothing to train on."""
        total, kept = len(self), list[int]()
        every = max(total // _REPORTS, 1000)
        for index in range(total):
            if self._has_completion(index):
                kept.append(index)
            done = index + 1
            if done % every == 0 or done == total:
                now, dropped = self._events.now(), done - len(kept)
                self._events.send(Tokenized(now, self._path.name, done, dropped))
        if len(kept) < batch_size:
            left = f"only {len(kept)} of" if kept else "none of the"
            smaller = ", or lower --batch-size" if kept else ""
            optional = "" if self._path.stem == "train" else ", or remove the file"
            raise DataError(
                f"--mask-prompt needs {batch_size} or more sequences, but {left} {total} in "
                f"{self._path} have a completion within {self._seq_length} tokens; check the "
                f"completions, shorten the prompts, or raise --max-seq-length{smaller}{optional}"
            )
        self._rows[:] = [self._rows[index] for index in kept]  # mlx-lm's dataset has this list
        self._lines = [self._lines[index] for index in kept]
        self._proc_data: list[Any] = [self._proc_data[index] for index in kept]

    def _has_completion(self, index: int) -> bool:
        # A single message has no prompt, and mlx-lm fails to mask it.
        if isinstance(self._data, ChatDataset) and len(self._rows[index]["messages"]) < 2:
            return False
        tokens, offset = self[index]
        # The first token is never predicted, so it is no target even without a prompt.
        return bool(max(offset, 1) < min(len(tokens), self._seq_length))
