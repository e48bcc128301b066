"""Import boundaries, checked in fresh interpreters: the parent is light, the worker separate."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import worker
import your_ai

ROOT = Path(your_ai.__file__).resolve().parent.parent
HEAVY = {"mlx", "mlx_lm", "numpy", "transformers", "huggingface_hub", "torch", "safetensors"}
OURS = {"your_ai", "worker"}

REPORT = """
import json, sys
try:
    {statement}
finally:
    sys.stdout.flush()
    print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def modules_of(package: ModuleType, name: str) -> list[str]:
    paths = list(package.__path__)
    return [found.name for found in pkgutil.walk_packages(paths, f"{name}.")]


PARENT = [name for name in modules_of(your_ai, "your_ai") if not name.endswith("__main__")]
WORKER = modules_of(worker, "worker")


def imported_by(statement: str) -> set[str]:
    """Return the top-level modules in a fresh interpreter after a statement, even if it exits."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", REPORT.format(statement=statement)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_modules_are_found() -> None:
    assert {"your_ai.cli.benchmark", "your_ai.system.macos", "your_ai.models.hub"} <= set(PARENT)
    assert {"worker.protocol.messages", "worker.trainer", "worker.__main__"} <= set(WORKER)


def test_the_parent_imports_nothing_heavy() -> None:
    modules = imported_by(f"import {', '.join(PARENT)}")
    assert {"your_ai", "worker", "click"} <= modules
    assert modules & HEAVY == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["benchmark", "--help"]])
def test_help_of_a_command_imports_nothing_heavy(arguments: list[str]) -> None:
    modules = imported_by(
        f"sys.argv = ['your_ai', *{arguments}]; from your_ai.cli import main; main()"
    )
    assert "click" in modules
    assert modules & {*HEAVY, "rich"} == set()  # rich is only for live terminals and tables


def test_the_main_help_imports_no_command() -> None:
    statement = "sys.argv = ['your_ai', '--help']; from your_ai.cli import main; main()"
    assert imported_by(statement) & {"orjson", "psutil", "tenacity", "asyncio"} == set()


def test_the_protocol_imports_nothing_outside_the_standard_library() -> None:
    protocol = "import worker.protocol.codec, worker.protocol.messages"
    added = imported_by(protocol) - imported_by("pass")
    assert added - {"worker"} <= set(sys.stdlib_module_names)


def test_the_import_contracts_in_pyproject_hold() -> None:
    """The contracts apply to all imports, including those inside functions."""
    done = subprocess.run(
        ["lint-imports", "--no-cache", "--no-logo"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": str(Path(sys.executable).parent)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_worker_does_not_import_the_parent() -> None:
    modules = imported_by(f"import {', '.join(WORKER)}")
    assert {"worker", "mlx", "mlx_lm"} <= modules
    assert "your_ai" not in modules
