#!/usr/bin/env python3
"""Check every file in docs/measurements, and print a table of the measurements.

usage: .venv/bin/python scripts/check-measurements.py [FOLDER]

If a file is invalid or implausible, or has something that looks private, prints the file and the
field, and exits with 1. Models are built with mlx-lm's classes; nothing is allocated.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from benchlib import table
from measurementlib import (
    FOLDER,
    PUBLIC_REPORTS,
    Measurement,
    PublicReport,
    config_of,
    known_config,
    measurements,
    shared_files,
)
from mlx.utils import tree_flatten

from worker import architecture
from your_ai.files import to_json
from your_ai.models.quantization import Quantization
from your_ai.planning import describe
from your_ai.runs.shared_measurements import SharedMeasurements, SharedTrial
from your_ai.runs.sharing import is_plain
from your_ai.supervision.outcome import OutcomeKind
from your_ai.units import GB, show_size

EXPECTED = {"README.md", "models", PUBLIC_REPORTS}
"""What the folder contains in addition to shared files."""

PRIVATE = {
    "a path": re.compile(
        r"(^|[\s\"'(=:])(~[/\w]|\.{0,2}/\w)|\\|\b[A-Za-z]:[/\\]|/(Users|home|root)/"
    ),
    "an e-mail address": re.compile(r"\S@\S"),
    "a token": re.compile(
        r"\b(hf|gh[a-z]|github_pat|sk|xox[a-z])[_-]\w{6}|[0-9a-fA-F]{32}|"
        r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-"
    ),
}
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*\.json")
URL = re.compile(r"https://[\w.-]+/[\w./?=&#-]*")


def main() -> int:
    """Print the problems or else the table, and return the exit code."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    found = list(problems(folder))
    for problem in found:
        print(problem, file=sys.stderr)
    if not found:
        heads = ("device", "memory", "mlx", "mlx-lm", "model", "configuration")
        head = [*heads, "needed", "peak", "tokens/s"]
        table("Measurements", head, [row(each) for each in measurements(folder)])
    return 1 if found else 0


def row(m: Measurement) -> list[object]:
    """Return the cells of a measurement; "–" if a figure is unknown."""
    memory = None if m.memory_bytes is None else f"{m.memory_bytes / GB:.0f} GB"
    sizes = [size and show_size(size) for size in (m.needed_bytes, m.peak_bytes)]
    speed = None if m.tokens_per_second is None else f"{m.tokens_per_second:,.0f}"
    model = m.model_name or f"{m.parameters:,} parameters"
    cells = [m.device or m.backend, memory, m.mlx_version, m.mlx_lm_version, model, short(m)]
    return ["–" if cell is None else cell for cell in (*cells, *sizes, speed)]


def short(m: Measurement) -> str:
    """Return the configuration in short."""
    c = m.configuration
    checkpointing = "" if c.grad_checkpoint else ", no checkpointing"
    quantized = Quantization.of(c).label
    sizes = f"{describe.sizes(c, ' ')}, {c.seq_length:,} tokens"
    return f"{describe.trained(c)}, {sizes}, {quantized}{checkpointing}"


