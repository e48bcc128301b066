"""Which models should fit, without a trial: measured here before, or estimated. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from worker.protocol.messages import ModelSource, TrialRequest
from your_ai.models import presets, resolve
from your_ai.models.architecture import parameters
from your_ai.models.resolve import Model
from your_ai.planning.memory_estimate import Estimate, error_share, estimate
from your_ai.planning.plan import Trial
from your_ai.recommend.history import Measurement
from your_ai.units import parameters_of

# Of the budget: what must be left for a model to fit comfortably. A step now and then holds a
# buffer for longer and adds up to 6 % to the needed memory (docs/measurements.md).
_TIGHT_SHARE = 0.1

# No less than an estimate's own error, because another training corrected it.
_CORRECTED_ERROR = 0.15

# Counted from a config, the parameters may lack some small tensors; another model in the same
# folder differs by more.
_SAME_PARAMETERS = 0.01

# How many times larger or smaller a measured model may be to correct the estimate of another: what
# a step takes besides its tensors is most of a tiny model's memory and nothing of a large one's.
_COMPARABLE_SIZES = 10.0


_Ratio = tuple[Measurement, float]


class Verdict(StrEnum):
    """Whether a model can be trained within the budget."""

    FITS = "fits"
    TIGHT = "tight"
    DOES_NOT_FIT = "does not fit"


class Source(StrEnum):
    """What a figure rests on.

    ``measured``: the same model and configuration, on this machine. ``corrected``: an estimate,
    adjusted by other measurements on this machine. ``estimated``: the architecture alone.
    """

    MEASURED = "measured"
    CORRECTED = "corrected"
    ESTIMATED = "estimated"


@dataclass(frozen=True, slots=True)
class Line:
    """What is said about one model: what its trial will need, in bytes.

    The likely figure, and the least and most that it may be. ``run_ahead_bytes`` is the peak
    without a budget.
    """

    trial: Trial
    source: Source
    needed_bytes: int
    least_bytes: int
    most_bytes: int
    run_ahead_bytes: int

    @property
    def budget_bytes(self) -> int:
        """The most memory that training may use."""
        return self.trial.request.budget_bytes

    @property
    def headroom_bytes(self) -> int:
        """The budget less the needed memory; negative if it is too small."""
        return self.budget_bytes - self.needed_bytes

    @property
    def verdict(self) -> Verdict:
        """``tight`` also if the error of the estimate leaves it open."""
        if self.least_bytes > self.budget_bytes:
            return Verdict.DOES_NOT_FIT
        has_room = self.headroom_bytes >= _TIGHT_SHARE * self.budget_bytes
        return Verdict.FITS if has_room and self.most_bytes <= self.budget_bytes else Verdict.TIGHT

    @property
    def peak_bytes(self) -> int | None:
        """The peak memory under the budget; ``None`` if that is likely too small."""
        if self.headroom_bytes < 0:
            return None
        return min(self.budget_bytes, self.run_ahead_bytes)

    @property
    def error_share(self) -> float:
        """By what share of it the needed memory may be larger."""
        return self.most_bytes / self.needed_bytes - 1


def lines(trials: Sequence[Trial], measurements: Sequence[Measurement], backend: str) -> list[Line]:
    """What is said about each trial's model.

    The newest of the ``measurements`` is the first; all were made on the same ``backend``.

    Raises:
        UsageError: if a model's config says too little for an estimate.
    """
    known = {p.model_name: resolve.from_preset(p) for p in presets.all_presets().values()}
    known |= {trial.model.model_name: trial.model for trial in trials}
    usable = [each for each in measurements if _is_known(each, known)]
    newest = {each.key: each for each in reversed(usable) if each.needed_bytes is not None}
    ratios = [(each, _ratio(each, known[each.model_name], backend)) for each in newest.values()]
    return [_line(trial, usable, ratios, backend) for trial in trials]


def recommended(found: Sequence[Line]) -> Line | None:
    """The largest model that fits, else the largest that may; of equally large ones the first."""
    for verdict in (Verdict.FITS, Verdict.TIGHT):
        matching = [line for line in found if line.verdict is verdict]
        if matching:
            return max(matching, key=lambda line: parameters_of(line.trial.model.params))
    return None


def _is_known(measurement: Measurement, known: Mapping[str, Model]) -> bool:
    """Whether the model is known and still has the contents that were measured."""
    model = known.get(measurement.model_name)
    if model is None:
        return False
    now = parameters(model.config)
    return abs(measurement.parameters - now) <= _SAME_PARAMETERS * now


def _ratio(measurement: Measurement, model: Model, backend: str) -> float:
    """Measured ÷ estimated memory above the resident memory."""
    assert measurement.needed_bytes is not None
    source, budget = ModelSource(model.config), measurement.budget_bytes
    guess = estimate(TrialRequest(source, measurement.configuration, 1, budget), backend)
    above = measurement.needed_bytes - measurement.resident_bytes
    return above / (guess.needed_bytes - guess.resident_bytes)


def _line(
    trial: Trial, usable: Sequence[Measurement], ratios: Sequence[_Ratio], backend: str
) -> Line:
    guess = estimate(trial.request, backend)
    same = [each for each in usable if each.key == (trial.model.model_name, trial.configuration)]
    for each in same:
        if each.needed_bytes is not None:
            return _measured(trial, each, each.needed_bytes, guess)
    error = error_share(trial.model.config, backend)
    refused = max((each.budget_bytes for each in same if each.peak_bytes is None), default=0)
    found = _estimated(trial, guess, error, _correction(trial, ratios), refused)
    enough = min((each.peak_bytes for each in same if each.peak_bytes is not None), default=None)
    if enough is None or found.needed_bytes <= enough:
        return found
    return replace(
        found,
        source=Source.CORRECTED,
        needed_bytes=enough,
        least_bytes=enough,
        most_bytes=enough,
    )


def _measured(trial: Trial, measurement: Measurement, needed: int, guess: Estimate) -> Line:
    """What was measured; a peak under a smaller budget than today's may become larger."""
    peak = measurement.peak_bytes or 0
    held_back = not peak or measurement.budget_bytes < trial.request.budget_bytes
    run_ahead = max(needed, peak, guess.run_ahead_bytes if held_back else 0)
    return Line(trial, Source.MEASURED, needed, needed, needed, run_ahead)


