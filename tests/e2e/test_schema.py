"""The results of real runs match the published schema."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.command import Finished
from tests.support.schema import CLOSED, PUBLISHED


@pytest.fixture
def documents(ladder: Finished, nothing_fits: Finished) -> dict[str, dict[str, Any]]:
    """Results with a passed trial, a search, a trial over budget, and a search without a result."""
    return {"ladder": ladder.document, "search": nothing_fits.document}


def entries(document: dict[str, Any]) -> list[dict[str, Any]]:
    searched = [entry["optimal_config"] for entry in document["results"]]
    return [*document["results"], *(t for s in searched if s for t in s["all_results"])]


def test_results_match_the_published_schema(documents: dict[str, dict[str, Any]]) -> None:
    for document in documents.values():
        CLOSED.validate(document)
        PUBLISHED.validate(document)
    outcomes = {entry["outcome"] for document in documents.values() for entry in entries(document)}
    assert outcomes == {"pass", "over-budget"}
    small, large = documents["ladder"]["results"]
    assert small["log"]
    assert large["log"] is None  # no worker was started
    assert documents["ladder"]["results"][0]["optimal_config"]["pareto"]
    assert documents["search"]["results"][0]["optimal_config"]["optimal_batch_size"] is None
