"""``your_ai ceiling``: the map of real trials, resumed, exhaustive, and for several models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.support.command import Finished, your_ai_command

TRAINING = ["--steps", "1", "--max-memory", "0.012"]
COARSE = ["--seq-lengths", "16,64,256", "--batch-sizes", "1,4"]


def columns(done: Finished) -> list[dict[str, Any]]:
    """Return the columns of the only map, without the measured figures."""
    measured = ("needed_memory_bytes", "tokens_per_second", "measured")
    found: list[dict[str, Any]] = done.only["ceiling"]["columns"]
    return [{name: c[name] for name in c if name not in measured} for c in found]


def test_every_length_of_the_map_follows_from_a_trial(ceiling: Finished) -> None:
    found = ceiling.only["ceiling"]
    assert (found["complete"], found["proven"]) == (True, True)
    assert len(found["all_results"]) < 12  # of 42
    for column in found["columns"]:
        lengths = [16, 32, 64, 96, 128, 192, 256]
        edge = lengths.index(column["longest"]) + 1 if column["longest"] else 0
        assert column["shortest_failure"] == (lengths[edge] if edge < len(lengths) else None)
    assert ceiling.document["recommended"] == "smoke-tiny"
    assert "Proven in " in ceiling.stdout


def test_a_resumed_map_repeats_no_trial(ceiling: Finished, tmp_path: Path) -> None:
    shutil.copytree(ceiling.folder / "run", tmp_path / "run")
    journal = tmp_path / "run/journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if b'"kind":"ended"' in line)
    journal.write_bytes(b"".join(lines[: first + 1]))
    done = your_ai_command(tmp_path, "ceiling", "--resume", "--run-dir", "run")
    assert done.code == 0, done.stdout + done.stderr
    assert "(1 trial already finished)" in done.stdout
    assert done.only["ceiling"]["complete"] is True
    kept = ceiling.only["ceiling"]["all_results"][0]
    assert done.only["ceiling"]["all_results"][0] == kept


def test_the_walk_finds_what_an_exhaustive_map_finds(tmp_path: Path) -> None:
    walk, whole = (tmp_path / name for name in ("walk", "whole"))
    walk.mkdir()
    whole.mkdir()
    asked = ["ceiling", "smoke-tiny", *COARSE, *TRAINING, "--run-dir", "run"]
    found, expected = your_ai_command(walk, *asked), your_ai_command(whole, *asked, "--exhaustive")
    assert (found.code, expected.code) == (0, 0), found.stdout + expected.stdout
    assert len(expected.only["ceiling"]["all_results"]) == 12
    assert columns(found) == columns(expected)


def test_several_models_have_a_row_each(tmp_path: Path) -> None:
    models, sizes = ["smoke-tiny", "smoke-small"], ["--seq-lengths", "16,32", "--batch-sizes", "1"]
    more = ["--steps", "1", "--max-memory", "1", "--grad-checkpoint", "--run-dir", "run"]
    done = your_ai_command(tmp_path, "ceiling", *models, *sizes, *more)
    assert done.code == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["Model", "Size", "Batch", "1"] in lines
    assert ["smoke-tiny", "263K", "≥", "32"] in lines
    assert ["smoke-small", "919K", "≥", "32"] in lines
    trials = [e["ceiling"]["all_results"] for e in done.document["results"]]
    assert [len(found) for found in trials] == [1, 1]
