"""The published schema of the results, against real ones: neither says more than the other."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from tests.support.command import ROOT, Finished, your_ai_command
from tests.support.shared import GRID

SCHEMA = json.loads((ROOT / "docs/results.schema.json").read_text(encoding="utf-8"))


def closed(schema: Any) -> Any:
    """The schema with every object's keys taken to be all that there are.

    The published one promises only that none is taken away; this one notices what it does not name.
    """
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if "properties" in found and set(found["properties"]) != {"backend"}:
        found.setdefault("additionalProperties", False)
    return found


PUBLISHED, CLOSED = Draft202012Validator(SCHEMA), Draft202012Validator(closed(SCHEMA))


@pytest.fixture(scope="module")
def documents(
    ladder: Finished, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Results with a pass, a search, a model over budget, and a search that found nothing."""
    folder = tmp_path_factory.mktemp("schema")
    searching = ["optimize", "smoke-tiny", *GRID, "--seq-length", "64", "--steps", "1"]
    searched = your_ai_command(
        folder, *searching, "--run-dir", "run", "--quantize", "none", "--max-memory", "0.0001"
    )
    assert searched.code == 1, searched.stderr
    return {"ladder": ladder.document, "search": searched.document}


def entries(document: dict[str, Any]) -> list[dict[str, Any]]:
    searched = [entry["optimal_config"] for entry in document["results"]]
    return [*document["results"], *(t for s in searched if s for t in s["all_results"])]


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_what_is_written_is_what_is_published(documents: dict[str, dict[str, Any]]) -> None:
    for document in documents.values():
        CLOSED.validate(document)
        PUBLISHED.validate(document)
    outcomes = {entry["outcome"] for document in documents.values() for entry in entries(document)}
    assert outcomes == {"pass", "over-budget"}
    assert documents["ladder"]["results"][0]["optimal_config"]["pareto"]
    assert documents["search"]["results"][0]["optimal_config"]["optimal_batch_size"] is None


def test_one_that_was_never_run(documents: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """Real weights that are gone when their turn comes: an entry without a worker."""
    document = copy.deepcopy(documents["ladder"])
    entry = document["results"][1]
    for name in SCHEMA["$defs"]["trial"]["dependentRequired"]["exit_status"]:
        del entry[name]
    CLOSED.validate(document)


def test_every_key_is_explained() -> None:
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
def test_what_breaks_the_promise_is_seen(
    change: Callable[[dict[str, Any]], None], documents: dict[str, dict[str, Any]]
) -> None:
    document = copy.deepcopy(documents["ladder"])
    change(document)
    with pytest.raises(ValidationError):
        PUBLISHED.validate(document)


def test_a_key_that_is_added_breaks_nothing_and_is_noticed(
    documents: dict[str, dict[str, Any]],
) -> None:
    document = copy.deepcopy(documents["ladder"])
    document["results"][0]["colour"] = "blue"
    PUBLISHED.validate(document)
    with pytest.raises(ValidationError, match="colour"):
        CLOSED.validate(document)
