"""The recommendation as JSON, with the same keys as a results file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.protocol.configuration import Configuration
from your_ai import __version__
from your_ai.planning.device import Device
from your_ai.planning.memory_estimate import CHECKED_VERSIONS
from your_ai.recommend.recommend import Forecast, Source, Unknown, Verdict, recommended
from your_ai.system.machine import Machine
from your_ai.units import to_gb


@dataclass(frozen=True, slots=True)
class Entry:
    """The forecast for one model; sizes are in GB and, exactly, in bytes.

    If the model cannot be estimated, ``error`` says why. The parameters and the memory of the
    quantized weights are exact.
    """

    preset: str
    model_name: str
    params: str
    verdict: Verdict | None = None
    source: Source | None = None
    needed_memory_gb: float | None = None
    needed_memory_bytes: int | None = None
    peak_memory_gb: float | None = None
    peak_memory_bytes: int | None = None
    headroom_gb: float | None = None
    headroom_bytes: int | None = None
    config: Configuration | None = None
    error: str | None = None
    parameters: int | None = None
    weights_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The document that `your_ai recommend --output` writes."""

    max_memory_gb: float
    recommended: str | None
    results: tuple[Entry, ...]
    your_ai_version: str
    budget_bytes: int
    machine: Machine | None
    device: Device
    device_source: str
    checked_versions: Mapping[str, str]
    unchecked_versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Context:
    """What a recommendation is for.

    ``machine`` is this one; ``None`` if the device is that of another machine.
    ``unchecked_versions`` are the installed ones with which estimates were not checked.
    """

    device: Device
    device_source: str
    budget_bytes: int
    machine: Machine | None
    unchecked_versions: Mapping[str, str]

    @property
    def is_this_machine(self) -> bool:
        """Whether the device is in this machine."""
        return self.machine is not None


def document(
    found: Sequence[Forecast], unknown: Sequence[Unknown], context: Context
) -> Recommendation:
    """Return the document with these forecasts, and the models that cannot be estimated."""
    best = recommended(found)
    return Recommendation(
        max_memory_gb=to_gb(context.budget_bytes),
        recommended=best.trial.model.name if best else None,
        results=(*map(_entry, found), *map(_entry_without_forecast, unknown)),
        your_ai_version=__version__,
        budget_bytes=context.budget_bytes,
        machine=context.machine,
        device=context.device,
        device_source=context.device_source,
        checked_versions=CHECKED_VERSIONS,
        unchecked_versions=context.unchecked_versions,
    )


def _entry_without_forecast(model: Unknown) -> Entry:
    return Entry(
        model.name,
        model.model_name,
        model.params,
        verdict=model.verdict,
        error=model.reason,
        parameters=model.parameters,
        weights_bytes=model.weights_bytes,
    )


def _entry(forecast: Forecast) -> Entry:
    model = forecast.trial.model
    needed, peak, headroom = forecast.needed_bytes, forecast.peak_bytes, forecast.headroom_bytes
    return Entry(
        preset=model.name,
        model_name=model.model_name,
        params=model.params,
        verdict=forecast.verdict,
        source=forecast.source,
        needed_memory_gb=to_gb(needed),
        needed_memory_bytes=needed,
        peak_memory_gb=peak and to_gb(peak),
        peak_memory_bytes=peak,
        headroom_gb=to_gb(headroom),
        headroom_bytes=headroom,
        config=forecast.trial.configuration,
        parameters=model.parameters,
        weights_bytes=forecast.trial.weights_bytes,
    )
