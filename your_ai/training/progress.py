"""How far a training is, by what its journal says: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from worker.protocol.messages import Step
from your_ai.runs.journal import Record
from your_ai.training.job import Setting, Training

STARTED, FAILED, REPORTED, VALIDATED, SAVED = "started", "failed", "reported", "validated", "saved"
LOADED, TRAINED = "loaded", "trained"


@dataclass(frozen=True, slots=True)
class Report:
    """The ``iterations`` up to ``iteration``: their mean loss, tokens, seconds, and the peak."""

    iteration: int
    iterations: int
    loss: float
    tokens: int
    seconds: float
    peak_bytes: int

    @property
    def tokens_per_second(self) -> float:
        """How fast they were trained on."""
        return self.tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """What has happened so far; ``saved`` is the last iteration that a checkpoint has.

    ``setting`` is what to go on with, ``attempts`` counts the workers. ``failures`` are those that
    failed, each with its setting and reason, ``load`` what the model took. Once the adapters are
    written ``samples`` sequences were trained on, of ``longest_tokens`` at most.
    """

    setting: Setting
    saved: int = 0
    attempts: int = 0
    reports: Mapping[int, Report] = field(default_factory=dict)
    validations: Mapping[int, float] = field(default_factory=dict)
    failures: tuple[Mapping[str, Any], ...] = ()
    load: Mapping[str, Any] | None = None
    samples: int | None = None
    longest_tokens: int = 0

    @property
    def is_done(self) -> bool:
        """Whether the adapters are written."""
        return self.samples is not None

    def after(self, kind: str, fields: Mapping[str, Any]) -> Progress:
        """This, and what one record says."""
        if kind == STARTED:
            setting = Setting(fields["parts"], fields["limit_bytes"])
            return replace(self, setting=setting, attempts=self.attempts + 1)
        if kind == FAILED:
            failure, following = dict(fields), fields["following"]
            del failure["following"]
            setting = self.setting if following is None else Setting(**following)
            return replace(self, setting=setting, failures=(*self.failures, failure))
        if kind == REPORTED:
            report = Report(**fields)
            return replace(self, reports={**self._before(report), report.iteration: report})
        if kind == VALIDATED:
            validations = {**self.validations, fields["iteration"]: fields["loss"]}
            return replace(self, validations=validations)
        if kind == LOADED:
            return replace(self, load=dict(fields))
        if kind == TRAINED:
            return replace(self, **fields)
        if kind == SAVED:
            return replace(self, saved=fields["iteration"])
        return self

    def _before(self, report: Report) -> dict[int, Report]:
        """The reports that this one leaves standing: what was trained on again counts once."""
        return {
            iteration: each
            for iteration, each in self.reports.items()
            if iteration <= report.iteration - report.iterations
        }


def progress_of(training: Training, records: Iterable[Record]) -> Progress:
    """How far these records say that a training is."""
    progress = Progress(training.first)
    for record in records:
        progress = progress.after(record.kind, record.fields)
    return progress


def report_on(steps: list[Step]) -> Report:
    """The mean of some iterations in a row."""
    return Report(
        iteration=steps[-1].index,
        iterations=len(steps),
        loss=sum(step.loss for step in steps) / len(steps),
        tokens=sum(step.tokens for step in steps),
        seconds=sum(step.seconds for step in steps),
        peak_bytes=max(step.peak_bytes for step in steps),
    )


def document(training: Training, progress: Progress, outcome: str, reason: str) -> dict[str, Any]:
    """What a training leaves to be read: what was expected, what it took, and its losses.

    Sizes are bytes, times seconds; losses are ``[iteration, loss]``.
    """
    spec = training.spec
    reports = list(progress.reports.values())
    iterations = sum(report.iterations for report in reports)
    seconds = sum(report.seconds for report in reports)
    return {
        "outcome": outcome,
        "error": None if outcome == "pass" else reason,
        "preset": training.name,
        "model_name": training.model_name,
        "config": _config(training),
        "load": progress.load,
        "longest_tokens": progress.longest_tokens,
        "iterations": max(progress.reports, default=0),
        "samples": _samples(training, progress),
        "adapter_path": spec.adapter_path,
        "expected": asdict(training.expected),
        "measured": {
            "peak_bytes": max((report.peak_bytes for report in reports), default=None),
            "seconds_per_iteration": seconds / iterations if iterations else None,
            "seconds": seconds,
            "tokens_per_second": sum(r.tokens for r in reports) / seconds if seconds else None,
        },
        "losses": [[report.iteration, report.loss] for report in reports],
        "validation": [[iteration, loss] for iteration, loss in progress.validations.items()],
        "setting": asdict(progress.setting),
        "failures": list(progress.failures),
        "training": {
            name: value
            for name, value in {**asdict(spec), "model": spec.model.path}.items()
            if name != "adapter_config"
        },
        "your_ai_version": training.version,
        "started_at": training.started_at,
        "machine": asdict(training.machine),
        "device": asdict(training.device),
        "run_dir": training.run_dir,
    }


def _samples(training: Training, progress: Progress) -> int:
    if progress.samples is not None:
        return progress.samples
    return max(progress.reports, default=0) * training.spec.batch_size


def _config(training: Training) -> dict[str, Any]:
    """What needed memory depends on, in the words of the results."""
    spec = training.spec
    return {
        "weights": "real",
        "quantization_bits": training.bits,
        "batch_size": spec.batch_size,
        "lora_rank": spec.lora_rank,
        "lora_layers": spec.lora_layers,
        "seq_length": spec.max_seq_length,
        "grad_checkpoint": spec.grad_checkpoint,
        "budget_bytes": spec.budget_bytes,
    }
