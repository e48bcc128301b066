"""Which models should fit, without a trial: measured here before, or estimated. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from your_ai import __version__
from your_ai.errors import UsageError
from your_ai.files import to_json
from your_ai.models import presets, resolve
from your_ai.models.architecture import parameters
from your_ai.models.resolve import Model
from your_ai.planning.device import Device
from your_ai.planning.memory_estimate import Estimate, error_share, estimate
from your_ai.planning.plan import Trial, plan
from your_ai.recommend.history import Measurement, training_of
from your_ai.runs.trial_record import training_config
from your_ai.system.machine import Machine
from your_ai.units import parameters_of, to_gb

TIGHT_SHARE = 0.1
"""Of the budget: what must be left for a model to fit comfortably. A step now and then holds a
buffer for longer and adds up to 6 % to the needed memory (docs/measurements.md)."""

CORRECTED_ERROR = 0.15
"""How far the measured needed memory may be on either side of a corrected estimate, as a share. It
is no less than an estimate's own: what corrects it was another training."""

SAME_CONTENTS = 0.01
"""By how much a model's parameters may differ from those that were measured under its name. Counted
from a config they may lack some small tensors; a folder with another model differs by more."""

COMPARABLE_SIZES = 10.0
"""How many times larger or smaller a measured model may be to correct the estimate of another: what
a step takes besides its tensors is most of a tiny model's memory and nothing of a large one's."""


class Verdict(StrEnum):
    """Whether a model can be trained within the budget."""

    FITS = "fits"
    TIGHT = "tight"
    DOES_NOT_FIT = "does not fit"


class Source(StrEnum):
    """What a figure rests on.

    ``measured``: the same model and settings, on this machine. ``corrected``: an estimate, adjusted
    by what this machine has measured of others. ``estimated``: the architecture alone.
    """

    MEASURED = "measured"
    CORRECTED = "corrected"
    ESTIMATED = "estimated"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a trial will need, in bytes: the likely figure, and by what share it may be off.

    It is not below ``floor_bytes`` in any case. ``run_ahead_bytes`` is the peak that it would reach
    if no budget held it back.
    """

    source: Source
    needed_bytes: int
    error_share: float
    floor_bytes: int
    run_ahead_bytes: int

    @property
    def least_bytes(self) -> int:
        """The least that it may need."""
        return max(self.floor_bytes, int(self.needed_bytes * (1 - self.error_share)))

    @property
    def most_bytes(self) -> int:
        """The most that it may need."""
        return int(self.needed_bytes * (1 + self.error_share))


@dataclass(frozen=True, slots=True)
class Line:
    """What is said of one model."""

    trial: Trial
    expected: Expectation

    @property
    def budget_bytes(self) -> int:
        """The most memory that training may use."""
        return self.trial.spec.budget_bytes

    @property
    def headroom_bytes(self) -> int:
        """What the budget leaves over the needed memory; negative where it is too small."""
        return self.budget_bytes - self.expected.needed_bytes

    @property
    def verdict(self) -> Verdict:
        """``tight`` is also what could be decided either way by the estimate's error."""
        if self.expected.least_bytes > self.budget_bytes:
            return Verdict.DOES_NOT_FIT
        has_room = self.headroom_bytes >= TIGHT_SHARE * self.budget_bytes
        is_certain = self.expected.most_bytes <= self.budget_bytes
        return Verdict.FITS if has_room and is_certain else Verdict.TIGHT

    @property
    def peak_bytes(self) -> int | None:
        """The peak memory under the budget; ``None`` for what likely needs more than that."""
        if self.headroom_bytes < 0:
            return None
        return min(self.budget_bytes, self.expected.run_ahead_bytes)


@dataclass(frozen=True, slots=True)
class _Ratio:
    """How much more than estimated a model's training took above its resident memory."""

    model_name: str
    parameters: float
    ratio: float


def lines(trials: Sequence[Trial], measurements: Sequence[Measurement], backend: str) -> list[Line]:
    """What is to be said of each trial's model on a device of that ``backend``.

    Raises:
        UsageError: when a model's config says too little for an estimate.
    """
    known = {p.model_name: resolve.from_preset(p) for p in presets.all_presets().values()}
    known |= {trial.model.model_name: trial.model for trial in trials}
    usable = [m for m in measurements if m.backend == backend and _is_of(m, known)]
    ratios = [found for m in usable if (found := _ratio(m, known[m.model_name]))]
    return [Line(trial, _expect(trial, usable, ratios, backend)) for trial in trials]


def recommended(found: Sequence[Line]) -> Line | None:
    """The largest model that fits, else the largest that may; of equally large ones the first."""
    for verdict in (Verdict.FITS, Verdict.TIGHT):
        so = [line for line in found if line.verdict is verdict]
        if so:
            return max(so, key=lambda line: parameters_of(line.trial.model.params))
    return None


