"""Trains random small data sets with ``--mask-prompt``; some have no completion to train on."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.chaos.report import Report
from tests.support import builders
from tests.support.chat import (
    CLOSED,
    OPEN,
    THINKING,
    Template,
    add_template,
    chat,
    pair,
    write_rows,
)
from tests.support.command import your_ai_command
from tests.support.workspace import Workspace, prepare
from worker.protocol.codec import decode_event
from worker.protocol.messages import Tokenized
from worker.protocol.requests import ModelSource, TrainingRequest

TEMPLATES = {"closed": CLOSED, "open": OPEN, "thinking": THINKING}
TRAINED_EVERY = 10
"""Every so many cases are really trained; the others only load the data, as the worker does."""

Rows = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Case:
    """Data, and the options to train it with. ``files`` has the rows of each file."""

    template: str
    limit: int
    batch_size: int
    files: dict[str, Rows]

    @property
    def dropped(self) -> dict[str, int]:
        """The number of rows without a completion, counted from their words."""
        has_completion = TEMPLATES[self.template].has_completion
        return {
            name: sum(not has_completion(row, self.limit) for row in rows)
            for name, rows in self.files.items()
        }

    @property
    def is_refused(self) -> bool:
        """Whether a file has too few rows left for a batch."""
        dropped = self.dropped
        return any(len(self.files[n]) - dropped[n] < self.batch_size for n in dropped)


@dataclass(frozen=True, slots=True)
class Seen:
    """What happened: whether the data was refused, and the numbers of dropped rows, if reported."""

    refused: bool
    dropped: dict[str, int]
    problem: str | None = None


def masking(number: int = 100) -> Report:
    """Load or train ``number`` random data sets, and compare with an independent count."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        return masked(prepare(Path(name)), number, TRAINED_EVERY)


def masked(workspace: Workspace, number: int, trained_every: int) -> Report:
    """Load ``number`` data sets in a workspace, and train every ``trained_every``-th."""
    for name, template in TEMPLATES.items():
        _make_model(workspace, name, template)
    failures: list[str] = []
    cases = [drawn(random.Random(seed)) for seed in range(number)]
    for index, case in enumerate(cases):
        run: Callable[..., Seen] = _trained if index % trained_every == 0 else _loaded
        folder = workspace.folder / f"masked-{index}"
        folder.mkdir()
        for name, rows in case.files.items():
            write_rows(folder / name, rows)
        problem = _problem(case, run(workspace, case, folder))
        if problem:
            failures.append(f"case {index}: {problem}")
    figures = {
        "random data sets with --mask-prompt": number,
        "refused because too few sequences have a completion": sum(c.is_refused for c in cases),
        "with dropped sequences, but enough left": sum(
            any(c.dropped.values()) and not c.is_refused for c in cases
        ),
        "really trained": len(cases[::trained_every]),
        "wrongly refused or accepted, miscounted, or without effect": len(failures),
    }
    return Report("Training with masked prompts", figures, failures)


def drawn(draw: random.Random) -> Case:
    """Return a random case; in a third of them most rows have no completion."""
    limit, is_poor = draw.randrange(8, 25), draw.random() < 1 / 3
    make = draw.choice([_pair, _chat])
    names = ["train.jsonl", *(["valid.jsonl"] if draw.random() < 0.5 else [])]
    return Case(
        template=draw.choice([*TEMPLATES]),
        limit=limit,
        batch_size=draw.choice([1, 1, 2]),
        files={
            name: [make(draw, limit, is_poor) for _ in range(draw.randrange(2, 8))]
            for name in names
        },
    )


def _pair(draw: random.Random, limit: int, is_poor: bool) -> dict[str, Any]:
    return pair(*_counts(draw, limit, is_poor))


def _chat(draw: random.Random, limit: int, is_poor: bool) -> dict[str, Any]:
    last = draw.choice(["assistant", "assistant", "user"])
    if draw.random() < 0.1:
        return chat(draw.randrange(1, limit), last=last)
    turns = [draw.randrange(4) for _ in range(2 * draw.randrange(2))]
    return chat(*turns, *_counts(draw, limit, is_poor), last=last)


