"""Real runs that several tests read. The first process that needs a run makes it."""

from __future__ import annotations

import fcntl
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.support import kernels
from tests.support.command import PLAIN, Finished, benchmark, make_model, your_ai_command
from tests.support.workspace import prepare

T = TypeVar("T")

TOKEN = "hf_planted0123456789"
PLAIN_SEARCH = ["--seq-length", "64", "--steps", "2", "--quantize", "none"]
GRID = ["--batch-sizes", "1,4", "--ranks", "4,64", "--layers", "2"]


@dataclass(frozen=True)
class SharedRuns:
    """Runs in a folder that all processes of one pytest run share."""

    folder: Path

    def get(self, name: str, make: Callable[[Path], T]) -> T:
        """Return the result of ``make`` for the folder ``name``. Only the first use calls it."""
        folder, result = self.folder / name, self.folder / f"{name}.result"
        with (self.folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not result.exists():
                shutil.rmtree(folder, ignore_errors=True)  # may remain from a failed attempt
                folder.mkdir()
                result.write_bytes(pickle.dumps(make(folder)))
                kernels.publish(settled_seconds=0)  # no worker is still writing kernels
        kernels.fetch()
        found: T = pickle.loads(result.read_bytes())
        return found


def smoke(folder: Path) -> Finished:
    """Benchmark one preset with ``--output``, and with Hub tokens in the environment."""
    tokens = {"HF_TOKEN": TOKEN, "HUGGING_FACE_HUB_TOKEN": TOKEN}
    options = ["--model", "smoke-tiny", *PLAIN, "--output", "out.json"]
    return checked(benchmark(folder, *options, env=tokens))


def ladder(folder: Path) -> Finished:
    """Benchmark and optimize two models: a small one that fits and a large one that does not."""
    make_model(folder / "small")
    make_model(folder / "large", hidden_size=256, intermediate_size=512)
    options = ["--model", "small", "--model", "large", "--optimize", *GRID, "--exhaustive"]
    return checked(benchmark(folder, *options, *PLAIN, "--max-memory", "0.0025"))


def ceiling(folder: Path) -> Finished:
    """Find the longest sequences of a preset: some lengths do not fit, some are implied to fit."""
    grid = ["--seq-lengths", "16,32,64,96,128,192,256", "--batch-sizes", "1,2,4"]
    options = [*grid, "--max-memory", "0.015", "--steps", "1", "--run-dir", "run"]
    return checked(your_ai_command(folder, "ceiling", "smoke-tiny", *options))


def nothing_fits(folder: Path) -> Finished:
    """Optimize a model with a budget that is too small for any configuration."""
    options = [*GRID, *PLAIN_SEARCH, "--max-memory", "0.0008"]
    return your_ai_command(folder, "optimize", "smoke-tiny", *options, "--run-dir", "run")


def history(folder: Path) -> Finished:
    """Benchmark a preset and a local model. ``folder`` is also the user's home."""
    make_model(folder / "mine")
    arguments = ["benchmark", "--model", "smoke-tiny", "--model", "mine", *PLAIN]
    return checked(your_ai_command(folder, *arguments, home=folder))


def trained(folder: Path) -> Finished:
    """Prepare a workspace and run one training there."""
    workspace = prepare(folder)
    return workspace.run(*workspace.train("trained"))


def checked(done: Finished) -> Finished:
    """Return ``done`` if the command succeeded."""
    assert done.code == 0, done.stdout + done.stderr
    return done
