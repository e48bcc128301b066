"""Requests to the Hugging Face Hub: which are retried, how long they may wait, what errors say.

huggingface_hub retries the transfer of a file by itself; this is the one retry around that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

from your_ai.errors import MachineError, UsageError, YourAIError

_T = TypeVar("_T")

BACKOFF_SECONDS = 1.0
"""The wait before the second attempt; it doubles from there."""

_ATTEMPTS = 3
_WINDOW_SECONDS = 300  # the Hub's own, in which it counts (huggingface.co/docs/hub/rate-limits)
_RETRIED_STATUS = frozenset({408, 429, *range(500, 600)})

_NO_MODEL = "The hub has no model {}, or it is private; check the name, or run `hf auth login`."
_REFUSED = "The hub refuses {} ({reason}); check the token in HF_TOKEN, or run `hf auth login`."
_UNREACHABLE = "Cannot get {} from the hub ({reason}); {remedy}, or name a local folder."
_USAGE_ERRORS = {
    "GatedRepoError": "{} is gated: accept its terms on the hub, then run `hf auth login`.",
    "RepositoryNotFoundError": _NO_MODEL,
    "RevisionNotFoundError": _NO_MODEL,
    "RemoteEntryNotFoundError": "{} has no {file} on the hub; name another model.",
    "HFValidationError": "'{}' is neither an existing folder nor a valid Hub model id.",
    "401": _REFUSED,
    "403": _REFUSED,
}
"""By the name of huggingface_hub's exception, the most specific first, or by the status."""


def ask(model_id: str, request: Callable[[], _T], patience: float = math.inf) -> _T:
    """What ``request`` returns; a transient error is retried unless ``patience`` s have passed.

    Raises:
        UsageError: when there is no such model, or this user has no access to it.
        MachineError: when the Hub cannot be reached, or the disk is full.
    """
    retrying = tenacity.Retrying(
        before=lambda _: _limit_waits(min(patience, _WINDOW_SECONDS)),
        retry=tenacity.retry_if_exception(is_transient),
        stop=tenacity.stop_after_attempt(_ATTEMPTS) | tenacity.stop_before_delay(patience),
        wait=_wait,
        reraise=True,
    )
    try:
        return retrying(request)
    except Exception as error:  # also those of its HTTP library, which is not ours to import
        raise _explain(model_id, error) from error


def is_transient(error: BaseException) -> bool:
    """Whether trying again can help: not if the Hub refused, nor if the disk is full.

    huggingface_hub 2 makes an ``OSError`` of nearly everything, and Xet a ``RuntimeError``.
    """
    from huggingface_hub import errors

    cause = _cause(error)
    if isinstance(cause, errors.HfHubHTTPError):
        return cause.response.status_code in _RETRIED_STATUS
    if isinstance(cause, ConnectionError | TimeoutError):
        return not isinstance(cause, errors.OfflineModeIsEnabled)
    is_final = isinstance(cause, OSError | RuntimeError | ValueError)
    return isinstance(cause, Exception) and not is_final


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds until the next attempt: a backoff, or what the Hub asks for if that is more."""
    error = state.outcome.exception() if state.outcome else None
    response = getattr(_cause(error), "response", None) if error else None
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    backoff = BACKOFF_SECONDS * float(2 ** (state.attempt_number - 1))
    return max(backoff, float(asked) if asked.isdecimal() else 0.0)


def _limit_waits(longest_seconds: float) -> None:
    """Wait neither forever for a silent Hub nor for as long as the Hub asks.

    huggingface_hub sleeps for whatever time a response asks, or by a backoff where it asks none.
    """
    from huggingface_hub import constants, get_session

    def check(response: Any) -> None:
        for header in ("RateLimit", "Retry-After"):  # such as `"api";r=0;t=55`, and 55
            seconds = re.search(r"(\d+)$", response.headers.get(header, ""))
            if seconds and int(seconds[1]) > longest_seconds:
                del response.headers[header]

    session = get_session()
    session.timeout = constants.HF_HUB_ETAG_TIMEOUT
    session.event_hooks = {**session.event_hooks, "response": [check]}


def _explain(model_id: str, error: BaseException) -> YourAIError:
    cause = _cause(error)
    response = getattr(cause, "response", None)
    status, path = (str(response.status_code), response.url.path) if response else ("", "")
    names = [kind.__name__ for kind in type(cause).__mro__]
    reason = (str(cause).strip() or names[0]).splitlines()[0]
    for key in (*names, status):
        if key in _USAGE_ERRORS:
            file = path.rpartition("/")[2]
            return UsageError(_USAGE_ERRORS[key].format(model_id, reason=reason, file=file))
    remedy = "check the network and the free disk space"
    if "OfflineModeIsEnabled" in names:
        reason, remedy = "HF_HUB_OFFLINE is set", "unset it"
    elif status == "429":
        remedy = "try again in five minutes"
    return MachineError(_UNREACHABLE.format(model_id, reason=reason, remedy=remedy))


def _cause(error: BaseException) -> BaseException:
    """The error itself, where huggingface_hub only says that a file is not in the cache either."""
    from huggingface_hub import errors

    is_wrapped = isinstance(error, errors.LocalEntryNotFoundError)
    return (error.__cause__ or error) if is_wrapped else error
