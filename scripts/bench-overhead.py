#!/usr/bin/env python3
"""Measure how much time your_ai takes in addition to training, and compare two versions of it.

Each figure is the median of several rounds, in which the new version, the old one and the reference
alternate, so that a busy machine affects all of them equally. The first round fills caches and does
not count. Both versions run in this environment, with their own folders for runs and caches.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchlib import lora_config, table
from make_model import make_model, make_text

HEAD = ("figure", "new", "old", "new / old", "reference", "new / reference", "target", "reached")
ROOT = Path(__file__).resolve().parent.parent
TRIAL = (
    *("--quantize=none", "--weights=real", "--seq-length=256", "--lora-rank=16"),
    "--lora-layers=4",
)
SEARCH_BUDGET = "0.012"  # in GB: on a CPU one trial passes, and two are over the budget


@dataclass(frozen=True, slots=True)
class Version:
    """A checkout of your_ai, and the folder for its runs and caches and the working directory."""

    checkout: Path
    home: Path

    def environment(self) -> dict[str, str]:
        """Return the environment in which Python imports this checkout and writes bytecode."""
        inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        own = {f"XDG_{kind}_HOME": str(self.home / kind.lower()) for kind in ("STATE", "CACHE")}
        # The models downloaded so far stay where they are.
        hub = os.environ.get("HF_HOME", str(Path.home() / ".cache/huggingface"))
        return {**inherited, **own, "HF_HOME": hub, "PYTHONPATH": str(self.checkout)}

    def prepare(self) -> None:
        """Compile the checkout and check that its packages are imported, in a worker too."""
        self.home.mkdir()
        packages = [str(self.checkout / name) for name in ("your_ai", "worker")]
        self.run("-m", "compileall", "-q", *packages)
        for package in packages:
            name = Path(package).name
            found = self.run("-P", "-c", f"import {name}; print({name}.__path__[0])").strip()
            if Path(found).resolve() != Path(package).resolve():
                raise SystemExit(f"Python imports {name} from {found}, not from {package}.")

    def run(self, *arguments: str) -> str:
        """Run ``python`` with these arguments and return what it prints."""
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self.environment(),
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            command = " ".join(("python", *arguments))
            output = f"{done.stdout}{done.stderr}"
            raise SystemExit(f"{command} failed with exit code {done.returncode}:\n{output}")
        return done.stdout

    def seconds(self, *arguments: str) -> float:
        """Run ``python`` with these arguments and return the seconds it takes."""
        began = time.perf_counter()
        self.run(*arguments)
        return time.perf_counter() - began

    def measure(self, *arguments: str) -> tuple[float, list[dict[str, Any]]]:
        """Run ``your_ai``, and return the seconds it takes and the entries in its results."""
        with tempfile.TemporaryDirectory(dir=self.home) as folder:
            seconds = self.seconds("-m", "your_ai", *arguments, "--run-dir", f"{folder}/run")
            document = json.loads(Path(folder, "run/results.json").read_text())
        entries: list[dict[str, Any]] = document["results"]
        if failed := [entry["preset"] for entry in entries if not entry["success"]]:
            raise SystemExit(f"these trials did not pass: {', '.join(failed)}")
        return seconds, entries


Timed = Callable[[Version], float]


@dataclass(frozen=True, slots=True)
class Figure:
    """What is measured, and the targets: in seconds, or relative to the old version or reference.

    A short command is repeated ``times`` per round.
    """

    what: str
    ours: Timed
    reference: Timed | None = None
    max_seconds: float | None = None
    of_old: float | None = None
    of_reference: float | None = None
    times: int = 1


def trial_overhead(version: Version, model: Path) -> float:
    """Run a trial and return its wall time without loading and steps, in seconds."""
    _, (entry,) = version.measure("benchmark", f"--model={model}", *TRIAL)
    steps: float = sum(step["seconds"] for step in entry["steps"])
    wall: float = entry["wall_seconds"]
    load: float = entry["load"]["seconds"]
    return wall - load - steps


def search_seconds(version: Version) -> float:
    """Run a search of one model and return the seconds it takes."""
    options = ("smoke-small", f"--max-memory={SEARCH_BUDGET}")
    seconds, (entry,) = version.measure("optimize", *options)
    trials = len(entry["optimal_config"]["all_results"])
    print(f"{version.home.name}: {trials} trials in {seconds:.1f} s", file=sys.stderr)
    return seconds


def all_figures(folder: Path) -> Mapping[str, Figure]:
    """Return the figures by the name of their part. Models and data are in the ``folder``."""
    model, lora = folder / "model", str(folder / "lora.json")
    presets = ("--suite=default", "--lora-keys=attention", "--optimizer=adamw")
    return {
        "trial": Figure(
            "a trial without loading and steps / `import mlx_lm.tuner.trainer`",
            lambda version: trial_overhead(version, model),
            lambda version: version.seconds("-c", "import mlx_lm.tuner.trainer"),
            of_reference=0.35,
        ),
        "command": Figure(
            "`benchmark --model` of a small folder / `mlx_lm.lora --iters 5`",
            lambda version: version.measure("benchmark", f"--model={model}", *TRIAL)[0],
            lambda version: version.seconds("-m", "mlx_lm", "lora", "--config", lora),
            of_reference=0.45,
        ),
        "smoke": Figure(
            "`benchmark --suite smoke`",
            lambda version: version.measure("benchmark", "--suite=smoke")[0],
            max_seconds=9,
            of_old=0.53,
        ),
        "optimize": Figure(
            "`optimize smoke-small`, 3 or 4 trials", search_seconds, max_seconds=4, of_old=0.57
        ),
        "doctor": Figure(
            "`doctor`", lambda version: version.seconds("-m", "your_ai", "doctor"), of_old=0.5
        ),
        "help": Figure(
            "`your_ai --help` / `import click`",
            lambda version: version.seconds("-m", "your_ai", "--help"),
            lambda version: version.seconds("-c", "import click"),
            of_reference=1.5,
            times=4,
        ),
        "gpu": Figure(
            "`benchmark --suite default`, attention, adamw",
            lambda version: version.measure("benchmark", *presets)[0],
            max_seconds=85,
        ),
    }


def row(figure: Figure, rounds: int, new: Version, old: Version | None) -> list[str]:
    """Measure a figure and return its row of the table."""
    sides = [(figure.ours, new)]
    sides += [(figure.ours, old)] if old else []
    sides += [(figure.reference, new)] if figure.reference else []
    times = [[timed(version) for timed, version in sides] for _ in range(rounds * figure.times + 1)]
    medians = iter([statistics.median(column) for column in zip(*times[1:], strict=True)])
    ours = next(medians)
    before = next(medians) if old else None
    reference = next(medians, None)
    reached = [
        ours <= limit * unit
        for limit, unit in (
            (figure.max_seconds, 1.0),
            (figure.of_old, before),
            (figure.of_reference, reference),
        )
        if limit is not None and unit is not None
    ]
    return [
        *(figure.what, _seconds(ours), _seconds(before), _ratio(ours, before)),
        *(_seconds(reference), _ratio(ours, reference), "; ".join(_targets(figure))),
        ("yes" if all(reached) else "no") if reached else "–",
    ]


def _targets(figure: Figure) -> Iterator[str]:
    if figure.of_reference is not None:
        yield f"≤ {figure.of_reference} × reference"
    if figure.max_seconds is not None:
        yield f"≤ {figure.max_seconds:g} s"
    if figure.of_old is not None:
        yield f"≤ {figure.of_old} × old"


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.3f} s"


def _ratio(ours: float, other: float | None) -> str:
    return "–" if other is None else f"{ours / other:.2f}"


def make_inputs(folder: Path) -> None:
    """Write a model, and the data and configuration with which ``mlx_lm.lora`` trains it."""
    model = make_model(folder / "model", hidden=128)
    # All texts have full length, as in a trial. There are enough validation texts for the 25
    # batches of 2 that mlx_lm.lora uses by default.
    data = make_text(folder / "data", longest=256, shortest=256, valid=50)
    config = lora_config(model, data, folder / "adapters", layers=4, rank=16, seq=256, batch=2)
    (folder / "lora.json").write_text(json.dumps({**config, "iters": 5}))


def main() -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory(prefix="overhead-") as name:
        folder = Path(name)
        figures = all_figures(folder)
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--old", type=Path, help="checkout of the version to compare with")
        parser.add_argument("--rounds", type=int, default=5, help="counted rounds [default: 5]")
        parser.add_argument(
            "--part",
            choices=figures,
            action="append",
            help="measure only this figure; repeatable [default: all except gpu]",
        )
        arguments = parser.parse_args()
        new = Version(ROOT, folder / "new")
        old = Version(arguments.old.resolve(), folder / "old") if arguments.old else None
        for version in filter(None, (new, old)):
            version.prepare()
        make_inputs(folder)
        parts = arguments.part or [name for name in figures if name != "gpu"]
        rows = (row(figures[part], arguments.rounds, new, old) for part in parts)
        table("Overhead", HEAD, rows)


if __name__ == "__main__":
    main()
