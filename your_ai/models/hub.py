"""The Hugging Face Hub: its cache, and what has to be fetched from it, in the parent.

`huggingface_hub` is imported inside the functions: most runs train synthesized presets and never
need it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from your_ai.errors import MachineError, UsageError
from your_ai.models import weight_files
from your_ai.models.hub_http import configure, retried, stoppable
from your_ai.units import show_size

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

# As mlx-lm's own loader takes them, less the code: nothing of a model's is ever run.
_FILES = [
    *("*.json", "model*.safetensors", "tokenizer.model", "*.tiktoken", "tiktoken.model"),
    *("*.txt", "*.jsonl", "*.jinja"),
]
# What somebody at a terminal waits: after a fault that took longer than this they are told of it.
_PATIENCE_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Revision:
    """A model's commit. ``note`` is set where the hub could not be asked whether it is current."""

    sha: str
    note: str | None = None


def revision(model_id: str) -> Revision:
    """The commit that a model is at now; where the hub cannot be asked, the one that is cached.

    Named once, so that its config and, minutes later, its weights are of the same commit.

    Raises:
        UsageError: when there is no such model, or it is not open to this user.
        MachineError: when the hub cannot be reached, and no config of the model is cached.
    """
    from huggingface_hub import HfApi, constants

    configure(longest_wait=_PATIENCE_SECONDS)

    def ask() -> str:
        sha = HfApi().model_info(model_id, timeout=constants.HF_HUB_ETAG_TIMEOUT).sha
        return str(sha)

    try:
        return Revision(retried(model_id, ask, patience=_PATIENCE_SECONDS))
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
    """The ``config.json`` of that commit, from the cache or, that small file alone, the hub.

    Raises:
        UsageError: when the model has none.
        MachineError: when the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    configure(longest_wait=_PATIENCE_SECONDS)
    cached = try_to_load_from_cache(model_id, "config.json", revision=sha)
    if isinstance(cached, str):
        return Path(cached)

    def fetch() -> str:
        return hf_hub_download(model_id, "config.json", revision=sha)

    return Path(retried(model_id, fetch, patience=_PATIENCE_SECONDS))


def download(model_id: str, sha: str, *, is_whole: Callable[[Path], bool] = lambda _: True) -> Path:
    """The folder with the files of that commit, downloaded unless it is cached whole.

    That it is when its weights are all there, and ``is_whole`` says so of the rest.

    Raises:
        UsageError: when there is no such model, or it is not open to this user.
        MachineError: when the hub cannot be reached, or the disk is too small or full.
        KeyboardInterrupt: when the user stopped it.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    configure()

    def fetch() -> str:
        info = HfApi().model_info(
            model_id, revision=sha, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
        files = [file for file in info.siblings or () if _is_wanted(file)]
        _check_disk(model_id, sha, files)
        folder = Path(snapshot_download(model_id, revision=sha, allow_patterns=_FILES))
        # It takes a hub that will not list its files for one that has nothing new, and returns what
        # is cached, be it the config alone.
        if not all((folder / file.rfilename).exists() for file in files):
            raise ConnectionError("it did not list its files")
        return str(folder)

    whole = _cached_whole(model_id, sha)
    if whole is not None and is_whole(whole):
        return whole
    return Path(stoppable(lambda: retried(model_id, fetch)))


def is_cached(model_id: str) -> bool:
    """Whether all weights of some commit of the model are here."""
    sha = _cached_revision(model_id)
    return sha is not None and _cached_whole(model_id, sha) is not None


def cache_dir() -> Path:
    """Where models are kept."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def show_no_progress() -> None:
    """Have no progress bars, also at a terminal."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def _cached_revision(model_id: str) -> str | None:
    """The newest commit whose config is cached, so far as the cache tells; ``None`` without one.

    A branch's place is written when other tools fetch by its name. What is fetched by the commit
    alone, as here, leaves that as it is: so a config that came later is newer.
    """
    cache = _cache_of(model_id)
    branch = cache / "refs" / "main"
    at_branch = branch.read_text() if branch.is_file() else None

    def age(config: Path) -> tuple[float, bool]:
        is_branch = config.parent.name == at_branch
        fetched = config.lstat().st_mtime
        return max(fetched, branch.stat().st_mtime) if is_branch else fetched, is_branch

    # A link into nothing, where the content is gone, is no config.
    configs = [path for path in cache.glob("snapshots/*/config.json") if path.is_file()]
    newest = max(configs, key=age, default=None)
    return None if newest is None else newest.parent.name


def _cached_whole(model_id: str, sha: str) -> Path | None:
    """The cached folder of the model if no file of its weights is missing or damaged there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            model_id, revision=sha, allow_patterns=_FILES, local_files_only=True
        )
        weight_files.check_folder(Path(folder))
    except (LocalEntryNotFoundError, UsageError):
        return None
    return Path(folder)


def _check_disk(model_id: str, sha: str, files: Iterable[RepoSibling]) -> None:
    """Raise MachineError unless there is room for what of these files is not cached yet."""
    wanted = sum(file.size or 0 for file in files if not _is_here(model_id, sha, file))
    cache = cache_dir()
    there = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if wanted > free:
        raise MachineError(
            f"{model_id} takes {show_size(wanted)} of disk, and {show_size(free)} is free in "
            f"{cache}; free some, or set HF_HOME to a folder on another disk."
        )


def _is_wanted(file: RepoSibling) -> bool:
    return any(fnmatch(file.rfilename, pattern) for pattern in _FILES)


def _is_here(model_id: str, sha: str, file: RepoSibling) -> bool:
    """Whether the file is on disk, be it as part of another commit: the cache goes by content."""
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(model_id, file.rfilename, revision=sha), str):
        return True
    content = file.lfs.sha256 if file.lfs else file.blob_id
    return content is not None and (_cache_of(model_id) / "blobs" / content).exists()


def _cache_of(model_id: str) -> Path:
    """The model's folder in the cache, with its ``blobs``, ``refs`` and ``snapshots``."""
    from huggingface_hub.file_download import repo_folder_name

    return cache_dir() / repo_folder_name(repo_id=model_id, repo_type="model")
