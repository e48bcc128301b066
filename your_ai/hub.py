"""The Hugging Face Hub: its cache, and what has to be fetched from it, in the parent.

`huggingface_hub` is imported inside the functions: most runs train synthesized presets and never
need it.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path

import tenacity

from your_ai import safetensors
from your_ai.errors import MachineError, UsageError

# As mlx-lm's own loader takes them, less the code: nothing of a model's is ever run.
_FILES = ["*.json", "model*.safetensors"]
_RETRIED_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_REFUSED = frozenset({401, 403})
# After a fault that took longer than this, whoever waits for a config is told of it.
_PATIENCE_SECONDS = 8.0


def config_file(model_id: str) -> Path:
    """The model's ``config.json``, from the cache or, that small file alone, from the hub.

    Raises:
        UsageError: when there is no such model, or it is not open to this user.
        MachineError: when the hub cannot be reached.
    """
    from huggingface_hub import (
        constants,
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )
    from huggingface_hub.errors import HFValidationError

    _configure()

    def fetch() -> str:
        # Somebody is waiting at the terminal, and hf_hub_download by itself would try a hub that is
        # down for half a minute, one that does not answer for six: so this is asked first.
        url = hf_hub_url(model_id, "config.json")
        get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        return hf_hub_download(model_id, "config.json")

    try:
        cached = try_to_load_from_cache(model_id, "config.json")
    except HFValidationError:  # the download below says it better
        cached = None
    if isinstance(cached, str):
        return Path(cached)
    return _fetch(model_id, fetch, patience=_PATIENCE_SECONDS)


def download(model_id: str) -> Path:
    """The folder with the model's config and weights, downloaded unless it is cached whole.

    Raises:
        UsageError: when there is no such model, or it is not open to this user.
        MachineError: when the hub cannot be reached or the disk is full.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    _configure()

    def fetch() -> str:
        # snapshot_download takes a hub that is down for one that has nothing new, and returns what
        # is cached, be it the config alone: so this is asked first.
        HfApi().model_info(model_id, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        return str(snapshot_download(model_id, allow_patterns=_FILES))

    return _cached_whole(model_id) or _fetch(model_id, fetch)


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


def _cached_whole(model_id: str) -> Path | None:
    """The cached folder of the model if no file of its weights is missing or damaged there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(model_id, allow_patterns=_FILES, local_files_only=True)
        safetensors.check_folder(Path(folder))
    except (LocalEntryNotFoundError, UsageError):
        return None
    return Path(folder)


def _fetch(model_id: str, fetch: Callable[[], str], patience: float = math.inf) -> Path:
    """What ``fetch`` returns; tried again after a transient fault, but not after ``patience``."""
    import httpx2  # huggingface_hub's own transport, whose faults it passes on
    from huggingface_hub import errors

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_transient),
        stop=tenacity.stop_after_attempt(3) | tenacity.stop_after_delay(patience),
        wait=tenacity.wait_exponential_jitter(initial=1, max=10),
        reraise=True,
    )
    try:
        return Path(retrying(fetch))
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
    except (OSError, httpx2.HTTPError) as error:
        if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in _REFUSED:
            raise UsageError(
                f"The hub refuses {model_id} ({_first_line(error)}); check the token in HF_TOKEN, "
                "or run `hf auth login`."
            ) from error
        raise MachineError(
            f"Cannot get {model_id} from the hub ({_first_line(error)}); check the network and the "
            "free disk space, or name a local folder."
        ) from error


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
