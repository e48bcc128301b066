"""What holds for every test, also where two run at a time."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import shared as measured
from tests.support.command import Finished
from tests.support.course import Course
from tests.support.shared import Shared

FOLDER = Path(tempfile.gettempdir()) / f"your_ai-tests-{os.getuid()}"
"""Where each process of pytest has its temporary folder, from one run to the next."""

KERNELS = FOLDER / "kernels"
"""Those that MLX has compiled for the CPU, in any of them."""

SETTLED_SECONDS = 2.0
"""A kernel this old is whole: none takes longer to write."""


def pytest_configure(config: pytest.Config) -> None:
    """Give each process of pytest a temporary folder of its own.

    MLX keeps its kernels there, and loads one that another process is still writing.
    """
    if config.getoption("numprocesses", None):
        return  # the processes that xdist starts run the tests
    folder = FOLDER / os.environ.get("PYTEST_XDIST_WORKER", "main")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None


def copy_kernels(source: Path, target: Path) -> None:
    """Link the kernels that the target lacks: compiling one takes half a second."""
    for kernel in source.glob("*/cpu/*.so"):
        copy = target / kernel.relative_to(source)
        if not copy.exists() and time.time() - kernel.stat().st_mtime > SETTLED_SECONDS:
            copy.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):  # another process was first
                copy.hardlink_to(kernel)


def pytest_runtest_setup() -> None:
    copy_kernels(KERNELS, Path(tempfile.gettempdir()) / "mlx")


def pytest_runtest_teardown() -> None:
    copy_kernels(Path(tempfile.gettempdir()) / "mlx", KERNELS)


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