def _estimated(
    trial: Trial, guess: Estimate, error: float, correction: float | None, refused: int
) -> Line:
    """``refused`` is the largest budget that was too small for the same training, or 0."""
    above = guess.needed_bytes - guess.resident_bytes
    likely = guess.resident_bytes + round(above * (1 if correction is None else correction))
    floor = max(guess.resident_bytes, refused + 1)
    needed = max(likely, floor)
    if correction is not None:
        error = _CORRECTED_ERROR
    return Line(
        trial,
        Source.ESTIMATED if correction is None and needed == likely else Source.CORRECTED,
        needed_bytes=needed,
        least_bytes=max(floor, int(needed * (1 - error))),
        most_bytes=int(needed * (1 + error)),
        # What MLX queues is not what the correction was measured on.
        run_ahead_bytes=needed + guess.run_ahead_bytes - guess.needed_bytes,
    )


def _correction(trial: Trial, ratios: Sequence[_Ratio]) -> float | None:
    """The median ratio of the same model, else of models of comparable size."""
    size, name = parameters_of(trial.model.params), trial.model.model_name
    least, most = size / _COMPARABLE_SIZES, size * _COMPARABLE_SIZES
    same = [ratio for of, ratio in ratios if of.model_name == name]
    comparable = [ratio for of, ratio in ratios if least <= of.parameters <= most]
    return statistics.median(same or comparable) if same or comparable else None
