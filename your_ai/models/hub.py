"""The Hugging Face Hub: its cache, and the downloads, which only the parent makes.

`huggingface_hub` is imported inside the functions: most runs never need it.
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

# huggingface_hub reads these at its first import. Its own retries are a warning each, before our
# one line; in a file or a pipe a progress bar is a line for every update.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("HF_HUB_VERBOSITY", "error")
if not sys.stderr.isatty():
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

_PATIENCE_SECONDS = 8.0  # while somebody at a terminal waits
# As mlx-lm's own loader takes them, except Python files: a model's own code is never run.
_FILES = [
    *("*.json", "model*.safetensors", "tokenizer.model", "*.tiktoken", "tiktoken.model"),
    *("*.txt", "*.jsonl", "*.jinja"),
]


@dataclass(frozen=True, slots=True)
class Revision:
    """A model's commit. ``note`` is set if the Hub could not confirm that it is current."""

    sha: str
    note: str | None = None


def revision(model_id: str) -> Revision:
    """The current commit; without the Hub, the newest one in the cache. Raises as `ask`."""
    try:
        return Revision(str(_info(model_id, patience=_PATIENCE_SECONDS).sha))
    except MachineError as error:
        cached = _cached_revision(model_id)
        if cached is None:
            raise
        return Revision(
            cached,
            f"{model_id} is taken from the cache, at revision {cached[:8]}, which may be outdated: "
            f"{str(error).partition(';')[0]}.",
        )


def config_file(model_id: str, sha: str) -> Path:
    """The ``config.json`` of that commit, downloaded unless it is cached. Raises as `ask`."""
    return _fetch(model_id, "config.json", sha, _PATIENCE_SECONDS)


def download(model_id: str, sha: str, *, is_whole: Callable[[Path], bool] = lambda _: True) -> Path:
    """The folder with the files of that commit, downloaded unless they are cached.

    A cached folder is used if its weights are complete and ``is_whole(folder)`` is true. Raises as
    `ask`, and MachineError when the disk is too small.
    """
    folder = _snapshots(model_id) / sha
    if _has_weights(folder) and is_whole(folder):
        return folder
    wanted = [
        file
        for file in _info(model_id, sha).siblings or ()
        if any(fnmatch(file.rfilename, pattern) for pattern in _FILES)
    ]
    _check_disk(model_id, wanted)
    # Weights last: where they are complete, so is the rest. In this thread, one after another: the
    # threads of snapshot_download do not stop at Ctrl-C. (Xet fetches a file's parts in parallel.)
    for file in sorted(wanted, key=lambda file: file.rfilename.endswith(".safetensors")):
        _fetch(model_id, file.rfilename, sha)
    return folder


def is_cached(model_id: str) -> bool:
    """Whether all weights of some commit of the model are in the cache."""
    sha = _cached_revision(model_id)
    return sha is not None and _has_weights(_snapshots(model_id) / sha)


def cache_dir() -> Path:
    """The folder that models are downloaded to."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def show_no_progress() -> None:
    """Show no progress bars, not even at a terminal."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def _info(model_id: str, sha: str | None = None, *, patience: float = math.inf) -> ModelInfo:
    """What the Hub says of the model; of a commit also the sizes of its files."""
    from huggingface_hub import constants, model_info

    limit = constants.HF_HUB_ETAG_TIMEOUT
    with_sizes = sha is not None
    request = partial(model_info, model_id, revision=sha, files_metadata=with_sizes, timeout=limit)
    return ask(model_id, request, patience)


def _fetch(model_id: str, file: str, sha: str, patience: float = math.inf) -> Path:
    """One file of that commit, downloaded unless it is cached."""
    from huggingface_hub import hf_hub_download

    return Path(ask(model_id, partial(hf_hub_download, model_id, file, revision=sha), patience))


def _cached_revision(model_id: str) -> str | None:
    """The commit whose config was cached last; ``None`` without one."""
    configs = _snapshots(model_id).glob("*/config.json")
    present = (path for path in configs if path.exists())  # no link whose target is gone
    newest = max(present, key=lambda path: path.lstat().st_mtime, default=None)
    return None if newest is None else newest.parent.name


def _has_weights(folder: Path) -> bool:
    try:
        weight_files.check_folder(folder)
    except UsageError:
        return False
    return True


def _check_disk(model_id: str, files: list[RepoSibling]) -> None:
    """Raise MachineError unless the files that are not cached yet fit on the disk."""
    # The cache stores by content: another commit may have brought the same file.
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
            f"{model_id} takes {show_size(wanted)} of disk, and {show_size(free)} is free in "
            f"{cache}; free some, or set HF_HOME to a folder on another disk."
        )


def _snapshots(model_id: str) -> Path:
    """A folder for each cached commit (layout: huggingface_hub, "Understand caching")."""
    return cache_dir() / f"models--{model_id.replace('/', '--')}" / "snapshots"
