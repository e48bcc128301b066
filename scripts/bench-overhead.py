#!/usr/bin/env python3
"""Measure how much time your_ai takes in addition to training, and compare two versions of it.

Each figure is the median of several rounds, in which the new version, the old one and the reference
alternate, so that a busy machine affects all of them equally. The first round fills caches and does
not count. Both versions run in this environment, with their own folders for runs and caches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchlib import ROOT, Version, lora_config, table
from make_model import make_model, make_text

HEAD = ("figure", "new", "old", "new / old", "reference", "new / reference", "target", "reached")
TRIAL = (
    *("--quantize=none", "--weights=real", "--seq-length=256", "--lora-rank=16"),
    "--lora-layers=4",
)
SMOKE = ("--seq-length=48", "--steps=3")  # the suite's settings; older versions had larger ones
SEARCH = ("smoke-small", "--max-memory=0.005", "--batch-sizes=1,2,4", "--ranks=8,16,32", *SMOKE)


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
    seconds, (entry,) = version.measure("optimize", *SEARCH)
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
        "smoke-same": Figure(
            "`benchmark --suite smoke` with the same settings",
            lambda version: version.measure("benchmark", "--suite=smoke", *SMOKE)[0],
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
