"""scripts/setup: the checks of a machine, the choice of MLX's backend, and a real installation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import python_build, root_only
from tests.support.checks import check_figures
from tests.support.command import PLAIN, ROOT, Finished

pytestmark = pytest.mark.timeout(300)

SYSTEM = Path("/usr/bin")
PYTHONS = [f"python3.{minor}" for minor in range(8, 15)]
ARM_MAC = {"uname": "case $1 in -m) echo arm64 ;; *) echo Darwin ;; esac"}
INTEL_MAC = {"uname": "case $1 in -m) echo x86_64 ;; *) echo Darwin ;; esac"}
LINUX = {
    "uname": "case $1 in -m) echo x86_64 ;; *) echo Linux ;; esac",
    "getconf": "echo glibc 2.36",
    "nvidia-smi": "exit 9",
}


slow = pytest.mark.slow


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
    return make_checkout(tmp_path / "checkout")


def make_checkout(folder: Path) -> Path:
    """Copy what an installation is made from."""
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
    """A Python too old for your_ai, as in Apple's command line tools; skips if there is none."""
    names = ["python3.9", "python3.8", "python3.10"]
    folders = [*map(Path, os.get_exec_path()), *Path.home().glob(".pyenv/versions/3.*/bin")]
    for program in (folder / name for name in names for folder in folders):
        if program.exists():
            check = subprocess.run([program, "-c", ""], capture_output=True, check=False)
            if check.returncode == 0:  # pyenv's shims fail for a version that is not selected
                return program
    pytest.skip("there is no Python 3.8, 3.9 or 3.10")


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


@dataclass(frozen=True)
class Installed:
    """A checkout in which scripts/benchmark was started once, with only an old Python."""

    checkout: Path
    path: str
    mirror: dict[str, str]
    first: Finished

    def setup(self, checkout: Path | None = None, **env: str) -> Finished:
        return run(checkout or self.checkout, "setup", path=self.path, env={**self.mirror, **env})

    def change(self) -> None:
        """Make the installation out of date."""
        with (self.checkout / "constraints.txt").open("a") as file:
            file.write("# changed\n")


@pytest.fixture(scope="module")
def installed(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    if sys.platform != "linux":
        pytest.skip("the build of Python is packed for Linux")
    old = old_python()
    folder = tmp_path_factory.mktemp("installed")
    only = fake(folder / "only", {"python3": f'exec {old} "$@"'})
    mirror = python_build.make_mirror(folder / "mirror")
    checkout = make_checkout(folder / "check out")
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / ".DS_Store").touch()  # not an environment
    path = f"{only}:{programs}"
    arguments = ["--model", "smoke-tiny", "--run-dir", "run", *PLAIN]
    first = run(checkout, "benchmark", *arguments, path=path, env=mirror)
    if first.code == 3 and re.search(r"dns|resolve|connect", first.stderr, re.I):
        pytest.skip(f"no package index can be reached: {first.stderr.splitlines()[-2]}")
    return Installed(checkout, path, mirror, first)


@slow
def test_with_only_an_old_python_a_first_benchmark_works(installed: Installed) -> None:
    done = installed.first
    assert done.code == 0, done.stdout + done.stderr
    check_figures(done.only)
    again = installed.setup()
    assert (again.code, again.stderr) == (0, "")  # nothing is left to do


@slow
def test_an_update_keeps_the_environment(installed: Installed) -> None:
    """A benchmark may be running in it."""
    marker = installed.checkout / ".venv" / "marker"
    marker.touch()
    installed.change()
    done = installed.setup()
    assert (done.code, "installing" in done.stderr) == (0, True), done.stderr
    assert marker.exists()


@slow
def test_a_failed_update_keeps_the_installation(installed: Installed, tmp_path: Path) -> None:
    """The package index is the one in pip's configuration, which cannot be reached."""
    settings = tmp_path / "pip.conf"
    settings.write_text("[install]\nindex-url = http://127.0.0.1:9/simple\n")
    installed.change()
    done = installed.setup(PIP_CONFIG_FILE=str(settings), UV_HTTP_RETRIES="0")
    assert (done.code, "127.0.0.1:9" in done.stderr) == (3, True), done.stderr
    assert (installed.checkout / ".venv" / "bin" / "your_ai").exists()
    done = installed.setup()
    assert done.code == 0, done.stderr


@slow
def test_a_moved_checkout_gets_a_new_environment(installed: Installed, tmp_path: Path) -> None:
    """Also where the home folder cannot be written to."""
    moved = shutil.copytree(installed.checkout, tmp_path / "moved", symlinks=True)
    (moved / ".venv" / "marker").touch()
    done = installed.setup(moved, HOME="/proc/none")
    assert done.code == 0, done.stderr
    assert not (moved / ".venv" / "marker").exists()
    assert (moved / ".uv" / "cache").is_dir()
