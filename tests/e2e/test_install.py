"""Builds the wheel, installs it and runs the command outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from email.parser import HeaderParser
from pathlib import Path

import pytest

import your_ai
from tests.support.checks import check_figures, check_refused
from tests.support.command import PLAIN, ROOT, Finished, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

CONSTRAINTS = ROOT / "constraints.txt"
PYTHON = "bin/python"
# Files that ``import worker`` would find if the current directory were searched first.
CLUTTER = ("worker.py", "worker/__init__.py", "worker/__main__.py", "worker/protocol.py")


def pip(python: Path | str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run pip with the user's configuration and the project's constraints."""
    pinned = {"PIP_CONSTRAINT": str(CONSTRAINTS), "PIP_BUILD_CONSTRAINT": str(CONSTRAINTS)}
    return subprocess.run(
        [
            str(python),
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--no-input",
            *map(str, arguments),
        ],
        env={**without_path(os.environ), **pinned},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def install(python: Path, *arguments: str | Path) -> None:
    done = pip(
        sys.executable,
        *("--python", python, "install", "-q", "--no-compile", "-c", CONSTRAINTS),
        *arguments,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def without_path(variables: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """Return the variables without PYTHONPATH, so that Python does not find the checkout."""
    return {key: value for key, value in variables.items() if key != "PYTHONPATH"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if CONSTRAINTS.exists() and sys.version_info >= (3, 15):
        pytest.skip("constraints.txt supports Python up to 3.14")
    folder = tmp_path_factory.mktemp("wheel")
    probe = pip(sys.executable, "download", "-q", "--no-deps", "-d", folder / "probe", "hatchling")
    if probe.returncode != 0:
        last = (probe.stderr.strip() or "no message").splitlines()[-1]
        pytest.skip(f"pip cannot reach a package index: {last}")
    built = pip(sys.executable, "wheel", "-q", "--no-deps", "-w", folder, ROOT)
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The current directory of every run. It contains a module and a package named worker."""
    made = tmp_path_factory.mktemp("unrelated") / "cwd"
    for name in CLUTTER:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text("raise SystemExit('the wrong worker')")
    return made


@pytest.fixture(scope="module")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel and no extra."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=100)
    install(venv / PYTHON, wheel)
    return venv


@pytest.fixture(scope="module")
def without_backend(plain: Path, folder: Path) -> Finished:
    """The command run after ``pip install your_ai``, which on Linux installs no MLX backend."""
    return run(plain, folder, "benchmark", "--run-dir", "plain", "--model", "smoke-tiny", *PLAIN)


@pytest.fixture(scope="module")
def complete(plain: Path, wheel: Path, without_backend: Finished) -> Path:
    """The same virtual environment with the extra for a backend, which macOS does not need."""
    assert without_backend.folder.is_dir()
    install(plain / PYTHON, f"{wheel}[cpu]" if sys.platform == "linux" else wheel)
    return plain


def run(venv: Path, folder: Path, *arguments: str) -> Finished:
    """Run the installed ``your_ai`` in ``folder``."""
    return finish([venv / "bin" / "your_ai", *arguments], folder)


def finish(command: Sequence[str | Path], folder: Path) -> Finished:
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=without_path(environment(folder.parent / f"{folder.name}-home")),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=110,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr, folder)


def test_the_wheel_contains_only_both_packages(wheel: Path) -> None:
    sources = {
        str(file.relative_to(ROOT))
        for package in ("your_ai", "worker")
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (info,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
        info_files = {name for name in names if name.startswith(info)}
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert names - info_files == sources
    assert {"your_ai/models/suites/default.json", "your_ai/models/suites/smoke.json"} <= names
    assert f"{info}/licenses/LICENSE" in info_files
    assert (metadata["Name"], metadata["Version"]) == ("your_ai", your_ai.__version__)
    assert {"cpu", "cuda12", "cuda13"} <= set(metadata.get_all("Provides-Extra", []))
    assert "your_ai = your_ai.cli:main" in entry_points


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux is the MLX backend an extra")
def test_without_a_backend_the_error_says_how_to_install_one(without_backend: Finished) -> None:
    clutter = sorted({*CLUTTER, "worker"})
    check_refused(without_backend, "-m pip install '", clutter, code=3)
    assert without_backend.stderr.startswith("Error: MLX does not work (")
    assert without_backend.stderr.rstrip().endswith(("[cpu]'", "[cuda12]'", "[cuda13]'"))


def test_the_installed_command_prints_its_version(complete: Path, folder: Path) -> None:
    done = run(complete, folder, "--version")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == f"your_ai, version {your_ai.__version__}\n"


def test_the_installed_command_ignores_another_worker_module(complete: Path, folder: Path) -> None:
    done = run(complete, folder, "benchmark", "--run-dir", "run", "--model", "smoke-tiny", *PLAIN)
    assert done.code == 0, done.stdout + done.stderr
    assert done.stderr == ""
    check_figures(done.only)
    # Python -m searches the current directory first.
    by_module = finish([complete / PYTHON, "-m", "your_ai", "--version"], folder)
    assert by_module.stdout == f"your_ai, version {your_ai.__version__}\n"


def test_installed_packages_are_compatible(complete: Path) -> None:
    done = pip(sys.executable, "--python", complete / PYTHON, "check")
    assert done.returncode == 0, done.stdout + done.stderr
