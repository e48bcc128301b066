"""Requests to the Hugging Face Hub: how long they may take, and which faults are tried again.

`huggingface_hub` tries much again by itself, quickly and for some seconds; what is here goes round
that. It waits as long as a hub asks it to, which can be for ever: so that is bounded here as well.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import tenacity

from your_ai.errors import MachineError, UsageError

if TYPE_CHECKING:
    import httpx2  # huggingface_hub's own transport, whose faults it passes on

WINDOW_SECONDS = 300.0
"""The hub counts requests in windows of five minutes, and asks to wait for the next one
(https://huggingface.co/docs/hub/rate-limits)."""

_ATTEMPTS = 3
_BACKOFF = tenacity.wait_exponential_jitter(initial=1, max=10)
_RETRIED_STATUS = frozenset({408, 429, *range(500, 600)})
_REFUSED = frozenset({401, 403})


_stopped = threading.Event()
"""The user wants no more of the hub: the process is about to end."""


class _StoppedError(Exception):
    """Nothing more is asked."""


class _TooLongAWaitError(Exception):
    """The hub asks for more time than there is."""


def configure(longest_wait: float = WINDOW_SECONDS) -> None:
    """Set huggingface_hub up; a hub that asks to wait longer than ``longest_wait`` s has failed."""
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils.tqdm import disable_progress_bars

    # Nothing is wanted of the hub but the model; with telemetry it is asked for a list of agents.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    # Xet's library, in Rust, has a telemetry of its own and reads the environment.
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Its own retries are a line each, before our one line.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    # In a file or a pipe one of its bars is a line for every update; the user's own setting stays.
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not sys.stderr.isatty():
        disable_progress_bars()
    set_client_factory(partial(_client, longest_wait))


def retried(model_id: str, fetch: Callable[[], str], patience: float = math.inf) -> str:
    """What ``fetch`` returns; tried again after a transient fault, but not after ``patience`` s.

    Raises:
        UsageError: when there is no such model or file, or it is not open to this user.
        MachineError: when the hub cannot be reached, or the disk is full.
    """
    import httpx2
    from huggingface_hub import errors

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        stop=tenacity.stop_after_attempt(_ATTEMPTS) | tenacity.stop_before_delay(patience),
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
    except _TooLongAWaitError as error:
        raise MachineError(
            f"Cannot get {model_id} from the hub ({error}); try again then, or name a local folder."
        ) from error
    # Xet wraps ENOSPC in a RuntimeError; what a captive portal sends is no JSON: a ValueError.
    except (OSError, httpx2.HTTPError, RuntimeError, ValueError) as error:
        cause = _cause(error)
        if isinstance(cause, errors.OfflineModeIsEnabled):
            raise MachineError(
                f"Cannot get {model_id} from the hub (HF_HUB_OFFLINE is set); unset it, or name a "
                "local folder."
            ) from error
        if isinstance(cause, errors.HfHubHTTPError) and cause.response.status_code in _REFUSED:
            raise UsageError(
                f"The hub refuses {model_id} ({_first_line(cause)}); check the token in HF_TOKEN, "
                "or run `hf auth login`."
            ) from error
        raise MachineError(
            f"Cannot get {model_id} from the hub ({_first_line(cause)}); check the network and the "
            "free disk space, or name a local folder."
        ) from error


def stoppable(fetch: Callable[[], str]) -> str:
    """What ``fetch`` returns; a KeyboardInterrupt stops it, and is not kept waiting for that.

    huggingface_hub downloads in threads of its own, and lets no exception pass before they have
    ended: with the file, or with a silent hub's last time-out.
    """
    thread = ThreadPoolExecutor(1, "download")
    try:
        return thread.submit(fetch).result()
    except KeyboardInterrupt:
        _stop()
        raise
    finally:
        thread.shutdown(wait=False)


def is_transient(error: BaseException) -> bool:
    """Whether trying again can help: a transport fault, or a status that says so.

    Not by ``OSError``: that is also what "gated", "no such model" and a full disk are, and offline
    mode is a ``ConnectionError`` (huggingface_hub 2).
    """
    import httpx2
    from huggingface_hub import errors

    cause = _cause(error)
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return False
    if isinstance(cause, errors.HfHubHTTPError):
        return cause.response.status_code in _RETRIED_STATUS
    return isinstance(cause, httpx2.TransportError | ConnectionError | TimeoutError)


def asked_seconds(headers: Mapping[str, str]) -> float:
    """Seconds that an answer with these headers asks to wait before the next request; 0 for none.

    By ``RateLimit``, which huggingface_hub goes by first, or by ``Retry-After``.
    """
    from huggingface_hub.utils._http import parse_ratelimit_headers

    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    after = headers.get("Retry-After", "").strip()
    return float(after) if after.isdecimal() else 0.0


def _stop() -> None:
    """Let every download fail: at its next bytes, or when it has been silent for long enough."""
    from huggingface_hub import close_session
    from huggingface_hub.utils._xet import abort_xet_session

    _stopped.set()
    close_session()
    abort_xet_session()  # type: ignore[no-untyped-call]


def _check_stopped(_request: httpx2.Request) -> None:
    if _stopped.is_set():
        raise _StoppedError


def _client(longest_wait: float) -> httpx2.Client:
    """A client as huggingface_hub's own, but one that waits for nothing for ever."""
    from huggingface_hub.utils._http import default_client_factory

    client = default_client_factory()
    hooks = client.event_hooks
    client.event_hooks = {
        "request": [*hooks["request"], _check_stopped, _limit_silence],
        "response": [*hooks["response"], partial(_check_wait, longest_wait)],
    }
    return client


def _limit_silence(request: httpx2.Request) -> None:
    """Give a request without time-outs some: a list of files that stops coming would be a hang."""
    from huggingface_hub import constants

    limit = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
    given = request.extensions.get("timeout", {})
    phases = ("connect", "read", "write", "pool")
    request.extensions["timeout"] = {
        phase: limit if given.get(phase) is None else given[phase] for phase in phases
    }


def _check_wait(longest_wait: float, response: httpx2.Response) -> None:
    if response.status_code not in _RETRIED_STATUS:
        return
    seconds = asked_seconds(response.headers)
    if seconds > longest_wait:
        status = f"{response.status_code} {response.reason_phrase}"
        raise _TooLongAWaitError(f"{status}: it asks to wait for {seconds:.0f} s")


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds until the next attempt: a second or two, or what the hub asks for."""
    error = state.outcome.exception() if state.outcome else None
    response = getattr(_cause(error) if error else None, "response", None)
    asked = 0.0 if response is None else asked_seconds(response.headers)
    return max(asked, _BACKOFF(state))


def _cause(error: BaseException) -> BaseException:
    """The fault itself, where huggingface_hub only says that a file is not in the cache either."""
    from huggingface_hub import errors

    is_wrapped = isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None
    return error.__cause__ if is_wrapped and error.__cause__ is not None else error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
