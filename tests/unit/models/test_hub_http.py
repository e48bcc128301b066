"""Which errors of huggingface_hub are retried, and how long requests may wait."""

from __future__ import annotations

import errno
import math
import types
from typing import Any

import pytest
from huggingface_hub import constants, errors, get_session

from your_ai.errors import MachineError
from your_ai.models import hub_http
from your_ai.models.hub_http import ask, is_transient


class TransportError(Exception):
    """Like the errors of huggingface_hub's HTTP library, which we do not import."""


def answered(
    status: int, kind: type[errors.HfHubHTTPError] = errors.HfHubHTTPError, **headers: str
) -> Exception:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response: Any = types.SimpleNamespace(status_code=status, headers=named, request=None)
    return kind(f"status {status}", response=response)


def wrapped(cause: Exception) -> Exception:
    """Wrap an error like `hf_hub_download` if the file is not cached."""
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
        (wrapped(TransportError("refused")), True),
        (TransportError("timed out"), True),
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
        (RuntimeError(FULL), False),  # as raised by Xet
        (ValueError("no JSON"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_only_transient_errors_are_retried(error: BaseException, expected: bool) -> None:
    assert is_transient(error) is expected


def test_no_request_waits_forever() -> None:
    """huggingface_hub requests the token for Xet without a timeout."""
    limits = ask("org/tiny", lambda: get_session().timeout)
    for limit in (limits.connect, limits.read, limits.write, limits.pool):
        assert limit == constants.HF_HUB_ETAG_TIMEOUT


@pytest.mark.parametrize(("patience", "expected"), [(math.inf, 3), (0, 1)])
def test_a_transient_error_is_retried_within_the_patience(
    monkeypatch: pytest.MonkeyPatch, patience: float, expected: int
) -> None:
    monkeypatch.setattr(hub_http, "BACKOFF_SECONDS", 0.0)
    attempts = []

    def request() -> None:
        attempts.append(1)
        raise TransportError("reset")

    with pytest.raises(MachineError, match=r"Cannot get org/tiny from the Hub \(reset\)"):
        ask("org/tiny", request, patience)
    assert len(attempts) == expected


def test_retries_wait_as_long_as_the_hub_demands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    answers = iter([answered(429, Retry_After="30"), answered(503)])

    def request() -> str:
        error = next(answers, None)
        if error is not None:
            raise error
        return "found"

    assert ask("org/tiny", request) == "found"
    assert waits == [30.0, 2 * hub_http.BACKOFF_SECONDS]
