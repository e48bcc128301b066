"""Which of huggingface_hub's faults are worth another attempt, and how long a hub asks to wait."""

from __future__ import annotations

import errno

import httpx2
import pytest
from huggingface_hub import errors

from your_ai.models.hub_http import asked_seconds, is_transient

REQUEST = httpx2.Request("GET", "http://127.0.0.1/api/models/org/tiny")


def answered(status: int, kind: type[errors.HfHubHTTPError] = errors.HfHubHTTPError) -> Exception:
    return kind(f"status {status}", response=httpx2.Response(status, request=REQUEST))


def wrapped(cause: Exception) -> Exception:
    """As `hf_hub_download` passes a fault on when the cache does not have the file either."""
    error = errors.LocalEntryNotFoundError("and we cannot find the requested files")
    error.__cause__ = cause
    return error


FULL = "I/O error: No space left on device (os error 28)"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (answered(408), True),
        (answered(429), True),
        (answered(500), True),
        (answered(504), True),
        (answered(524), True),
        (wrapped(answered(503)), True),
        (wrapped(httpx2.ConnectError("refused")), True),
        (httpx2.ReadError("reset"), True),
        (httpx2.ReadTimeout("timed out"), True),
        (httpx2.RemoteProtocolError("peer closed connection"), True),
        (ConnectionResetError(errno.ECONNRESET, "reset"), True),
        (TimeoutError("timed out"), True),
        (answered(401), False),
        (answered(403), False),
        (answered(404, errors.RepositoryNotFoundError), False),
        (answered(404, errors.RevisionNotFoundError), False),
        (answered(404, errors.RemoteEntryNotFoundError), False),
        (answered(403, errors.GatedRepoError), False),
        (answered(416), False),
        (wrapped(answered(404)), False),
        (errors.LocalEntryNotFoundError("not in the cache"), False),
        (errors.OfflineModeIsEnabled("offline"), False),
        (wrapped(errors.OfflineModeIsEnabled("offline")), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (RuntimeError(FULL), False),  # as Xet passes it on
        (ValueError("no JSON"), False),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_only_what_may_pass_is_tried_again(error: Exception, expected: bool) -> None:
    assert is_transient(error) is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 0),
        ({"Retry-After": "17"}, 17),
        ({"retry-after": " 17 "}, 17),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0),
        ({"Retry-After": "-1"}, 0),
        ({"RateLimit": '"api";r=0;t=55', "Retry-After": "1"}, 55),
        ({"RateLimit": '"api";r=3;t=55'}, 0),
        ({"RateLimit": "soon"}, 0),
    ],
)
def test_the_time_that_a_hub_asks_for(headers: dict[str, str], expected: float) -> None:
    assert asked_seconds(httpx2.Headers(headers)) == expected
