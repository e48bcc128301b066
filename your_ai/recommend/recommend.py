"""Predict which models fit, from earlier measurements and estimates: pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from your_ai.models import presets, resolve
from your_ai.models.resolve import Model
from your_ai.planning.memory_estimate import Estimate, error_share, estimate
from your_ai.planning.plan import Trial
from your_ai.recommend.history import Measurement
from your_ai.units import parameters_of

_TIGHT_SHARE = 0.1
"""Share of the budget that must be left for the verdict ``fits``.

A step sometimes holds a buffer for longer, which adds up to 6% to the needed memory
(docs/measurements.md).
"""

_CORRECTED_ERROR = 0.15
"""Relative error of a corrected estimate.

It is no smaller than that of an estimate, because the correction comes from another configuration.
"""

_COMPARABLE_SIZES = 10.0
"""A measured model may correct the estimate of one that is up to this factor larger or smaller.

A step also takes memory that the estimate does not count. Its share is high in a tiny model and
negligible in a large one.
"""


_Ratio = tuple[Measurement, float]
"""A measurement, and its memory ÷ the estimated one."""


class Verdict(StrEnum):
    """Whether a model can be trained within the budget."""

    FITS = "fits"
    TIGHT = "tight"
    DOES_NOT_FIT = "does not fit"


class Source(StrEnum):
    """Where a forecast comes from.

    ``measured``: the same model and configuration were measured on this machine. ``corrected``: an
    estimate, adjusted by other measurements on this machine. ``estimated``: only an estimate from
    the model's architecture.
    """

    MEASURED = "measured"
    CORRECTED = "corrected"
    ESTIMATED = "estimated"


@dataclass(frozen=True, slots=True)
class Forecast:
    """The forecast for one model's trial, in bytes.

    ``needed_bytes`` is the likely needed memory, which lies between ``least_bytes`` and
    ``most_bytes``. ``run_ahead_bytes`` is the peak memory without a limit.
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
        """The budget minus the needed memory; negative if the budget is too small."""
        return self.budget_bytes - self.needed_bytes

    @property
    def verdict(self) -> Verdict:
        """Whether the model fits; ``tight`` if little memory is left or the estimate is unsure."""
        if self.least_bytes > self.budget_bytes:
            return Verdict.DOES_NOT_FIT
        has_room = self.headroom_bytes >= _TIGHT_SHARE * self.budget_bytes
        return Verdict.FITS if has_room and self.most_bytes <= self.budget_bytes else Verdict.TIGHT

    @property
    def peak_bytes(self) -> int | None:
        """The peak memory under the budget; ``None`` if the budget is probably too small."""
        if self.headroom_bytes < 0:
            return None
        return min(self.budget_bytes, self.run_ahead_bytes)

    @property
    def error_share(self) -> float:
        """The relative error of the needed memory."""
        return self.most_bytes / self.needed_bytes - 1


@dataclass(frozen=True, slots=True)
class Unknown:
    """A model whose memory cannot be estimated, and why, as sentences for the user.

    The exact ``parameters`` and ``weights_bytes`` are ``None`` if they are unknown, too. The
    verdict is that the model does not fit, if the weights alone exceed the budget.
    """

    name: str
    model_name: str
    params: str
    reason: str
    parameters: int | None = None
    weights_bytes: int | None = None
    verdict: Verdict | None = None


def forecasts(
    trials: Sequence[Trial], measurements: Sequence[Measurement], backend: str
) -> list[Forecast]:
    """Return the forecast for each trial, which was measured or can be estimated on ``backend``.

    ``measurements`` are sorted from newest to oldest, and all were made on ``backend``.
    """
    known = {each.model_name: resolve.from_preset(each) for each in presets.all_presets().values()}
    known |= {trial.model.model_name: trial.model for trial in trials}
    usable = [each for each in measurements if _is_known(each, known)]
    newest = {each.key: each for each in reversed(usable) if each.needed_bytes is not None}
    ratios = [
        (each, ratio)
        for each in newest.values()
        if (ratio := _ratio(each, known[each.model_name], backend)) is not None
    ]
    return [_line(trial, usable, ratios, backend) for trial in trials]


