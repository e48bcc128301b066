"""`your_ai models`: the presets of each suite, and a search for them."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from your_ai.cli import models
from your_ai.errors import UsageError


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(models.command, arguments, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def test_presets_are_listed_by_suite() -> None:
    assert re.findall(r"^--suite (\w+)$", shown(), re.M) == ["default", "current", "smoke"]


def test_a_search_lists_only_suites_with_matching_presets() -> None:
    lines = [line.split() for line in shown("--search", "gpt OSS").splitlines()]
    assert lines[0] == ["--suite", "current"]
    assert lines[2][:4] == ["gpt-oss-20b", "20B", "24", "21B"]
    assert lines[2][-1] == "openai/gpt-oss-20b"
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("qwen36-27b", "Did you mean qwen3.6-27b"),
        ("Gemma 5", "Did you mean gemma-4-e4b"),
        ("zzz", "`your_ai models` lists them all."),
    ],
)
def test_a_search_without_a_match_suggests_similar_presets(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        shown("--search", text)
    assert str(refused.value).startswith(f"No preset matches {text!r}. {hint}")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_suites_fit_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "terminal_columns", lambda: columns)
    lines = shown().splitlines()
    ids = re.compile(r"\s*[\w.-]+/[\w.-]+")  # the id of a model is not broken
    assert all(len(line) <= columns or ids.fullmatch(line) for line in lines)
    assert any(line.split() == ["gpt-oss-20b"] for line in lines) is (columns == 40)
