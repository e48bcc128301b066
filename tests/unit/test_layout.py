"""The layout of the code and its tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import worker
import your_ai

TESTS = Path(__file__).resolve().parents[1]
MODULES = sorted(path for path in TESTS.rglob("*.py"))
ROOTS = [Path(worker.__file__).parent, Path(your_ai.__file__).parent]
PRODUCT = sorted(path for root in ROOTS for path in root.rglob("*.py"))
MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 40


def imported_by(path: Path) -> set[str]:
    """Return every module and name that a file imports, as dotted paths."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_nothing_imports_a_test_module(path: Path) -> None:
    parts = {part for name in imported_by(path) for part in name.split(".")}
    assert not [part for part in parts if part.startswith("test_")]


def test_unit_tests_have_the_same_folders_as_the_package() -> None:
    product = {path.parent.name for path in Path(your_ai.__file__).parent.glob("*/__init__.py")}
    folders = {path.parent.name for path in (TESTS / "unit").glob("*/test_*.py")}
    assert folders == {*product, "worker"}


def test_code_is_found() -> None:
    names = {f"{path.parent.name}/{path.name}" for path in PRODUCT}
    assert {"worker/__main__.py", "protocol/codec.py", "your_ai/__main__.py"} <= names
    assert {"cli/train.py", "supervision/supervisor.py"} <= names


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_modules_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_MODULE_LINES
    functions = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lines = [(each.name, (each.end_lineno or 0) - each.lineno + 1) for each in functions]
    assert [each for each in lines if each[1] > MAX_FUNCTION_LINES] == []
