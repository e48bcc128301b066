"""scripts/setup: the checks of a machine, the choice of MLX's backend, and a real installation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support import python_build, root_only
from tests.support.checks import check_figures
from tests.support.command import PLAIN, ROOT, Finished

SYSTEM = Path("/usr/bin")
PYTHONS = [f"python3.{minor}" for minor in range(8, 15)]
ARM_MAC = {"uname": "case $1 in -m) echo arm64 ;; *) echo Darwin ;; esac"}
INTEL_MAC = {"uname": "case $1 in -m) echo x86_64 ;; *) echo Darwin ;; esac"}
LINUX = {
    "uname": "case $1 in -m) echo x86_64 ;; *) echo Linux ;; esac",
    "getconf": "echo glibc 2.36",
    "nvidia-smi": "exit 9",
}


def nvidia(cuda: str, capability: str) -> dict[str, str]:
    """A Linux machine whose driver offers that version of CUDA."""
    summary = f"| NVIDIA-SMI 580.65.06   Driver Version: 580.65.06   {cuda} |"
    program = f"case $* in *compute_cap*) echo {capability} ;; *) echo '{summary}' ;; esac"
    return {**LINUX, "nvidia-smi": program}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The system's programs without any Python or uv."""
    folder = tmp_path_factory.mktemp("programs")
    for program in SYSTEM.iterdir():
        if not program.name.startswith(("python", "uv", "nvidia-smi")):
            (folder / program.name).symlink_to(program)
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What an installation is made from."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("your_ai", "worker", "scripts"):
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    return folder


def run(
    checkout: Path, script: str, *arguments: str, path: str, env: Mapping[str, str] | None = None
) -> Finished:
    """Run one of the checkout's scripts with an environment that holds nothing else."""
    home = checkout.parent / "home"
    home.mkdir(exist_ok=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "SSL_")) or name.lower().endswith("_proxy") or name == "TMPDIR"
    }
    done = subprocess.run(
        [str(checkout / "scripts" / script), *arguments],
        cwd=checkout.parent,
        env={"PATH": path, "HOME": str(home), "PYTHONIOENCODING": "utf-8", **kept, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=280,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr, checkout.parent)


def fake(folder: Path, programs: Mapping[str, str]) -> Path:
    """Write shell scripts of these names into ``folder``."""
    folder.mkdir()
    for name, text in programs.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    return folder


def old_python() -> Path:
    """A Python 3.9, as Apple's command line tools bring it; skips where there is none."""
    folders = [*map(Path, os.get_exec_path()), *Path.home().glob(".pyenv/versions/3.9*/bin")]
    for program in (folder / "python3.9" for folder in folders):
        if program.exists():
            check = subprocess.run([program, "-c", ""], capture_output=True, check=False)
            if check.returncode == 0:  # pyenv's shims fail for a version that is not selected
                return program
    pytest.skip("there is no Python 3.9")


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        ({**INTEL_MAC, "sysctl": "echo 1"}, "Rosetta"),
        ({**INTEL_MAC, "sysctl": "exit 1"}, "Intel Mac"),
        ({**ARM_MAC, "sw_vers": "echo 13.7.1"}, "macOS 14 or newer; this is macOS 13.7.1"),
        ({**ARM_MAC, "sw_vers": "echo 26.1"}, "xcode-select --install"),
        ({**LINUX, "uname": "case $1 in -m) echo riscv64 ;; *) echo Linux ;; esac"}, "riscv64"),
        ({**LINUX, "getconf": "echo glibc 2.31"}, "this system has glibc 2.31"),
        ({**LINUX, "getconf": "exit 1"}, "this system has none"),
        ({"uname": "echo MINGW64_NT"}, "WSL 2"),
        ({"uname": "echo FreeBSD"}, "FreeBSD"),
        (LINUX, "python3-venv"),
    ],
)
def test_a_machine_that_cannot_run_mlx_is_refused_with_the_reason(
    machine: dict[str, str], reason: str, checkout: Path, programs: Path, tmp_path: Path
) -> None:
    done = run(checkout, "setup", path=f"{fake(tmp_path / 'fakes', machine)}:{programs}")
    assert done.code == 3
    assert reason in done.stderr.splitlines()[-1]
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("machine", "backend"),
    [
        (LINUX, "cpu"),
        (nvidia("CUDA Version: 13.0", "9.0"), "cuda13"),
        (nvidia("CUDA UMD Version: 13.1", "12.0"), "cuda13"),
        (nvidia("CUDA Version: 12.8", "8.6"), "cuda12"),
        (nvidia("CUDA Version: 12.2", "8.6"), "cpu"),
        (nvidia("CUDA Version: 13.0", "7.0"), "cpu"),
        (nvidia("CUDA Version: N/A", "[N/A]"), "cpu"),
    ],
)
def test_the_backend_fits_the_driver_and_the_gpu(
    machine: dict[str, str], backend: str, checkout: Path, programs: Path, tmp_path: Path
) -> None:
    done = run(checkout, "setup", path=f"{fake(tmp_path / 'fakes', machine)}:{programs}")
    assert f"installing your_ai[{backend}]" in done.stderr


