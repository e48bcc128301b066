"""How the tests are laid out."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import your_ai

TESTS = Path(__file__).resolve().parents[1]
MODULES = sorted(path for path in TESTS.rglob("*.py"))


def imported_by(path: Path) -> set[str]:
    """Every module and name that a file imports, as a dotted path."""
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


def test_the_folders_of_unit_tests_are_those_of_the_product() -> None:
    product = {path.parent.name for path in Path(your_ai.__file__).parent.glob("*/__init__.py")}
    folders = {path.parent.name for path in (TESTS / "unit").glob("*/__init__.py")}
    assert folders <= {*product, "worker"}
