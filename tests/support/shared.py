"""Real runs that several tests read: each is measured once, by the first process that wants it."""

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
from tests.support.course import prepare

T = TypeVar("T")

TOKEN = "hf_planted0123456789"
PLAIN_SEARCH = ["--seq-length", "64", "--steps", "2", "--quantize", "none"]
GRID = ["--batch-sizes", "1,4", "--ranks", "4,64", "--layers", "2"]


@dataclass(frozen=True)
class Shared:
    """A folder that all processes of one pytest run use."""

    folder: Path

    def made(self, name: str, make: Callable[[Path], T]) -> T:
        """What ``make`` returned for the folder of that name, at whose first use it is called."""
        folder, result = self.folder / name, self.folder / f"{name}.result"
        with (self.folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not result.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process in which it failed
                folder.mkdir()
                result.write_bytes(pickle.dumps(make(folder)))
                kernels.give(settled_seconds=0)  # its workers have ended
        kernels.take()
        found: T = pickle.loads(result.read_bytes())
        return found


def smoke(folder: Path) -> Finished:
    """One preset that passes, its results written to a file too, with a token at hand."""
    tokens = {"HF_TOKEN": TOKEN, "HUGGING_FACE_HUB_TOKEN": TOKEN}
    asked = ["--model", "smoke-tiny", *PLAIN, "--output", "out.json"]
    return checked(benchmark(folder, *asked, env=tokens))


def ladder(folder: Path) -> Finished:
    """A model that passes and is searched, and one over the budget."""
    make_model(folder / "small")
    make_model(folder / "large", hidden_size=256, intermediate_size=512)
    asked = ["--model", "small", "--model", "large", "--optimize", *GRID, "--exhaustive"]
    return checked(benchmark(folder, *asked, *PLAIN, "--max-memory", "0.0025"))


def nothing_fits(folder: Path) -> Finished:
    """A search within less memory than the least of its configurations needs."""
    asked = [*GRID, *PLAIN_SEARCH, "--max-memory", "0.0008"]
    return your_ai_command(folder, "optimize", "smoke-tiny", *asked, "--run-dir", "run")


def history(folder: Path) -> Finished:
    """The home of a user who has benchmarked a preset and a model in a folder."""
    make_model(folder / "mine")
    asked = ["benchmark", "--model", "smoke-tiny", "--model", "mine", *PLAIN]
    return checked(your_ai_command(folder, *asked, home=folder))


def trained(folder: Path) -> Finished:
    """A course, and one training of it from its beginning to its end."""
    course = prepare(folder)
    return course.run(*course.train("trained"))


def checked(done: Finished) -> Finished:
    """The same, if it did well."""
    assert done.code == 0, done.stdout + done.stderr
    return done
