"""Reads the measurements in docs/measurements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from worker.protocol.configuration import Configuration
from your_ai.models.presets import all_presets
from your_ai.runs.shared_measurements import SharedMeasurements, Size, Speed

FOLDER = Path(__file__).resolve().parent.parent / "docs/measurements"
PUBLIC_REPORTS = "public-metal-reports.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicReport:
    """A training on a Mac, as somebody published it.

    ``architecture`` is the name of a config in ``models/``. ``limit_bytes`` is MLX's memory limit;
    ``None`` if none is known to have been set.
    """

    url: str
    date: str
    chip: str | None
    memory_gb: Size | None
    mlx_version: str | None
    mlx_lm_version: str | None
    model_name: str
    architecture: str
    parameters: Size
    configuration: Configuration
    peak_bytes: Size
    limit_bytes: Size | None
    tokens_per_second: Speed | None
    notes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A measurement with what an estimate of it requires.

    ``needed_bytes`` is unknown for a public report. ``limit_bytes`` is MLX's memory limit at the
    peak; ``None`` if there was none. ``config`` is the model's config.json; ``None`` if it is
    unknown. ``source`` is the name of the file, with the line of a public report.
    """

    source: str
    device: str | None
    backend: str
    memory_bytes: int | None
    mlx_version: str | None
    mlx_lm_version: str | None
    model_name: str | None
    config: dict[str, Any] | None
    parameters: int
    configuration: Configuration
    needed_bytes: int | None
    peak_bytes: int | None
    limit_bytes: int | None
    tokens_per_second: float | None


def measurements(folder: Path = FOLDER) -> Iterator[Measurement]:
    """Yield all measurements in the folder: those of shared files, then the public reports.

    Raises:
        msgspec.DecodeError: if a file is invalid; scripts/check-measurements.py says which.
    """
    for path in shared_files(folder):
        yield from _shared(path, shared_measurements(path), folder)
    for line, report in enumerate(public_reports(folder), start=1):
        yield _public(f"{PUBLIC_REPORTS}:{line}", report, folder)


def shared_files(folder: Path = FOLDER) -> list[Path]:
    """Return the paths of the shared files."""
    return sorted(folder.glob("*.json"))


def shared_measurements(path: Path) -> SharedMeasurements:
    """Read a shared file."""
    return msgspec.json.decode(path.read_bytes(), type=SharedMeasurements)


def public_reports(folder: Path = FOLDER) -> list[PublicReport]:
    """Return the public reports, in the order of their file."""
    lines = (folder / PUBLIC_REPORTS).read_bytes().splitlines()
    return [msgspec.json.decode(line, type=PublicReport) for line in lines]


def config_of(architecture: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Return the ``config.json`` of an architecture in ``models/``."""
    content = (folder / "models" / f"{architecture}.json").read_bytes()
    return msgspec.json.decode(content, type=dict[str, Any])


def known_config(model_name: str | None, folder: Path = FOLDER) -> dict[str, Any] | None:
    """Return the config of a model with this Hub id: that of a preset, or one in ``models/``.

    ``models/`` is searched for the id without the organization.
    """
    if model_name is None:
        return None
    for preset in all_presets().values():
        if preset.model_name == model_name:
            return preset.config
    name = model_name.partition("/")[2]
    return config_of(name, folder) if (folder / "models" / f"{name}.json").is_file() else None


def _shared(path: Path, document: SharedMeasurements, folder: Path) -> Iterator[Measurement]:
    for trial in document.trials:
        yield Measurement(
            source=path.name,
            device=document.device.name,
            backend=document.device.backend,
            memory_bytes=document.device.memory_bytes,
            mlx_version=document.versions.mlx,
            mlx_lm_version=document.versions.mlx_lm,
            model_name=trial.model_name,
            config=known_config(trial.model_name, folder),
            parameters=trial.parameters,
            configuration=trial.configuration,
            needed_bytes=trial.needed_bytes,
            peak_bytes=trial.peak_bytes,
            limit_bytes=trial.limit_bytes,
            tokens_per_second=trial.tokens_per_second,
        )


def _public(source: str, report: PublicReport, folder: Path) -> Measurement:
    return Measurement(
        source=source,
        device=report.chip and f"Apple {report.chip}",
        backend="metal",
        memory_bytes=report.memory_gb and report.memory_gb * 2**30,
        mlx_version=report.mlx_version,
        mlx_lm_version=report.mlx_lm_version,
        model_name=report.model_name,
        config=config_of(report.architecture, folder),
        parameters=report.parameters,
        configuration=report.configuration,
        needed_bytes=None,
        peak_bytes=report.peak_bytes,
        limit_bytes=report.limit_bytes,
        tokens_per_second=report.tokens_per_second,
    )
