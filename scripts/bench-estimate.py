#!/usr/bin/env python3
"""Compare estimates of memory with measurements.

Takes the trials in results files, those in docs/measurements (--shared), the public reports about
Macs there (--public), and trials of the small models of tests/matrix that it runs on the CPU
(--matrix, 15 to 30 minutes). Prints the errors for each, and the largest. No coefficient of an
estimate is fitted to them. --counts prints the parameters and bytes of well-known models, and
nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import measurementlib
from benchlib import table
from mlx.utils import tree_flatten

from tests.matrix.check import CONFIGURATION, run_trial
from tests.matrix.configs import all_configs
from worker import architecture, probe, weights
from worker.protocol.configuration import Configuration, Weights
from worker.protocol.memory import OLD_METAL
from worker.protocol.requests import ModelSource, PlannedModel, TrialRequest
from your_ai.models import resolve
from your_ai.models.presets import Preset, all_presets
from your_ai.models.quantization import named, stored
from your_ai.models.resolve import Model, from_preset
from your_ai.planning.memory_estimate import estimate
from your_ai.runs import results
from your_ai.units import show_size

LARGEST_COUNT = 10
SMOKE = "smoke"
COUNTED = ("ERNIE-4.5-21B-A3B-PT", "Llama-4-Scout-17B-16E")
"""Models in docs/measurements/models that only --counts uses."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An estimate and a measurement, in bytes."""

    group: str
    name: str
    estimated: int
    measured: int

    @property
    def error(self) -> float:
        """Relative error of the estimate; positive if it is too high."""
        return self.estimated / self.measured - 1


def main() -> None:
    """Compare what was asked for, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="*", help="results files")
    parser.add_argument("--shared", action="store_true", help="files in docs/measurements")
    parser.add_argument("--public", action="store_true", help="public reports about Macs")
    parser.add_argument("--matrix", nargs="*", metavar="NAME", help="models of tests/matrix")
    parser.add_argument("--counts", action="store_true", help="parameters and bytes of models")
    arguments = parser.parse_args()
    if arguments.counts:
        counts()
        return
    found = [
        comparison
        for path in arguments.results
        for comparison in trials(results.read(path.read_bytes(), path.name))
    ]
    if arguments.shared:
        found += shared()
    if arguments.public:
        found += public_reports()
    if arguments.matrix is not None:
        found += matrix(arguments.matrix or all_configs())
    report(found)


def counts() -> None:
    """Print the parameters and bytes of presets and of further models. Nothing is allocated."""
    configs = {n: p.config for n, p in all_presets().items() if not n.startswith(SMOKE)}
    configs |= {name: measurementlib.config_of(name) for name in COUNTED}
    rows = []
    for name, config in configs.items():
        model = architecture.build(config)
        parameters = sum(array.size for _, array in tree_flatten(model.parameters()))
        with contextlib.redirect_stdout(io.StringIO()):  # mlx-lm prints the bits per weight
            planned = weights.plan(ModelSource(config), configuration_with_bits(config))
        size = weights.total_bytes(planned)
        rows.append([name, f"{parameters:,}", f"{size:,}", show_size(size)])
    table("Well-known models", ["model", "parameters", "bytes of 4-bit weights", "size"], rows)


def configuration_with_bits(config: dict[str, Any]) -> Configuration:
    """Return a configuration with 4 bits in the model's own format, if it has one."""
    own = stored(config) or named("4")
    return Configuration(
        quantization_bits=own.bits, quantization_mode=own.mode, group_size=own.group_size
    )


def trials(run: results.Results) -> Iterator[Comparison]:
    """Yield a comparison for each trial of a preset that has needed and unlimited memory."""
    for trial in run.trials:
        preset, needed = all_presets().get(trial.preset), trial.needed_memory_bytes
        if preset is not None and needed is not None:
            yield from compared(preset, trial.config.configuration, run.device.backend, needed)


def shared() -> Iterator[Comparison]:
    """Yield a comparison for each trial of a preset in docs/measurements."""
    presets = {preset.model_name: preset for preset in all_presets().values()}
    for one in measurementlib.measurements():
        preset = presets.get(one.model_name or "")
        if preset is not None and one.needed_bytes is not None:
            yield from compared(preset, one.configuration, one.backend, one.needed_bytes)


