"""The published schema is generated from the types of the results, and matches them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from tests.support import builders
from tests.support.command import ROOT
from tests.support.schema import CLOSED, PATH, PUBLISHED, SCHEMA, closed
from your_ai.runs.results import write
from your_ai.supervision.outcome import Outcome, OutcomeKind

OLD = json.loads((ROOT / "tests/support/results-0.1.json").read_text(encoding="utf-8"))


@pytest.fixture
def document() -> dict[str, Any]:
    """A pass with a search, a trial without a worker, and one with a diverged loss."""
    passed = builders.result()
    skipped = builders.result(outcome=Outcome(OutcomeKind.SKIPPED, "too large"))
    diverged = replace(passed, steps=tuple(replace(s, loss=math.nan) for s in passed.steps))
    results = builders.results(builders.searched(passed), skipped, diverged)
    content: dict[str, Any] = json.loads(write(results))
    return content


def test_the_published_schema_is_up_to_date() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "scripts/make-schema.py"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert PATH.read_text(encoding="utf-8") == made.stdout, (
        "stale; run: .venv/bin/python scripts/make-schema.py > docs/results.schema.json"
    )


def test_the_schema_is_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_written_results_match_the_schema(document: dict[str, Any]) -> None:
    CLOSED.validate(document)
    PUBLISHED.validate(document)


def test_no_key_of_version_0_1_was_removed() -> None:
    def optional(schema: Any) -> Any:
        if isinstance(schema, list):
            return [optional(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        return {key: optional(value) for key, value in schema.items() if key != "required"}

    Draft202012Validator(closed(optional(SCHEMA))).validate(OLD)


def test_every_key_has_a_description() -> None:
    def unexplained(schema: Any, path: str) -> list[str]:
        if isinstance(schema, list):
            return [each for item in schema for each in unexplained(item, path)]
        if not isinstance(schema, dict):
            return []
        found = [
            f"{path}.{name}"
            for name, value in schema.get("properties", {}).items()
            if not value.get("description") and "$ref" not in value
        ]
        return found + [
            each for name, value in schema.items() for each in unexplained(value, f"{path}.{name}")
        ]

    assert unexplained(SCHEMA, "") == []


def rename(document: dict[str, Any]) -> None:
    document["results"][0]["peak_memory"] = document["results"][0].pop("peak_memory_gb")


def retype(document: dict[str, Any]) -> None:
    document["results"][0]["needed_memory_bytes"] = "12"


def misname(document: dict[str, Any]) -> None:
    document["results"][0]["outcome"] = "out-of-memory"


def tear(document: dict[str, Any]) -> None:
    del document["results"][0]["steps"]


@pytest.mark.parametrize("change", [rename, retype, misname, tear])
def test_incompatible_changes_are_detected(
    change: Callable[[dict[str, Any]], None], document: dict[str, Any]
) -> None:
    change(document)
    with pytest.raises(ValidationError):
        PUBLISHED.validate(document)


def test_an_added_key_is_compatible_but_detected(document: dict[str, Any]) -> None:
    document["results"][0]["colour"] = "blue"
    PUBLISHED.validate(document)
    with pytest.raises(ValidationError, match="colour"):
        CLOSED.validate(document)
