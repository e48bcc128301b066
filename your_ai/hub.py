"""The Hugging Face Hub: its cache, and what has to be fetched from it, in the parent.

`huggingface_hub` is imported inside the functions: most runs train synthesized presets and never
need it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import tenacity

from your_ai.errors import MachineError, UsageError

# As mlx-lm's own loader takes them, less the code: nothing of a model's is ever run.
_FILES = ["*.json", "model*.safetensors"]
_RETRIED_STATUS = frozenset({408, 429, 500, 502, 503, 504})


def config_file(model_id: str) -> Path:
    """The model's ``config.json``, from the cache or, that small file alone, from the hub.

    Raises:
        UsageError: when there is no such model, or it is not open to this user.
        MachineError: when the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(model_id, "config.json")
    except HFValidationError:  # the download below says it better
        cached = None
    if isinstance(cached, str):
        return Path(cached)
    # Once: huggingface_hub tries again by itself, and somebody is waiting at the terminal.
    return _fetch(model_id, lambda: hf_hub_download(model_id, "config.json"), attempts=1)


def download(model_id: str) -> Path:
    """The folder with the model's config and weights, downloaded as far as it is not cached.

    Raises:
        UsageError: when there is no such model, or it is not open to this user.
        MachineError: when the hub cannot be reached or the disk is full.
    """
    from huggingface_hub import snapshot_download

    return _fetch(
        model_id, lambda: str(snapshot_download(model_id, allow_patterns=_FILES)), attempts=3
    )


def _fetch(model_id: str, fetch: Callable[[], str], attempts: int) -> Path:
    import httpx2  # huggingface_hub's own transport, whose faults it passes on
    from huggingface_hub import errors

    # Its own retries are a line each, before our one line.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_transient),
        stop=tenacity.stop_after_attempt(attempts),
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
        raise UsageError(f"{model_id} has no config.json on the hub; it is no model.") from error
    except errors.HFValidationError as error:
        raise UsageError(f"No folder is called {model_id}, and no hub id can be.") from error
    except (OSError, httpx2.HTTPError) as error:
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
