"""Make requests to the Hugging Face Hub, with retries, limited waits and readable errors.

huggingface_hub retries file transfers briefly on its own; this adds an outer, bounded retry.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from your_ai.errors import MachineError, UsageError, YourAIError

if TYPE_CHECKING:
    import tenacity

_T = TypeVar("_T")

BACKOFF_SECONDS = 1.0
"""Wait before the second attempt; it doubles for each further one."""

_ATTEMPTS = 3
_WINDOW_SECONDS = 300
"""The period for which the Hub limits requests (huggingface.co/docs/hub/rate-limits)."""
_RETRIED_STATUS = frozenset({408, 429, *range(500, 600)})

_NO_MODEL = "The Hub has no model {}, or it is private. Check the name, or run `hf auth login`."
_REFUSED = "The Hub denies access to {} ({reason}). Check HF_TOKEN, or run `hf auth login`."
_UNREACHABLE = "Cannot get {} from the Hub ({reason}); {remedy}, or use a local folder."
_USAGE_ERRORS = {
    "GatedRepoError": "{} is gated. Accept its terms on the Hub, then run `hf auth login`.",
    "RepositoryNotFoundError": _NO_MODEL,
    "RevisionNotFoundError": _NO_MODEL,
    "RemoteEntryNotFoundError": "{} has no {file} on the Hub. Choose another model.",
    "HFValidationError": "'{}' is neither an existing folder nor a valid Hub model id.",
    "401": _REFUSED,
    "403": _REFUSED,
}
"""Messages by the name of huggingface_hub's exception, or by the HTTP status."""


def ask(model_id: str, request: Callable[[], _T], patience: float = math.inf) -> _T:
    """Call ``request`` and return its result; retry transient errors.

    Retries are limited to two, and to ``patience`` seconds in all.

    Raises:
        UsageError: if the model does not exist, or the user has no access to it.
        MachineError: if the Hub cannot be reached, or the disk is full.
    """
    import tenacity  # slow, and only for the Hub

    retrying = tenacity.Retrying(
        before=lambda _: _limit_waits(min(patience, _WINDOW_SECONDS)),
        retry=tenacity.retry_if_exception(is_transient),
        stop=tenacity.stop_after_attempt(_ATTEMPTS) | tenacity.stop_before_delay(patience),
        wait=_wait,
        reraise=True,
    )
    try:
        return retrying(request)
    except Exception as error:  # includes errors of its HTTP library, which we do not import
        raise _explain(model_id, error) from error


def is_transient(error: BaseException) -> bool:
    """Return whether a retry can help. It cannot if the Hub refused or the disk is full.

    huggingface_hub 2 raises ``OSError`` for almost every problem, and Xet ``RuntimeError``.
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
    """Return the seconds until the next attempt: the backoff, or Retry-After if it is longer."""
    error = state.outcome.exception() if state.outcome else None
    response = getattr(_cause(error), "response", None) if error else None
    retry_after = response.headers.get("Retry-After", "") if response is not None else ""
    backoff = BACKOFF_SECONDS * float(2 ** (state.attempt_number - 1))
    return max(backoff, float(retry_after) if retry_after.isdecimal() else 0.0)


def _limit_waits(max_seconds: float) -> None:
    """Set a timeout for the Hub's responses, and ignore requests to wait for too long.

    huggingface_hub waits for as long as a response demands, without an upper limit.
    """
    from huggingface_hub import constants, get_session

    def drop_long_waits(response: Any) -> None:
        for header in ("RateLimit", "Retry-After"):  # such as `"api";r=0;t=55` and `55`
            seconds = re.search(r"(\d+)$", response.headers.get(header, ""))
            if seconds and int(seconds[1]) > max_seconds:
                del response.headers[header]

    session = get_session()
    session.timeout = constants.HF_HUB_ETAG_TIMEOUT
    session.event_hooks = {**session.event_hooks, "response": [drop_long_waits]}


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
    """Return the underlying error: huggingface_hub may report only that a file is not cached."""
    from huggingface_hub import errors

    is_wrapped = isinstance(error, errors.LocalEntryNotFoundError)
    return (error.__cause__ or error) if is_wrapped else error
