#!/usr/bin/env python3
"""Print every help page, and every text that the program can show, to check the wording.

usage: .venv/bin/python scripts/list-texts.py [help | texts]

A text is a string in the Python sources with at least two words, without docstrings; `{…}` stands
for what is filled in. The texts of the report are in your_ai/report/page.html.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from your_ai.cli import cli

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
TWO_WORDS = re.compile(r"[^\W\d_]{2,}[ ,:;.!?]+\S*[^\W\d_]{2,}")


def main() -> None:
    """Print what was asked for; by default both."""
    wanted = sys.argv[1:] or ["help", "texts"]
    if not {*wanted} <= {"help", "texts"}:
        sys.exit(__doc__)
    if "help" in wanted:
        for page in help_pages():
            print(f"{page}\n")
    if "texts" in wanted:
        for package in ("your_ai", "worker"):
            for path in sorted((ROOT / package).rglob("*.py")):
                for line, text in texts(ast.parse(path.read_text(encoding="utf-8"))):
                    print(f"{path.relative_to(ROOT)}:{line}: {text}")


def help_pages() -> Iterator[str]:
    """The output of --help for the program and for each command."""
    context = click.Context(cli, info_name="your_ai")
    yield cli.get_help(context)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        yield command.get_help(click.Context(command, parent=context, info_name=name))


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and the content of each text in a module."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr):
            if TWO_WORDS.search(text := content(node)):
                yield node.lineno, text
            for part in getattr(node, "values", ()):
                yield from texts(part) if isinstance(part, ast.FormattedValue) else ()
        elif not is_docstring(node, tree):
            yield from texts(node)


def content(node: ast.Constant | ast.JoinedStr) -> str:
    """A string on one line, with ``{…}`` for each value that is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            content(part) if isinstance(part, ast.Constant) else "{…}" for part in node.values
        )
    return node.value.replace("\n", "\\n") if isinstance(node.value, str) else ""


def is_docstring(node: ast.AST, parent: ast.AST) -> bool:
    """Whether the node is a string that stands alone, which only readers of the code see."""
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_text and isinstance(parent, DOCUMENTED)


if __name__ == "__main__":
    main()