def test_the_backend_can_be_chosen(checkout: Path, programs: Path, tmp_path: Path) -> None:
    path = f"{fake(tmp_path / 'fakes', nvidia('CUDA Version: 13.0', '9.0'))}:{programs}"
    chosen = run(checkout, "setup", path=path, env={"YOUR_AI_BACKEND": "cpu"})
    assert "installing your_ai[cpu]" in chosen.stderr
    unknown = run(checkout, "setup", path=path, env={"YOUR_AI_BACKEND": "rocm"})
    assert (unknown.code, "'rocm'" in unknown.stderr) == (3, True)


@pytest.mark.root
@pytest.mark.skipif(sys.platform != "linux", reason="a Mac may have the real one")
@pytest.mark.parametrize("has_tools", [False, True])
def test_apples_placeholder_for_python_is_not_run(
    has_tools: bool, checkout: Path, programs: Path, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        root_only.skip("only root on Linux can put a program in place of /usr/bin/python3")
    if not (SYSTEM / "python3").exists():
        pytest.skip("there is no /usr/bin/python3 to put it in place of")
    dialog = tmp_path / "dialog"
    fakes = {
        **ARM_MAC,
        "sw_vers": "echo 26.1",
        "xcode-select": f"exit {0 if has_tools else 2}",
        **dict.fromkeys(PYTHONS, "exit 1"),
    }
    stub = fake(tmp_path / "stub", {"python3": f"touch {dialog}; exit 1"}) / "python3"
    mounted = fake(
        checkout / "mounted",
        {"setup": f"mount --bind {stub} $(realpath {SYSTEM}/python3) && exec scripts/setup"},
    )
    shutil.move(mounted / "setup", checkout / "scripts" / "mounted")
    fakes["unshared"] = f"cd {checkout}; exec unshare --mount scripts/mounted"
    path = f"{fake(tmp_path / 'fakes', fakes)}:{SYSTEM}"
    done = subprocess.run(
        [tmp_path / "fakes" / "unshared"],
        env={"PATH": path, "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, dialog.exists()) == (3, has_tools), done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="the build of Python is packed for Linux")
def test_with_only_python_3_9_a_first_benchmark_works(
    checkout: Path, programs: Path, tmp_path: Path
) -> None:
    old = old_python()
    only = fake(tmp_path / "only", {"python3": f'exec {old} "$@"'})
    path = f"{only}:{programs}"
    mirror = python_build.make_mirror(tmp_path / "mirror")
    arguments = ["--model", "smoke-tiny", "--run-dir", "run", *PLAIN]
    done = run(checkout, "benchmark", *arguments, path=path, env=mirror)
    assert done.code == 0, done.stdout + done.stderr
    check_figures(done.only)
    again = run(checkout, "setup", path=path, env=mirror)
    assert (again.code, again.stderr) == (0, "")  # nothing is left to do
    moved = checkout.rename(tmp_path / "moved")
    done = run(moved, "setup", path=path, env=mirror)
    assert done.code == 0, done.stderr
    assert "installing" in done.stderr  # an environment cannot be moved
