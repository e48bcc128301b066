"""The Hugging Face Hub: its cache, and what has to be fetched from it, in the parent.

`huggingface_hub` is imported inside the functions: most runs train synthesized presets and never
need it.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import tenacity

from your_ai import safetensors
from your_ai.errors import MachineError, UsageError
from your_ai.units import show_size

# As mlx-lm's own loader takes them, less the code: nothing of a model's is ever run.
_FILES = ["*.json", "model*.safetensors"]
_RETRIED_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_REFUSED = frozenset({401, 403})
_BACKOFF = tenacity.wait_exponential_jitter(initial=1, max=10)
_LONGEST_WAIT = 60.0
# After a fault that took longer than this, whoever waits for a config is told of it.
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

    _configure()

    def ask() -> str:
        sha = HfApi().model_info(model_id, timeout=constants.HF_HUB_ETAG_TIMEOUT).sha
        return str(sha)

    try:
        # Somebody waits at the terminal.
        return Revision(_retried(model_id, ask, patience=_PATIENCE_SECONDS))
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

    _configure()
    cached = try_to_load_from_cache(model_id, "config.json", revision=sha)
    if isinstance(cached, str):
        return Path(cached)

    def fetch() -> str:
        return hf_hub_download(model_id, "config.json", revision=sha)

    return Path(_retried(model_id, fetch, patience=_PATIENCE_SECONDS))


def download(model_id: str, sha: str) -> Path:
    """The folder with config and weights of that commit, downloaded unless it is cached whole.

    Raises:
        UsageError: when there is no such model, or it is not open to this user.
        MachineError: when the hub cannot be reached, or the disk is too small or full.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    _configure()

    def fetch() -> str:
        # snapshot_download takes a hub that is down for one that has nothing new, and returns what
        # is cached, be it the config alone: so this is asked first.
        info = HfApi().model_info(
            model_id, revision=sha, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        _check_disk(model_id, sha, sizes)
        return str(snapshot_download(model_id, revision=sha, allow_patterns=_FILES))

    whole = _cached_whole(model_id, sha)
    return whole if whole is not None else Path(_retried(model_id, fetch))


def show_no_progress() -> None:
    """Have no progress bars, also at a terminal."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def _configure() -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars

    # Nothing is wanted of the hub but the model; with telemetry it is asked for a list of agents.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    # Its own retries are a line each, before our one line.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    # In a file or a pipe one of its bars is a line for every update; the user's own setting stays.
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not sys.stderr.isatty():
        disable_progress_bars()


def _cached_revision(model_id: str) -> str | None:
    """The commit of the main branch when its config was last fetched."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.file_download import repo_folder_name

    cached = try_to_load_from_cache(model_id, "config.json")
    if isinstance(cached, str):
        return Path(cached).parent.name
    # Fetched by its commit alone, it is on no branch: then it is the newest commit with a config.
    folder = repo_folder_name(repo_id=model_id, repo_type="model")
    configs = Path(constants.HF_HUB_CACHE, folder, "snapshots").glob("*/config.json")
    newest = max(configs, key=lambda path: path.lstat().st_mtime, default=None)
    return None if newest is None else newest.parent.name


def _cached_whole(model_id: str, sha: str) -> Path | None:
    """The cached folder of the model if no file of its weights is missing or damaged there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            model_id, revision=sha, allow_patterns=_FILES, local_files_only=True
        )
        safetensors.check_folder(Path(folder))
    except (LocalEntryNotFoundError, UsageError):
        return None
    return Path(folder)


def _check_disk(model_id: str, sha: str, sizes: Mapping[str, int]) -> None:
    """Raise MachineError unless there is room for what of these, in bytes, is not cached yet."""
    from huggingface_hub import constants, try_to_load_from_cache

    wanted = sum(
        size
        for name, size in sizes.items()
        if any(fnmatch(name, pattern) for pattern in _FILES)
        and not isinstance(try_to_load_from_cache(model_id, name, revision=sha), str)
    )
    cache = Path(constants.HF_HUB_CACHE)
    there = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if wanted > free:
        raise MachineError(
            f"{model_id} takes {show_size(wanted)} of disk, and {show_size(free)} is free in "
            f"{cache}; free some, or set HF_HOME to a folder on another disk."
        )


def _retried(model_id: str, fetch: Callable[[], str], patience: float = math.inf) -> str:
    """What ``fetch`` returns; tried again after a transient fault, but not after ``patience``."""
    import httpx2  # huggingface_hub's own transport, whose faults it passes on
    from huggingface_hub import errors

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_transient),
        stop=tenacity.stop_after_attempt(3) | tenacity.stop_before_delay(patience),
        wait=_wait,
        reraise=True,
    )
    try:
        return retrying(fetch)
    except errors.GatedRepoError as error:
        raise UsageError(
            f"{model_id} is gated: accept its terms on the hub, then run `hf auth login`."
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UsageError(
            f"The hub has no model {model_id}, or it is private; check the name, "
            "or run `hf auth login`."
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        file = error.response.url.path.rpartition("/")[2]
        raise UsageError(f"{model_id} has no {file} on the hub; name another model.") from error
    except errors.HFValidationError as error:
        raise UsageError(f"No folder is called {model_id}, and no hub id can be.") from error
    except (OSError, httpx2.HTTPError, RuntimeError) as error:  # Xet wraps ENOSPC in the last one
        if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in _REFUSED:
            raise UsageError(
                f"The hub refuses {model_id} ({_first_line(error)}); check the token in HF_TOKEN, "
                "or run `hf auth login`."
            ) from error
        raise MachineError(
            f"Cannot get {model_id} from the hub ({_first_line(error)}); check the network and the "
            "free disk space, or name a local folder."
        ) from error


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds until the next attempt: a second or two, or what the hub asks for, up to a minute."""
    error = state.outcome.exception() if state.outcome else None
    asked = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "")
    seconds = float(asked) if asked.isdecimal() else 0.0
    return min(max(seconds, _BACKOFF(state)), _LONGEST_WAIT)


def _is_transient(error: BaseException) -> bool:
    """Whether trying again can help: a transport fault, or a status that says so.

    Not by ``OSError``: that is also what "gated" and "no such model" are, and offline mode is a
    ``ConnectionError`` (huggingface_hub 2).
    """
    import httpx2
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return False
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code in _RETRIED_STATUS
    return isinstance(error, httpx2.TransportError | ConnectionError | TimeoutError)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