def document(found: Sequence[Line], device: Device, device_source: str, machine: Machine) -> bytes:
    """The same as JSON, in the words of the results document; sizes are exact beside GB."""
    best = recommended(found)
    budget = found[0].budget_bytes
    content = {
        "max_memory_gb": to_gb(budget),
        "recommended": best and best.trial.model.name,
        "results": [_entry(line) for line in found],
        "your_ai_version": __version__,
        "budget_bytes": budget,
        "machine": asdict(machine),
        "device": asdict(device),
        "device_source": device_source,
    }
    return to_json(content)


def _entry(line: Line) -> dict[str, Any]:
    model = line.trial.model
    needed, peak, headroom = line.expected.needed_bytes, line.peak_bytes, line.headroom_bytes
    return {
        "preset": model.name,
        "model_name": model.model_name,
        "params": model.params,
        "verdict": line.verdict,
        "source": line.expected.source,
        "needed_memory_gb": to_gb(needed),
        "needed_memory_bytes": needed,
        "peak_memory_gb": peak and to_gb(peak),
        "peak_memory_bytes": peak,
        "headroom_gb": to_gb(headroom),
        "headroom_bytes": headroom,
        "config": training_config(line.trial),
    }


def _is_of(measurement: Measurement, known: Mapping[str, Model]) -> bool:
    """Whether it is of a known model, with the contents that the model has now."""
    model = known.get(measurement.model_name)
    if model is None:
        return False
    now = parameters(model.config)
    return abs(measurement.parameters - now) <= SAME_CONTENTS * now


def _ratio(measurement: Measurement, model: Model) -> _Ratio | None:
    if measurement.needed_bytes is None:
        return None
    try:
        (trial,) = plan([model], measurement.training, measurement.budget_bytes)
        guess = estimate(trial.spec, measurement.backend)
    except UsageError:  # its config was another one then
        return None
    above = measurement.needed_bytes - measurement.resident_bytes
    ratio = above / (guess.needed_bytes - guess.resident_bytes)
    return _Ratio(model.model_name, measurement.parameters, ratio)


def _expect(
    trial: Trial, usable: Sequence[Measurement], ratios: Sequence[_Ratio], backend: str
) -> Expectation:
    guess = estimate(trial.spec, backend)
    asked = (trial.model.model_name, training_of(trial))
    same = [m for m in usable if (m.model_name, m.training) == asked]
    for measurement in same:
        if measurement.needed_bytes is not None:
            return _measured(measurement, measurement.needed_bytes, guess, trial)
    refused = max((m.budget_bytes for m in same if m.enough_bytes is None), default=0)
    enough = min((m.enough_bytes for m in same if m.enough_bytes is not None), default=None)
    error = error_share(trial.model.config, backend)
    found = _estimated(guess, error, _correction(trial, ratios), refused)
    return found if enough is None else _trained_in(found, enough)


def _trained_in(expected: Expectation, enough: int) -> Expectation:
    """What is expected where a real training of the same has done with ``enough`` bytes."""
    if expected.needed_bytes <= enough:
        return expected
    floor = min(expected.floor_bytes, enough)
    return replace(
        expected, source=Source.CORRECTED, needed_bytes=enough, error_share=0.0, floor_bytes=floor
    )


def _measured(measurement: Measurement, needed: int, guess: Estimate, trial: Trial) -> Expectation:
    """What was measured; a peak under a smaller budget than today's may become larger."""
    peak = measurement.peak_bytes or 0
    held_back = not peak or measurement.budget_bytes < trial.spec.budget_bytes
    run_ahead = max(needed, peak, guess.run_ahead_bytes if held_back else 0)
    return Expectation(Source.MEASURED, needed, 0.0, needed, run_ahead)


def _estimated(
    guess: Estimate, error: float, correction: float | None, refused: int
) -> Expectation:
    """``refused`` is the largest budget that the same training was over, 0 if it never was."""
    above = guess.needed_bytes - guess.resident_bytes
    likely = guess.resident_bytes + round(above * (1 if correction is None else correction))
    floor = max(guess.resident_bytes, refused + 1)
    needed = max(likely, floor)
    is_corrected = correction is not None or needed > likely
    return Expectation(
        Source.CORRECTED if is_corrected else Source.ESTIMATED,
        needed_bytes=needed,
        error_share=error if correction is None else CORRECTED_ERROR,
        floor_bytes=floor,
        # What MLX queues is not what the correction was measured on.
        run_ahead_bytes=needed + guess.run_ahead_bytes - guess.needed_bytes,
    )


def _correction(trial: Trial, ratios: Sequence[_Ratio]) -> float | None:
    """The median of what was measured of the same model, else of models of comparable size."""
    size = parameters_of(trial.model.params)
    same = [each.ratio for each in ratios if each.model_name == trial.model.model_name]
    others = [
        each.ratio
        for each in ratios
        if size / COMPARABLE_SIZES <= each.parameters <= size * COMPARABLE_SIZES
    ]
    best = same or others
    return statistics.median(best) if best else None
