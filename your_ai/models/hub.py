"""Find and download models on the Hugging Face Hub. Only the parent process does this.

`huggingface_hub` is imported inside the functions, because most runs do not need it.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from your_ai.errors import MachineError, UsageError
from your_ai.models import weight_files
from your_ai.models.hub_http import ask
from your_ai.units import show_size

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

# huggingface_hub reads these when it is first imported. By default it prints a warning for each
# retry and, to a file or a pipe, a line for each update of a progress bar.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("HF_HUB_VERBOSITY", "error")
if not sys.stderr.isatty():
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

_PATIENCE_SECONDS = 8.0
"""Limit for requests at the start of a command, while the user waits."""

_TOKENIZER_SETTINGS = (
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt"),
    *("chat_template.json", "*.jinja", "config.json"),
)

# The files that mlx-lm's loader downloads, except for Python files: a model's code is never run.
_FILES = [
    *("*.json", "model*.safetensors", "tokenizer.model", "*.tiktoken", "tiktoken.model"),
    *("*.txt", "*.jsonl", "*.jinja"),
]

_TOKENIZER_FILES = [*weight_files.TOKENIZER_FILES, *_TOKENIZER_SETTINGS]


@dataclass(frozen=True, slots=True)
class Revision:
    """A model's commit. ``note`` is set if the Hub could not confirm that it is current."""

    sha: str
    note: str | None = None


def revision(model_id: str) -> Revision:
    """Return the model's current commit or, if the Hub is unreachable, the newest cached one.

    Raises the same errors as `ask`.
    """
    try:
        return Revision(str(_info(model_id, patience=_PATIENCE_SECONDS).sha))
    except MachineError as error:
        cached = _cached_revision(model_id)
        if cached is None:
            raise
        return Revision(
            cached,
            f"Using the cached revision {cached[:8]} of {model_id}, which may be outdated. "
            f"{str(error).partition(';')[0]}.",
        )


def config_file(model_id: str, sha: str) -> Path:
    """Return the path of a commit's ``config.json``, downloaded unless it is cached.

    Raises the same errors as `ask`.
    """
    return _fetch(model_id, "config.json", sha, _PATIENCE_SECONDS)


def download(
    model_id: str, sha: str, *, is_complete: Callable[[Path], bool] = lambda _: True
) -> Path:
    """Return the folder with the files of a commit, downloaded unless they are cached.

    A cached folder is used if its weights are complete and ``is_complete(folder)`` is true.
    Raises the same errors as `ask`, and MachineError if the disk is too small.
    """
    folder = _snapshots(model_id) / sha
    if _has_weights(folder) and is_complete(folder):
        return folder
    try:
        listed = _info(model_id, sha).siblings or ()
    except MachineError as error:
        raise MachineError(
            f"{error} The cache lacks {_lacking(folder)} of {model_id}; with a connection to the "
            f"Hub, `hf download {model_id} --revision {sha}` gets them."
        ) from error
    wanted = [
        file for file in listed if any(fnmatch(file.rfilename, pattern) for pattern in _FILES)
    ]
    _check_disk(model_id, wanted)
    # Weights come last: if they are complete, so are the other files. One file at a time in this
    # thread, because the threads of snapshot_download do not stop on Ctrl-C. (Xet downloads the
    # parts of a file in parallel.)
    for file in sorted(wanted, key=lambda file: file.rfilename.endswith(".safetensors")):
        _fetch(model_id, file.rfilename, sha)
    return folder


def tokenizer(model_id: str, sha: str) -> Path:
    """Return the folder with the tokenizer of a commit, downloaded unless it is cached.

    Raises the same errors as `ask`.
    """
    folder = _snapshots(model_id) / sha
    if not weight_files.has_tokenizer(folder):
        listed = _info(model_id, sha, patience=_PATIENCE_SECONDS).siblings or ()
        for name in (file.rfilename for file in listed):
            if any(fnmatch(name, pattern) for pattern in _TOKENIZER_FILES):
                _fetch(model_id, name, sha, _PATIENCE_SECONDS)
    return folder


def is_cached(model_id: str) -> bool:
    """Return whether all weights of the newest cached commit are in the cache."""
    sha = _cached_revision(model_id)
    return sha is not None and _has_weights(_snapshots(model_id) / sha)


def cache_dir() -> Path:
    """Return the folder to which models are downloaded."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def hide_progress_bars() -> None:
    """Turn off progress bars of downloads, even at a terminal."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def _info(model_id: str, sha: str | None = None, *, patience: float = math.inf) -> ModelInfo:
    """Return the Hub's information on a model; for a commit, file sizes are included."""
    from huggingface_hub import constants, model_info

    limit = constants.HF_HUB_ETAG_TIMEOUT
    with_sizes = sha is not None
    request = partial(model_info, model_id, revision=sha, files_metadata=with_sizes, timeout=limit)
    return ask(model_id, request, patience)


def _fetch(model_id: str, file: str, sha: str, patience: float = math.inf) -> Path:
    """Return the path of a file of a commit, downloaded unless it is cached."""
    from huggingface_hub import hf_hub_download

    return Path(ask(model_id, partial(hf_hub_download, model_id, file, revision=sha), patience))


def _cached_revision(model_id: str) -> str | None:
    """Return the commit whose config was cached last, or ``None``."""
    configs = _snapshots(model_id).glob("*/config.json")
    present = (path for path in configs if path.exists())  # skips dangling links
    newest = max(present, key=lambda path: path.lstat().st_mtime, default=None)
    return None if newest is None else newest.parent.name


def _has_weights(folder: Path) -> bool:
    try:
        weight_files.check_folder(folder)
    except UsageError:
        return False
    return True


def _lacking(folder: Path) -> str:
    """Return what is missing in a cached folder, in words."""
    if _has_weights(folder):
        return "the tokenizer files"
    return "some of the weights" if any(folder.glob("model*.safetensors")) else "the weights"


def _check_disk(model_id: str, files: list[RepoSibling]) -> None:
    """Raise MachineError if the disk is too small for the files that are not cached yet."""
    # The cache is addressed by content: another commit may have stored the same file.
    blobs = _snapshots(model_id).with_name("blobs")
    wanted = sum(
        file.size or 0
        for file in files
        if not (blobs / str(file.lfs.sha256 if file.lfs else file.blob_id)).exists()
    )
    cache = cache_dir()
    existing = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if wanted > free:
        raise MachineError(
            f"{model_id} needs {show_size(wanted)} of disk space, but {cache} has only "
            f"{show_size(free)} left. Free some space, or set HF_HOME to a folder on another disk."
        )


def _snapshots(model_id: str) -> Path:
    """Return the folder with a subfolder per cached commit.

    The layout is described in huggingface_hub's documentation, "Understand caching".
    """
    return cache_dir() / f"models--{model_id.replace('/', '--')}" / "snapshots"