def recommended(found: Sequence[Forecast]) -> Forecast | None:
    """Return the largest model that fits, else the largest that may; of equals the first."""
    tight = [forecast for forecast in found if forecast.verdict is Verdict.TIGHT]
    for matching in (
        [forecast for forecast in found if forecast.verdict is Verdict.FITS],
        [forecast for forecast in tight if forecast.headroom_bytes >= 0],
        tight,
    ):
        if matching:
            return max(matching, key=lambda forecast: parameters_of(forecast.trial.model.params))
    return None


def _is_known(measurement: Measurement, known: Mapping[str, Model]) -> bool:
    """Return whether the model is known, and still has the size that was measured."""
    model = known.get(measurement.model_name)
    return model is not None and model.parameters == measurement.parameters


def _ratio(measurement: Measurement, model: Model, backend: str) -> float | None:
    """Return measured ÷ estimated memory, each without the resident memory."""
    guess = estimate(model, measurement.configuration, backend)
    if guess is None or measurement.needed_bytes is None:
        return None
    above = measurement.needed_bytes - measurement.resident_bytes
    return above / max(1, guess.needed_bytes - guess.resident_bytes)


def _line(
    trial: Trial, usable: Sequence[Measurement], ratios: Sequence[_Ratio], backend: str
) -> Forecast:
    guess = estimate(trial.model, trial.configuration, backend)
    same = [each for each in usable if each.key == (trial.model.model_name, trial.configuration)]
    for each in same:
        if each.needed_bytes is not None:
            return _measured(trial, each, each.needed_bytes, guess)
    assert guess is not None
    error = error_share(trial.configuration, backend)
    too_small = max((each.budget_bytes for each in same if each.peak_bytes is None), default=0)
    found = _estimated(trial, guess, error, _correction(trial, ratios), too_small)
    peak = min((each.peak_bytes for each in same if each.peak_bytes is not None), default=None)
    if peak is None or found.needed_bytes <= peak:
        return found
    # A training of this configuration took no more than its peak.
    return replace(
        found, source=Source.CORRECTED, needed_bytes=peak, least_bytes=peak, most_bytes=peak
    )


def _measured(
    trial: Trial, measurement: Measurement, needed: int, guess: Estimate | None
) -> Forecast:
    """Return the measured figures. With a larger budget than measured, the peak may be higher."""
    peak = measurement.peak_bytes or 0
    held_back = not peak or measurement.budget_bytes < trial.request.budget_bytes
    run_ahead = max(needed, peak, guess.run_ahead_bytes if guess and held_back else 0)
    return Forecast(trial, Source.MEASURED, needed, needed, needed, run_ahead)


def _estimated(
    trial: Trial, guess: Estimate, error: float, correction: float | None, too_small: int
) -> Forecast:
    """Return the estimate, corrected if possible.

    ``too_small`` is the largest budget in which the same configuration did not fit, or 0.
    """
    above = guess.needed_bytes - guess.resident_bytes
    likely = guess.resident_bytes + round(above * (1 if correction is None else correction))
    floor = max(guess.resident_bytes, too_small + 1)
    needed = max(likely, floor)
    if correction is not None:
        error = _CORRECTED_ERROR
    return Forecast(
        trial,
        Source.ESTIMATED if correction is None and needed == likely else Source.CORRECTED,
        needed_bytes=needed,
        least_bytes=max(floor, int(needed * (1 - error))),
        most_bytes=int(needed * (1 + error)),
        # The correction was not measured on what MLX queues, so it does not apply to that.
        run_ahead_bytes=needed + guess.run_ahead_bytes - guess.needed_bytes,
    )


def _correction(trial: Trial, ratios: Sequence[_Ratio]) -> float | None:
    """Return the median ratio of the same model, else of models of comparable size.

    Only trials of the same kind count: what other kinds add to the weights is not comparable.
    """
    size, name = parameters_of(trial.model.params), trial.model.model_name
    least, most = size / _COMPARABLE_SIZES, size * _COMPARABLE_SIZES
    kind = trial.configuration.kind
    alike = [(of, ratio) for of, ratio in ratios if of.configuration.kind == kind]
    same = [ratio for of, ratio in alike if of.model_name == name]
    comparable = [ratio for of, ratio in alike if least <= of.parameters <= most]
    return statistics.median(same or comparable) if same or comparable else None
