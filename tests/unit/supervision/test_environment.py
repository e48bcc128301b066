"""The environment of a worker."""

from __future__ import annotations

import sys

import pytest

from your_ai.supervision.supervisor import worker_environment

VARIABLE = "AGX_RELAX_CDM_CTXSTORE_TIMEOUT"


@pytest.mark.parametrize(
    ("platform", "own", "expected"),
    [("darwin", None, "1"), ("darwin", "0", "0"), ("linux", None, None), ("linux", "1", "1")],
)
def test_long_gpu_work_is_allowed_on_macos(
    platform: str, own: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delenv(VARIABLE, raising=False)
    if own is not None:
        monkeypatch.setenv(VARIABLE, own)
    assert worker_environment().get(VARIABLE) == expected


def test_a_worker_has_no_token_and_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "secret")
    found = worker_environment()
    assert "secret" not in found.values()
    assert found["HF_HUB_OFFLINE"] == "1"
