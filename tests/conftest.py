"""What holds for every test, also where two run at a time."""

from __future__ import annotations

import os

import pytest

from tests.support import kernels
from tests.support import shared as measured
from tests.support.command import Finished
from tests.support.course import Course
from tests.support.shared import Shared


def pytest_configure(config: pytest.Config) -> None:
    is_controller = bool(config.getoption("numprocesses", None))  # of processes that run the tests
    if not is_controller:
        kernels.separate()


def pytest_runtest_setup() -> None:
    kernels.take()


def pytest_runtest_teardown() -> None:
    kernels.give()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Where runs are kept that are measured once and only read."""
    base = tmp_path_factory.getbasetemp()
    return Shared(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture(scope="session")
def smoke(shared: Shared) -> Finished:
    return shared.made("smoke", measured.smoke)


@pytest.fixture(scope="session")
def ladder(shared: Shared) -> Finished:
    return shared.made("ladder", measured.ladder)


@pytest.fixture(scope="session")
def nothing_fits(shared: Shared) -> Finished:
    return shared.made("nothing-fits", measured.nothing_fits)


@pytest.fixture(scope="session")
def history(shared: Shared) -> Finished:
    return shared.made("history", measured.history)


@pytest.fixture(scope="session")
def trained(shared: Shared) -> Finished:
    """A training from its beginning to its end, in a course's folder."""
    return shared.made("course", measured.trained)


@pytest.fixture(scope="session")
def course(trained: Finished) -> Course:
    """Its folder. Each test trains under names of its own there."""
    return Course(trained.folder)
