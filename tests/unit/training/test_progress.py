"""The progress computed from the records of a training."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from tests.support.trainings import step, training
from worker.protocol.messages import Loaded, Saved, Trained, Validated
from your_ai.errors import UsageError
from your_ai.files import to_json
from your_ai.runs import training_results
from your_ai.runs.journal import Record
from your_ai.runs.training_results import FailedAttempt, Setting
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.training.progress import (
    Failure,
    Progress,
    TrainingRecord,
    progress_of,
    report_on,
    results_of,
)
from your_ai.units import MB

PASSED = Outcome(OutcomeKind.PASS, "every iteration was done")


def after(*records: TrainingRecord) -> Progress:
    progress = Progress(training().first_setting)
    for record in records:
        progress.add(record)
    return progress


def reports(*pairs: tuple[int, int], loss: float = 2.0) -> list[TrainingRecord]:
    return [report_on([step(index, loss) for index in pair]) for pair in pairs]


def test_repeated_iterations_are_counted_once() -> None:
    progress = after(*reports((1, 2), (3, 4), (5, 6)), *reports((3, 4), loss=1.0))
    found = results_of(training(), progress, PASSED)
    assert found.losses == ((2, 2.0), (4, 1.0))
    assert (found.iterations, found.samples) == (4, 24)
    assert found.measured.peak_bytes == 4 * MB
    assert found.measured.tokens_per_second == 200
    assert found.measured.seconds_per_iteration == 0.5


def test_a_long_training_is_read_in_linear_time() -> None:
    """When every record copied the earlier ones, this took minutes."""
    records = [Record("reported", asdict(report_on([step(index)]))) for index in range(1, 100_001)]
    progress = progress_of(training(), [*records, *records[50_000:]])
    assert len(progress.reports) == progress.iterations == 100_000


def test_the_speed_does_not_include_compiling_kernels() -> None:
    first = replace(step(1), seconds=300.5, compile_seconds=300.0)
    progress = after(report_on([first, step(2)]))
    assert progress.measured.tokens_per_second == 200
    assert progress.measured.seconds_per_iteration == 0.5
    assert after(report_on([first])).measured.tokens_per_second is None


def test_repeated_validations_are_counted_once() -> None:
    first, later, again = (Validated(1.0, at, loss, 0.1) for at, loss in ((1, 3), (9, 2), (9, 1)))
    assert after(first, later, again).validations == [first, again]


def test_a_training_without_a_step() -> None:
    found = results_of(training(), after(), Outcome(OutcomeKind.ERROR, "why"))
    assert (found.error, found.iterations, found.losses) == ("why", 0, ())
    assert found.measured.seconds_per_iteration is None


@pytest.mark.parametrize("following", [Setting(6, 9), None])
def test_a_failure_determines_the_setting_to_continue_with(following: Setting | None) -> None:
    attempt = FailedAttempt(3, 9, OutcomeKind.OOM, "why", "log")
    progress = after(Setting(3, 9), Failure(attempt, following))
    assert progress.attempts == 1
    assert progress.failures == [attempt]
    assert progress.setting == (following or Setting(3, 9))


def test_training_json_is_read_back() -> None:
    attempt = FailedAttempt(1, 9, OutcomeKind.OOM, "why", "log")
    progress = after(
        Setting(1, 9),
        Loaded(1.0, 1.0, 1000, 1001, 70, 7),
        *reports((1, 2)),
        Validated(1.0, 1, 3.5, 0.1),
        Saved(1.0, 2),
        Failure(attempt, None),
        Trained(2.0, 100, 600, 77),
    )
    found = results_of(training(), progress, PASSED)
    content = to_json(found)
    assert training_results.read(content, "training.json") == found
    older = content.replace(b'"micro_batches"', b'"parts"')
    assert training_results.read(older, "training.json").failures == (attempt,)
    document = json.loads(content)
    assert document["load"] == {"parameters": 70, "resident_bytes": 1000}
    assert (document["samples"], document["longest_tokens"]) == (600, 77)
    assert document["training"] == {
        "model": "/model",
        "data": "/data",
        "adapter_path": "/adapters",
        "mask_prompt": False,
        "iters": 100,
        "grad_accumulation_steps": 1,
        "learning_rate": 1e-5,
        "seed": 0,
        "val_batches": 25,
        "steps_per_eval": 200,
        "save_every": 100,
        "micro_batches": 1,
        "limit_bytes": 2**33,
        "budget_bytes": 2**33,
        "resume": False,
        "weights": "real",
        "quantization_bits": None,
        "batch_size": 6,
        "lora_rank": 64,
        "lora_layers": 2,
        "max_seq_length": 1024,
        "grad_checkpoint": True,
        "fine_tune_type": "lora",
        "lora_keys": ["all"],
        "lora_dropout": 0.0,
        "optimizer": "adam",
        "optimizer_config": [],
        "quantization_mode": "affine",
        "group_size": 64,
        "lora_scale": 2.0,
        "lr_schedule": None,
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "Object missing required field `setting`"),
        (b'{"setting": 5, "failures": []}', r"Expected `object`, got `int` - at `\$.setting`"),
        (b'{"setting": {}, "failures": []}', "Object missing required field"),
    ],
)
def test_other_files_are_not_training_results(content: bytes, reason: str) -> None:
    with pytest.raises(UsageError, match=rf"x\.json is not a record of `your_ai train`: {reason}"):
        training_results.read(content, "x.json")
