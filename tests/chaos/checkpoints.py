"""Damages the newest checkpoint of a training at random, and resumes the training."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tests.chaos.report import Report, counted
from tests.support.workspace import Workspace, prepare, wait_for
from worker.protocol.codec import encode
from worker.protocol.messages import Failed, Resumed, Step, Trained
from worker.protocol.requests import TrainingRequest
from your_ai.runs import journal
from your_ai.runs.journal import JOURNAL
from your_ai.runs.run import read_header
from your_ai.supervision.observation import Observation
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.supervision.trial_log import TrialLog
from your_ai.training.job import Training

EVERY = 2
"""Iterations between checkpoints."""
SAVED, OLDER = 2 * EVERY, EVERY
"""The iterations of the newest checkpoint and of the one before it."""
ITERS = 3 * EVERY
FILES = ["adapters.safetensors", "optimizer.safetensors", "place.json", "SHA256SUMS"]
CASES_PER_COMMAND = 25
"""A real `train --resume` takes longer than its worker alone."""

NOTE = "the last checkpoint is missing or corrupt; resuming from iteration"


def zeros(file: Path, draw: random.Random) -> None:
    """Replace a file's end by zeros, or all of it, as a power cut does."""
    content = file.read_bytes()
    start = draw.choice([0, draw.randrange(len(content))])
    file.write_bytes(content[:start] + bytes(len(content) - start))


def cut(file: Path, draw: random.Random) -> None:
    os.truncate(file, draw.randrange(file.stat().st_size))


def flip(file: Path, draw: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def remove(file: Path, _draw: random.Random) -> None:
    file.unlink()


def mix(file: Path, _draw: random.Random) -> None:
    """Replace a file by that of the older checkpoint."""
    older = file.parent.parent / file.parent.name.replace(str(SAVED), str(OLDER))
    shutil.copyfile(older / file.name, file)


DAMAGES: list[Callable[[Path, random.Random], None]] = [zeros, cut, flip, remove, mix]


def checkpoints(number: int = 100) -> Report:
    """Damage ``number`` checkpoints in each way."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        workspace = prepare(Path(name))
        workspace.run(*workspace.train("trained"))
        return damaged_checkpoints(workspace, number)


def damaged_checkpoints(workspace: Workspace, number: int) -> Report:
    """Damage checkpoints of a training like ``trained`` in the workspace ``number`` times each."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        trainings = Trainings(workspace, Path(name))
        ways = [(damage, case) for case in range(number) for damage in DAMAGES]
        with ThreadPoolExecutor(2) as pool:
            refused = [*pool.map(trainings.resume_both_damaged, range(number))]
            found = [*pool.map(lambda way: trainings.resume_damaged(*way), ways)]
    commands = [command(workspace, case) for case in range(-(-number // CASES_PER_COMMAND))]
    failures = [failure for failure in [*found, *refused, *commands] if failure]
    figures = {
        "newest checkpoints damaged": counted(damage.__name__ for damage, _ in ways),
        "trainings whose two checkpoints were both damaged": len(refused),
        "`train --resume` with a damaged checkpoint": len(commands),
        "damaged checkpoints used, wrong losses, or nothing said": len(failures),
    }
    return Report("Damaged checkpoints", figures, failures)


class Trainings:
    """A short training with two checkpoints, copied for each case, and its undisturbed losses."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        (began, *_) = journal.read(workspace.folder / "trained" / JOURNAL)
        request = read_header(began.fields, Training).request
        # Validation would change the order of the data, and ends where the training ends.
        self._request = replace(request, val_batches=0, save_every=EVERY, iters=ITERS)
        self._folder = folder
        self._losses = _losses(self._run(self._request, "undisturbed"))
        self._run(replace(self._request, iters=SAVED), "stopped")

    def resume_damaged(self, damage: Callable[[Path, random.Random], None], case: int) -> str:
        """Return what was wrong, or an empty string."""
        name = f"{damage.__name__}-{case}"
        draw = random.Random(name)
        file = draw.choice(FILES)
        _damage(self._copy(name) / file, damage, draw)
        seen = self._run(replace(self._request, resume=True), name)
        resumed = [event.iteration for event in seen.events if isinstance(event, Resumed)]
        expected = {at: loss for at, loss in self._losses.items() if at > OLDER}
        if not isinstance(seen.final, Trained):
            return f"{name}, {file}: {seen.final}"
        if resumed != [OLDER] or _losses(seen) != expected:
            return f"{name}, {file}: resumed from {resumed}, losses {_losses(seen)}"
        return ""

    def resume_both_damaged(self, case: int) -> str:
        """Return what was wrong, or an empty string."""
        name = f"both-{case}"
        draw = random.Random(name)
        newest = self._copy(name)
        older = newest.with_name(newest.name.replace(str(SAVED), str(OLDER)))
        for checkpoint in (newest, older):
            _damage(checkpoint / draw.choice(FILES), draw.choice(DAMAGES[:4]), draw)
        seen = self._run(replace(self._request, resume=True), name)
        refused = isinstance(seen.final, Failed) and "none of the 2 checkpoints" in str(seen.final)
        return "" if refused else f"{name}: {seen.final}"

    def _copy(self, name: str) -> Path:
        """Copy the stopped training, and return its newest checkpoint."""
        shutil.copytree(self._folder / "stopped", self._folder / name)
        return self._folder / name / f"checkpoint-{SAVED:07d}"

    def _run(self, request: TrainingRequest, name: str) -> Observation:
        folder = self._folder / name
        request = replace(request, adapter_path=str(folder))
        log = TrialLog(folder.with_name(f"{name}.log"))
        return supervise(encode(request), log=log, limits=Limits(silence=120.0))


def command(workspace: Workspace, case: int) -> str:
    """Kill a training, damage its last checkpoint and resume. Return what was wrong."""
    name = f"damaged-{case}"
    draw = random.Random(name)
    process = workspace.start(workspace.train(name))
    wait_for(lambda: workspace.iteration(name) >= 13, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    *_, newest = sorted((workspace.folder / f"{name}-adapters").glob("checkpoint-*"))
    _damage(newest / draw.choice(FILES), draw.choice(DAMAGES[:4]), draw)
    done = workspace.run("train", "--resume", "--run-dir", name)
    if NOTE not in done.stdout:
        return f"{name}: it was not said: {done.stdout}"
    same = workspace.record(name)["losses"] == workspace.record("trained")["losses"]
    return "" if same else f"{name}: other losses"


def _damage(file: Path, damage: Callable[[Path, random.Random], None], draw: random.Random) -> None:
    """Damage a file so that it really differs."""
    before = file.read_bytes()
    while file.exists() and file.read_bytes() == before:
        damage(file, draw)


def _losses(seen: Observation) -> dict[int, float]:
    return {event.index: event.loss for event in seen.events if isinstance(event, Step)}
