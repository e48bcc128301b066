"""Fixtures and hooks for all tests. Several processes may run tests at the same time."""

from __future__ import annotations

import os

import pytest

from tests.support import kernels, shared_runs
from tests.support.command import Finished
from tests.support.shared_runs import SharedRuns
from tests.support.workspace import Workspace


def pytest_configure(config: pytest.Config) -> None:
    is_controller = bool(config.getoption("numprocesses", None))  # starts the test processes
    if not is_controller:
        kernels.isolate()


def pytest_runtest_setup() -> None:
    kernels.fetch()


def pytest_runtest_teardown() -> None:
    kernels.publish()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> SharedRuns:
    """Runs that are made once and that tests only read."""
    base = tmp_path_factory.getbasetemp()
    return SharedRuns(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture(scope="session")
def smoke(shared: SharedRuns) -> Finished:
    return shared.get("smoke", shared_runs.smoke)


@pytest.fixture(scope="session")
def ladder(shared: SharedRuns) -> Finished:
    return shared.get("ladder", shared_runs.ladder)


@pytest.fixture(scope="session")
def ceiling(shared: SharedRuns) -> Finished:
    return shared.get("ceiling", shared_runs.ceiling)


@pytest.fixture(scope="session")
def nothing_fits(shared: SharedRuns) -> Finished:
    return shared.get("nothing-fits", shared_runs.nothing_fits)


@pytest.fixture(scope="session")
def history(shared: SharedRuns) -> Finished:
    return shared.get("history", shared_runs.history)


@pytest.fixture(scope="session")
def trained(shared: SharedRuns) -> Finished:
    """A training that ran without interruption in the `workspace`."""
    return shared.get("workspace", shared_runs.trained)


@pytest.fixture(scope="session")
def workspace(trained: Finished) -> Workspace:
    """The folder of `trained`, in which each test trains under different names."""
    return Workspace(trained.folder)
