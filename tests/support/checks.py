"""Assertions that hold for every passed trial and for every usage error."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Finished

GB = 2**30


def check_figures(entry: dict[str, Any], steps: int = 2, tokens: int = 2 * 63) -> None:
    """Assert that the figures of a passed trial are consistent."""
    budget = entry["config"]["budget_bytes"]
    assert entry["success"] is True
    assert entry["outcome"] == "pass"
    assert entry["error"] is None
    assert 0 < entry["load"]["resident_bytes"] <= entry["load"]["peak_bytes"]
    assert entry["load"]["resident_bytes"] < entry["needed_memory_bytes"]
    assert entry["needed_memory_bytes"] <= entry["peak_memory_bytes"] <= budget
    assert 0 < entry["memory_limit_bytes"] <= budget
    assert entry["peak_memory_gb"] * GB == entry["peak_memory_bytes"]
    assert entry["needed_memory_gb"] * GB == entry["needed_memory_bytes"]
    last_began = max(p["at"] for p in entry["phases"] if p["phase"] == "relaxed")
    counted = [step for step in entry["steps"] if step["at"] >= last_began]
    tight = [step for step in entry["steps"] if step["phase"] == "tight"]
    assert [step["index"] for step in counted] == list(range(1, steps + 1))
    assert {step["phase"] for step in counted} == {"relaxed"}
    assert [step["index"] for step in tight] == list(range(1, len(tight) + 1))
    assert 4 <= len(tight) <= 10
    assert {step["tokens"] for step in entry["steps"]} == {tokens}
    assert all(math.isfinite(step["loss"]) for step in entry["steps"])
    assert len({step["loss"] for step in entry["steps"]}) > 1
    assert max(step["peak_bytes"] for step in counted) == entry["peak_memory_bytes"]
    # The relaxed phase may have repeated the tight one's limit, and peaked a little lower.
    least = min(max(step["peak_bytes"] for step in tight), entry["peak_memory_bytes"])
    assert least == entry["needed_memory_bytes"]
    seconds = sum(step["seconds"] for step in counted)
    assert entry["tokens_per_second"] == pytest.approx(steps * tokens / seconds)
    assert entry["tokens_per_second_at_needed_memory"] > 0
    spent = sum(step["seconds"] for step in entry["steps"]) + entry["load"]["seconds"]
    assert spent < entry["wall_seconds"]
    assert [phase["phase"] for phase in entry["phases"]][:3] == ["import", "load", "tight"]
    times = [step["at"] for step in entry["steps"]]
    assert times == sorted(times)
    largest = max(entry["load"]["peak_bytes"], *(step["peak_bytes"] for step in entry["steps"]))
    assert entry["memory_timeline"]
    assert all(0 <= active <= largest for _, active, _ in entry["memory_timeline"])
    assert entry["footprint_peak_bytes"] > entry["load"]["resident_bytes"]
    assert entry["footprint_timeline"]
    assert all(0 < size <= entry["footprint_peak_bytes"] for _, size in entry["footprint_timeline"])
    assert {"python", "mlx", "mlx-lm"} <= set(entry["versions"])
    assert entry["device"]["backend"] in {"cpu", "metal", "cuda"}
    assert entry["exit_status"] == 0


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def check_refused(done: Finished, problem: str, before: list[str], code: int = 2) -> None:
    """Assert that the command failed with one line that has ``problem`` and left no files."""
    assert "Traceback" not in done.stderr + done.stdout
    assert done.code == code, done.stdout + done.stderr
    usage = ("Usage:", "Try ")
    lines = [
        line for line in done.stderr.splitlines() if line.strip() and not line.startswith(usage)
    ]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Error: ")
    assert problem in lines[0]
    assert done.stdout == ""
    assert listing(done.folder) == before
    home = done.folder.parent / f"{done.folder.name}-home"
    assert not (home / "state").exists()
