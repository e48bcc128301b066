#!/usr/bin/env python3
"""Compare trials with mlx-lm's own training, for a small model of every type that mlx-lm has.

A model passes if the number of trainable parameters is the same, the losses differ by at most 1e-4
and the tight peak by at most 2 % (median of the rounds). The models are those in
tests/matrix/configs.json. Exits with 1 if one fails that mlx-lm trains. One round of all
models took 25 minutes on two busy cores; MLX compiles its CPU kernels in the first run.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from benchlib import table

from tests.matrix.check import CONFIGURATION, Comparison, compare
from tests.matrix.configs import all_configs
from worker.protocol.configuration import Configuration


def main() -> None:
    """Compare the models and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="models to compare [default: all]")
    parser.add_argument("--rounds", type=int, default=3, help="trials per model [default: 3]")
    parser.add_argument("--jobs", type=int, default=2, help="models at a time [default: 2]")
    parser.add_argument(
        "--grad-checkpoint", action="store_true", help="train with gradient checkpointing"
    )
    arguments = parser.parse_args()
    names = arguments.names or list(all_configs())
    configuration = replace(CONFIGURATION, grad_checkpoint=arguments.grad_checkpoint)
    one = partial(compare_one, configuration=configuration, rounds=arguments.rounds)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        compared = dict(zip(names, pool.map(one, names), strict=True))
    sys.exit(not report(compared))


def compare_one(name: str, configuration: Configuration, rounds: int) -> Comparison:
    """Compare one model, and print a line about it to stderr."""
    compared = compare(all_configs()[name], configuration, rounds)
    print(name, compared.refused or compared.problems() or "ok", file=sys.stderr, flush=True)
    return compared


def report(compared: dict[str, Comparison]) -> bool:
    """Print the tables. Return whether every model passes that mlx-lm trains."""
    trained = {name: one for name, one in compared.items() if not one.refused}
    failed = {name: one.problems() for name, one in trained.items() if one.problems()}
    same = [one for name, one in trained.items() if name not in failed]
    differences = [one.loss_difference for one in same]
    rows: list[list[object]] = [
        ["models", len(compared)],
        ["trained by mlx-lm", len(trained)],
        ["the trial measures the same", len(same)],
        [
            "largest difference of a loss",
            f"{max(differences, default=0):.1e}",
        ],
        ["tight peak, ours / mlx-lm's", _range([one.peak_ratio for one in same])],
    ]
    table("Trials and mlx-lm's own training", ["", "number"], rows)
    different = [[name, _cell("; ".join(each))] for name, each in failed.items()]
    table("Models with a difference", ["model", "difference"], different)
    refused = [
        [name, _cell(one.refused), _cell(one.trials[-1].error or "passes")]
        for name, one in compared.items()
        if one.refused
    ]
    table("Models that mlx-lm does not train", ["model", "mlx-lm's reason", "a trial"], refused)
    return not failed


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")


def _range(ratios: list[float]) -> str:
    return f"{min(ratios):.3f} to {max(ratios):.3f}" if ratios else "–"


if __name__ == "__main__":
    main()
