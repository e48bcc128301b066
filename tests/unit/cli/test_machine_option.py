"""The options that describe another machine."""

from __future__ import annotations

from typing import Any

import pytest

from your_ai.cli import recommend
from your_ai.cli.machine_option import given_device
from your_ai.errors import UsageError
from your_ai.recommend import device_guess
from your_ai.recommend.macs import Mac


def values(*arguments: str) -> dict[str, Any]:
    return recommend.command.make_context("recommend", [*arguments]).params


def test_without_options_it_is_this_machine() -> None:
    assert given_device(values()) is None


def test_a_mac() -> None:
    assert given_device(values("--machine", "m1 8gb")) == device_guess.of_mac(Mac("M1", 8))


@pytest.mark.parametrize("backend", device_guess.BACKENDS)
def test_a_memory_and_a_backend(backend: str) -> None:
    device = given_device(values("--memory", "16.5", "--backend", backend))
    assert device == device_guess.of_backend(backend, 16.5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--memory 24", "--memory requires --backend: metal, cuda, cpu."),
        ("--backend cuda", "--backend requires --memory, in GB."),
        ("--machine M4 --memory 16", "--machine and --memory cannot be used together."),
        ("--machine M4 --backend metal", "--machine and --backend cannot be used together."),
        ("--memory 25769803776 --backend metal", "--memory 25769803776 is too large. Give it in "),
        ("--memory 1e308 --backend cpu", r"--memory 1e\+308 is too large."),
        ("--machine  --memory 16", "--machine and --memory cannot be used together."),
    ],
)
def test_conflicts(arguments: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        given_device(values(*arguments.split(" ")))
