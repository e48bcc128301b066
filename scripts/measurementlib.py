"""Reads the measurements in docs/measurements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from worker.protocol.configuration import Configuration

FOLDER = Path(__file__).resolve().parent.parent / "docs/measurements"
PUBLIC_REPORTS = "public-metal-reports.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicReport:
    """A training without a memory limit on a Mac, as somebody published it.

    ``architecture`` is the name of a config in ``models/``.
    """

    url: str
    date: str
    chip: str | None
    memory_gb: int | None
    mlx_version: str | None
    mlx_lm_version: str | None
    model_name: str
    architecture: str
    parameters: int
    configuration: Configuration
    peak_bytes: int
    tokens_per_second: float | None
    notes: str


def public_reports(folder: Path = FOLDER) -> list[PublicReport]:
    """Return the public reports, in the order of their file."""
    lines = (folder / PUBLIC_REPORTS).read_bytes().splitlines()
    return [msgspec.json.decode(line, type=PublicReport) for line in lines]


def config_of(architecture: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Return the ``config.json`` of an architecture in ``models/``."""
    content = (folder / "models" / f"{architecture}.json").read_bytes()
    return msgspec.json.decode(content, type=dict[str, Any])