def problems(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the files in ``folder``, each with the file and the field."""
    broken = list(broken_models(folder))
    if broken:  # they are needed to check the measurements
        yield from broken
        return
    shared = shared_files(folder)
    for path in sorted({*folder.iterdir()} - {*shared} - {folder / name for name in EXPECTED}):
        yield f"{path.name}: does not belong here"
    for path in shared:
        if not FILE_NAME.fullmatch(path.name):
            yield f"{path.name}: the name may contain only a-z, 0-9, dots and hyphens"
        for problem in invalid(path.read_bytes(), SharedMeasurements, folder):
            yield f"{path.name}: {problem}"
    for line, content in enumerate((folder / PUBLIC_REPORTS).read_bytes().splitlines(), start=1):
        for problem in invalid(content, PublicReport, folder):
            yield f"{PUBLIC_REPORTS}, line {line}: {problem}"


def broken_models(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the architectures in ``models/``."""
    for path in sorted((folder / "models").iterdir()):
        try:
            parameters(config_of(path.stem, folder))
        except (OSError, msgspec.DecodeError, architecture.UnsupportedModelError) as error:
            yield f"models/{path.name}: {error}"


def invalid(
    content: bytes, form: type[SharedMeasurements] | type[PublicReport], folder: Path
) -> Iterator[str]:
    """Yield what is wrong with a shared file or a public report."""
    try:
        raw = msgspec.json.decode(content)
        document = msgspec.json.decode(content, type=form)
    except msgspec.DecodeError as error:
        yield str(error)
        return
    for path in unknown_keys(raw, msgspec.json.decode(to_json(document)), "$"):
        yield f"{path} is an unknown key"
    for path, text in texts(raw, "$"):
        yield from (f"{path} looks like {what}: {text!r}" for what in looks_like(text))
    yield from (
        implausible(document, folder)
        if isinstance(document, SharedMeasurements)
        else implausible_report(document, folder)
    )


def unknown_keys(raw: Any, known: Any, path: str) -> Iterator[str]:
    """Yield the path of each key in ``raw`` that is not in ``known``."""
    if isinstance(raw, dict):
        for key, value in raw.items():
            if key in known:
                yield from unknown_keys(value, known[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    if isinstance(raw, list):
        for n, (value, other) in enumerate(zip(raw, known, strict=True)):
            yield from unknown_keys(value, other, f"{path}[{n}]")


def texts(raw: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield each string with its path."""
    if isinstance(raw, str):
        yield path, raw
    children: dict[str, Any] = {}
    if isinstance(raw, dict):
        children = {f"{path}.{key}": value for key, value in raw.items()}
    if isinstance(raw, list):
        children = {f"{path}[{n}]": value for n, value in enumerate(raw)}
    for child, value in children.items():
        yield from texts(value, child)


def looks_like(text: str) -> list[str]:
    """Return which private things ``text`` looks like; a link is none."""
    without_links = URL.sub("", text)
    return [what for what, pattern in PRIVATE.items() if pattern.search(without_links)]


def implausible(document: SharedMeasurements, folder: Path) -> Iterator[str]:
    """Yield the fields of a shared file that cannot be right."""
    for name in ("mlx", "mlx_lm"):
        if getattr(document.versions, name) is None:
            yield f"$.versions.{name} must be known"
    if not document.trials:
        yield "$.trials is empty"
    if document.budget_bytes > document.device.memory_bytes:
        yield "$.budget_bytes is larger than $.device.memory_bytes"
    for n, trial in enumerate(document.trials):
        for problem in implausible_trial(trial, folder):
            yield f"$.trials[{n}].{problem}"


def implausible_trial(trial: SharedTrial, folder: Path) -> Iterator[str]:
    """Yield the fields of a trial that cannot be right."""
    if not is_plain(trial.configuration):
        yield "configuration has unknown modules or arguments of the optimizer"
    ascending = ("resident_bytes", "needed_bytes", "peak_bytes")
    known = [(name, getattr(trial, name)) for name in ascending]
    known = [(name, size) for name, size in known if size is not None]
    for (smaller, least), (larger, most) in pairwise(known):
        if least > most:
            yield f"{smaller} is larger than {larger}"
    if trial.outcome is OutcomeKind.PASS:
        for name in ("needed_bytes", "peak_bytes", "tokens_per_second"):
            if getattr(trial, name) is None:
                yield f"{name} is null, but the trial passed"
    yield from wrong_count(trial.parameters, known_config(trial.model_name, folder))


def implausible_report(report: PublicReport, folder: Path) -> Iterator[str]:
    """Yield the fields of a public report that cannot be right."""
    if not URL.fullmatch(report.url):
        yield "$.url is not a link"
    if not re.fullmatch(r"\d{4}-\d\d(-\d\d)?", report.date):
        yield "$.date is not a month or a day"
    try:
        config = config_of(report.architecture, folder)
    except OSError:
        yield f"$.architecture: models/{report.architecture}.json does not exist"
        return
    for problem in wrong_count(report.parameters, config):
        yield f"$.{problem}"


def wrong_count(expected: int, config: dict[str, Any] | None) -> Iterator[str]:
    """Yield a problem if the model that mlx-lm builds has another number of parameters."""
    counted = expected if config is None else parameters(config)
    if counted != expected:
        yield f"parameters is {expected:,}, but mlx-lm's model has {counted:,}"


def parameters(config: dict[str, Any]) -> int:
    """Return the number of parameters of mlx-lm's model."""
    model = architecture.build(config)
    return sum(array.size for _, array in tree_flatten(model.parameters()))


if __name__ == "__main__":
    sys.exit(main())
