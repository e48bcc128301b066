"""The Hugging Face Hub: its cache, and what has to be fetched from it, in the parent.

`huggingface_hub` is imported inside the functions: most runs train synthesized presets and never
need it.
"""

from __future__ import annotations

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

    cached = try_to_load_from_cache(model_id, "config.json")
    if isinstance(cached, str):
        return Path(cached)
    return Path(_fetch(model_id, lambda: hf_hub_download(model_id, "config.json")))


def download(model_id: str) -> Path:
    """The folder with the model's config and weights, downloaded as far as it is not cached.

    Raises:
        UsageError: when there is no such model, or it is not open to this user.
        MachineError: when the hub cannot be reached or the disk is full.
    """
    from huggingface_hub import snapshot_download

    return Path(_fetch(model_id, lambda: str(snapshot_download(model_id, allow_patterns=_FILES))))


def _fetch(model_id: str, fetch: Callable[[], str]) -> str:
    from huggingface_hub import errors

    try:
        return _retrying()(fetch)
    except errors.GatedRepoError as error:
        raise UsageError(
            f"{model_id} is gated: accept its terms on the hub, then run `hf auth login`."
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UsageError(
            f"The hub has no model {model_id}, or it is private; check the name, or `hf auth login`."
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise UsageError(f"{model_id} has no config.json on the hub; it is not a model.") from error
    except errors.HFValidationError as error:
        raise UsageError(f"{model_id} is not an id that the hub can have: {error}") from error
    except OSError as error:
        raise MachineError(
            f"Cannot get {model_id} from the hub ({_first_line(error)}); check the network and the "
            "free disk space, or name a local folder."
        ) from error


def _retrying() -> tenacity.Retrying:
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_transient),
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_exponential_jitter(initial=1, max=10),
        reraise=True,
    )


def _is_transient(error: BaseException) -> bool:
    """Whether trying again can help: a transport fault, or a status that says so.

    Not by ``OSError``: that is also what "gated" and "no such model" are, and offline mode is a
    ``ConnectionError`` (huggingface_hub 2).
    """
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        return False
    if isinstance(error, errors.HfHubHTTPError):
        return error.response is not None and error.response.status_code in _RETRIED_STATUS
    return isinstance(error, ConnectionError | TimeoutError)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