def _counts(draw: random.Random, limit: int, is_poor: bool) -> tuple[int, int]:
    """Return numbers of words of a prompt and a completion."""
    if is_poor and draw.random() < 0.85:
        return draw.choice([(draw.randrange(limit, 2 * limit), 4), (draw.randrange(4), 0)])
    return draw.randrange(limit + 2), draw.choice([0, 1, 2, 3, 4, 20])


def _problem(case: Case, seen: Seen) -> str | None:
    """Return how ``seen`` differs from the expected, or ``None``."""
    if seen.problem:
        return f"{case}: {seen.problem}"
    if seen.refused != case.is_refused:
        return f"{case}: refused: {seen.refused}, expected: {case.is_refused}"
    wrong = {n: (d, case.dropped[n]) for n, d in seen.dropped.items() if d != case.dropped[n]}
    if wrong or not (seen.refused or seen.dropped.keys() == case.files.keys()):
        return f"{case}: (dropped, expected) {wrong} of {seen.dropped}"
    return None


def _loaded(workspace: Workspace, case: Case, folder: Path) -> Seen:
    """Load the data with the worker's code in this process."""
    from worker.datasets import DataError, load_data  # slow: imports MLX
    from worker.events import EventPipe

    reading, writing = os.pipe()
    refused = False
    try:
        load_data(_request(workspace, case, folder), EventPipe(writing))
    except DataError:
        refused = True
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        events = [decode_event(line) for line in pipe]
    return Seen(refused, {e.file: e.dropped for e in events if isinstance(e, Tokenized)})


def _trained(workspace: Workspace, case: Case, folder: Path) -> Seen:
    """Train the data with the real command."""
    name = f"{folder.name}-run"
    options = ["--data", folder.name, "--from", f"{case.template}.json", "--mask-prompt"]
    options += ["--iters", "3", "--batch-size", str(case.batch_size), "--learning-rate", "1e-3"]
    options += ["--max-seq-length", str(case.limit)]
    done = your_ai_command(
        workspace.folder, *workspace.train(name, *options), home=workspace.folder / "home"
    )
    refused = "✗ Error (--mask-prompt needs " in done.stdout
    if (done.code, "✓ Done" in done.stdout) != ((1, False) if refused else (0, True)):
        return Seen(refused, {}, f"exit code {done.code}: {done.stdout}{done.stderr}")
    if refused:
        return Seen(refused, {})
    problem = None if _changed(workspace.folder / f"{name}-adapters") else "adapters never changed"
    notes = re.findall(r"dropped (\d+) of \d+ sequences in (\S+):", done.stdout)
    shown = {file: int(count) for count, file in notes}
    return Seen(refused, {file: shown.get(file, 0) for file in case.files}, problem)


def _changed(adapters: Path) -> bool:
    import mlx.core as mx

    arrays = mx.load(str(adapters / "adapters.safetensors"))
    assert isinstance(arrays, dict)
    return any(bool(a.any().item()) for name, a in arrays.items() if name.endswith("lora_b"))


def _request(workspace: Workspace, case: Case, folder: Path) -> TrainingRequest:
    known = builders.TRAINING_REQUEST
    configuration = replace(known.configuration, batch_size=case.batch_size, seq_length=case.limit)
    return replace(
        known,
        model=ModelSource({}, str(workspace.folder / case.template)),
        configuration=configuration,
        data=str(folder),
        mask_prompt=True,
    )


def _make_model(workspace: Workspace, name: str, template: Template) -> None:
    """Copy the workspace's model and its results, and add a chat template to the copy."""
    model = shutil.copytree(workspace.folder / "model", workspace.folder / name)
    add_template(model, template)
    document = json.loads((workspace.folder / "results.json").read_bytes())
    document["results"][0]["model_name"] = str(model)
    (workspace.folder / f"{name}.json").write_text(json.dumps(document))