def compared(
    preset: Preset, configuration: Configuration, backend: str, needed_bytes: int
) -> Iterator[Comparison]:
    """Yield the comparison of a trial's needed memory, if it can be estimated."""
    found = estimate(from_preset(preset), configuration, backend)
    if found is None:
        found = estimate(traced(preset.config, configuration, backend), configuration, backend)
    if found is not None:
        name = f"{preset.name} {described(configuration)}"
        yield Comparison(f"{backend}, needed memory", name, found.needed_bytes, needed_bytes)


def public_reports() -> Iterator[Comparison]:
    """Yield a comparison for each public report. MLX keeps to its limit where it can."""
    for report in measurementlib.public_reports():
        configuration = replace(report.configuration, weights=Weights.SYNTHETIC)
        config = measurementlib.config_of(report.architecture)
        found = estimate(traced(config, configuration, OLD_METAL), configuration, "metal")
        if found is None:
            print(f"{report.model_name} {described(configuration)}: not estimated")
        else:
            unlimited = found.run_ahead_bytes
            expected = max(found.needed_bytes, min(unlimited, report.limit_bytes or unlimited))
            name = f"{report.model_name} {described(configuration)}"
            yield Comparison("metal, public peaks", name, expected, report.peak_bytes)


def matrix(names: Iterable[str]) -> Iterator[Comparison]:
    """Run a trial of each model, with and without gradient checkpointing."""
    for name in names:
        for is_checkpointed in (True, False):
            configuration = replace(
                CONFIGURATION, seq_length=64, batch_size=2, grad_checkpoint=is_checkpointed
            )
            config = all_configs()[name]
            try:
                model = traced(config, configuration, "cpu")
            except architecture.UnsupportedModelError:
                continue
            # A trial trains at most the layers that there are; a table knows no others.
            configuration = replace(configuration, lora_layers=min(16, model.layers))
            found = estimate(model, configuration, "cpu")
            trial = run_trial(TrialRequest(ModelSource(config), configuration, 1, 2**40))
            if found is None or trial.error:
                print(f"{name}: {trial.error or 'not estimated'}", flush=True)
                continue
            group = f"cpu, matrix, {'checkpointed' if is_checkpointed else 'stored'}"
            yield Comparison(group, name, found.needed_bytes, trial.peak_bytes)


def traced(config: dict[str, Any], configuration: Configuration, memory_on: str) -> Model:
    """Return a model with what a probe finds. Both kinds of checkpointing have the same."""
    return _traced(json.dumps(config), replace(configuration, grad_checkpoint=False), memory_on)


@cache
def _traced(config: str, configuration: Configuration, memory_on: str) -> Model:
    source: dict[str, Any] = json.loads(config)
    with contextlib.redirect_stdout(io.StringIO()):  # mlx-lm prints the bits per weight
        facts = probe.facts(PlannedModel(source, configuration, memory_on))
    return resolve.with_facts(Model("", "", "", source), {"": facts})


def described(configuration: Configuration) -> str:
    """Return the configuration in short."""
    c = configuration
    sizes = f"{c.batch_size}/{c.lora_rank}/{c.lora_layers} x {c.seq_length}"
    bits = f"{c.quantization_bits}-bit" if c.quantization_bits else "bf16"
    kind = "/".join((c.fine_tune_type, *c.lora_keys[:1], c.optimizer))
    return f"{sizes}, {bits}, {kind}{'' if c.grad_checkpoint else ', stored'}"


def report(found: list[Comparison]) -> None:
    """Print the errors of each group, and the largest of all."""
    rows = []
    for group in sorted({c.group for c in found}):
        errors = sorted(abs(c.error) for c in found if c.group == group)
        row = [f"{median(errors):.1%}", f"{errors[-1]:.1%}"]
        rows.append([group, len(errors), *row, sum(error > 0.15 for error in errors)])
    header = ["measurements", "number", "median error", "largest", "above 15%"]
    table("Estimates compared with measurements", header, rows)
    largest = sorted(found, key=lambda c: -abs(c.error))[:LARGEST_COUNT]
    table(
        "Largest errors",
        ["measurement", "measured", "estimated", "error"],
        [
            [
                f"{c.group}: {c.name}",
                show_size(c.measured),
                show_size(c.estimated),
                f"{c.error:+.1%}",
            ]
            for c in largest
        ],
    )


if __name__ == "__main__":
    main()
