"""Reading the measurements of earlier runs from their files."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support import builders
from tests.support.builders import PLAIN, observed, passing_events, result, trial
from tests.support.unreadable import unreadable
from worker.protocol.configuration import (
    ALL_KEYS,
    ATTENTION_KEYS,
    Configuration,
    Optimizer,
    Weights,
)
from worker.protocol.messages import Loaded, OverBudget, Phase
from your_ai.files import to_json
from your_ai.planning.device import Device
from your_ai.recommend import history
from your_ai.recommend.history import Measurement
from your_ai.runs.results import Results
from your_ai.runs.search_result import ProofOfOptimum
from your_ai.runs.training_results import (
    Expected,
    LoadedModel,
    Measured,
    Setting,
    TrainingResults,
)
from your_ai.runs.trial_result import OptimalConfig, TrialConfig, TrialResult
from your_ai.search.grid import Axes
from your_ai.search.search import Objective
from your_ai.supervision.outcome import OutcomeKind
from your_ai.system.machine import Machine
from your_ai.units import GB

SUPPORT = Path(__file__).parents[2] / "support"
MACHINE = Machine("Linux", "6.1", "x86_64", 16, 128 * GB, "3.11.7")
VERSIONS = {"mlx": "0.32.4", "mlx-lm": "0.32.2"}
DEVICE = Device("cuda", "NVIDIA H200", 140 * GB, None, 139 * GB, VERSIONS)
CONFIGURATION = replace(PLAIN, quantization_bits=4, lora_layers=2)
TRAINED = TrialConfig(
    *(Weights.REAL, 4),
    lora_layers=2,
    lora_keys=ALL_KEYS,
    optimizer=Optimizer.ADAM,
    budget_bytes=8 * GB,
)
PASSED = Measurement(
    "org/tiny",
    CONFIGURATION,
    7_000_000_000,
    4 * GB,
    needed_bytes=6 * GB,
    peak_bytes=7 * GB,
    budget_bytes=8 * GB,
)


def results(*found: TrialResult, **changed: Any) -> Results:
    return builders.results(*found, **{"machine": MACHINE, "device": DEVICE, **changed})


def over_budget(**changed: Any) -> TrialResult:
    events = passing_events()
    loaded = next(i for i, event in enumerate(events) if isinstance(event, Loaded))
    over = OverBudget(3.0, Phase.TIGHT, 9 * GB, planned=False)
    return result(trial(**changed), observed(*events[: loaded + 2], over, returncode=1))


def trained(**changed: Any) -> TrainingResults:
    """Return the results of a training with unsplit batches of full length."""
    fields: dict[str, Any] = {
        "outcome": OutcomeKind.PASS,
        "error": None,
        "preset": "tiny",
        "model_name": "org/tiny",
        "config": TRAINED,
        "load": LoadedModel(7_000_000_000, 4 * GB),
        "longest_tokens": 1024,
        "iterations": 100,
        "samples": 200,
        "adapter_path": "/adapters",
        "expected": Expected(7 * GB, 1.0, 100.0, is_measured=True),
        "measured": Measured(5 * GB, 1.0, 100.0, 2048.0),
        "losses": (),
        "validation": (),
        "setting": Setting(1, 8 * GB),
        "failures": (),
        "training": {},
        "your_ai_version": "1.0",
        "started_at": "2026-01-02T03:04:05Z",
        "machine": MACHINE,
        "device": DEVICE,
        "run_dir": "/runs/2",
        **changed,
    }
    return TrainingResults(**fields)


def write(runs: Path, name: str, content: Results | TrainingResults | bytes) -> Path:
    file = "training.json" if isinstance(content, TrainingResults) else "results.json"
    path = runs / name / file
    path.parent.mkdir(parents=True)
    path.write_bytes(content if isinstance(content, bytes) else to_json(content))
    return path


def found(runs: Path) -> tuple[Measurement, ...]:
    past = history.read(runs, MACHINE, VERSIONS)
    return past.measurements if past else ()


def batch_sizes(runs: Path) -> list[int]:
    return [each.configuration.batch_size for each in found(runs)]


def of_batch(size: int) -> TrialResult:
    return result(trial(batch_size=size))


def test_a_pass_is_read(tmp_path: Path) -> None:
    write(tmp_path, "1", results(result(), started_at="2026-01-02T03:04:00Z"))
    assert history.read(tmp_path, MACHINE, VERSIONS) == history.History(
        replace(DEVICE, free_bytes=None), "2026-01-02T03:04:00Z", (PASSED,)
    )


def test_a_measurement_has_its_trials_configuration(tmp_path: Path) -> None:
    asked = trial(
        weights=Weights.REAL,
        quantization_bits=None,
        batch_size=3,
        lora_rank=5,
        lora_layers=1,
        seq_length=77,
        grad_checkpoint=False,
        seed=3,
    )
    write(tmp_path, "1", results(result(asked)))
    assert [each.key for each in found(tmp_path)] == [("org/tiny", asked.configuration)]


def test_an_over_budget_trial_is_read(tmp_path: Path) -> None:
    write(tmp_path, "1", results(over_budget()))
    assert found(tmp_path) == (replace(PASSED, needed_bytes=None, peak_bytes=None),)


def test_other_failures_are_ignored(tmp_path: Path) -> None:
    crashed = observed(*passing_events()[:6], returncode=-11)
    unloaded = replace(over_budget(), load=None)
    write(tmp_path, "1", results(result(None, crashed), unloaded))
    assert found(tmp_path) == ()


@pytest.mark.parametrize("changed", [{"mlx": "0.33.0"}, {"mlx-lm": "0.1"}, {"mlx": None}])
def test_of_a_run_with_other_versions_only_the_device_is_used(
    changed: dict[str, str | None], tmp_path: Path
) -> None:
    versions = {name: v for name, v in {**VERSIONS, **changed}.items() if v is not None}
    write(tmp_path, "1", results(result(), device=replace(DEVICE, versions=versions)))
    past = history.read(tmp_path, MACHINE, VERSIONS)
    assert past is not None
    assert (past.device.versions, past.measurements) == (versions, ())


def test_the_installed_versions_match_those_of_a_worker() -> None:
    assert history.installed_versions() == {
        name: metadata.version(name) for name in ("mlx", "mlx-lm")
    }


def test_the_trials_of_a_search_are_read_too(tmp_path: Path) -> None:
    search = OptimalConfig(
        model="org/tiny",
        created_at="",
        objective=Objective.CAPACITY,
        exhaustive=False,
        grid=Axes(),
        complete=True,
        proven=True,
        certificate=ProofOfOptimum((), ()),
        pareto=(),
        all_results=tuple(of_batch(size) for size in (2, 4, 8)),
    )
    write(tmp_path, "1", results(replace(result(), optimal_config=search)))
    assert batch_sizes(tmp_path) == [2, 4, 8]


def test_the_newest_run_is_the_one_that_started_last(tmp_path: Path) -> None:
    for written, (name, day) in enumerate([("b", 1), ("a", 3), ("c", 2)]):
        past = results(of_batch(day), started_at=f"2026-01-0{day}T00:00:00Z")
        path = write(tmp_path, name, replace(past, device=replace(DEVICE, name=f"GPU {day}")))
        os.utime(path, (written, written))
    whole = history.read(tmp_path, MACHINE, VERSIONS)
    assert whole is not None
    assert (whole.started_at, whole.device.name) == ("2026-01-03T00:00:00Z", "GPU 3")
    assert batch_sizes(tmp_path) == [3, 2, 1]


def test_the_run_started_last_is_the_newest_after_the_clock_was_set_back(tmp_path: Path) -> None:
    for number, year in ((1, 2030), (2, 2026)):
        name, day = f"{number:04d}-{year}0101-000000Z-7", f"{year}-01-01T00:00:00Z"
        path = write(tmp_path, name, results(of_batch(number), started_at=day))
        os.utime(path, (year, year))
    past = history.read(tmp_path, MACHINE, VERSIONS)
    assert past is not None
    assert past.started_at == "2026-01-01T00:00:00Z"
    assert batch_sizes(tmp_path) == [2, 1]


def test_measurements_on_other_backends_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, "1", results(of_batch(1), started_at="2026-01-02"))
    on_cpu = replace(DEVICE, backend="cpu")
    write(tmp_path, "2", results(of_batch(2), started_at="2026-01-01", device=on_cpu))
    assert batch_sizes(tmp_path) == [1]


@pytest.mark.parametrize(
    "changed",
    [
        {"system": "macOS"},
        {"architecture": "arm64"},
        {"cpus": 8},
        {"memory_bytes": 125 * GB},
        {"memory_bytes": 131 * GB},
    ],
)
def test_runs_of_other_machines_are_ignored(changed: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, "1", results(result(), machine=replace(MACHINE, **changed)))
    assert history.read(tmp_path, MACHINE, VERSIONS) is None


@pytest.mark.parametrize(
    "changed", [{"release": "6.2"}, {"python": "3.13.0"}, {"memory_bytes": 127 * GB}]
)
def test_an_updated_machine_is_the_same_machine(changed: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, "1", results(result(), machine=replace(MACHINE, **changed)))
    assert found(tmp_path) == (PASSED,)


WHOLE = to_json(results(result()))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        WHOLE[: len(WHOLE) // 2],
        b"[" * 100_000,
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"machine": 1, "device": [], "results": {}}',
        b'{"results": ["x", null]}',
        b'{"results": [{"optimal_config": 1}]}',
        b'{"results": [{"load": [1]}]}',
        WHOLE.replace(b'"batch_size": 2', b'"batch_size": "2"'),
        WHOLE.replace(b'"weights": "synthetic"', b'"weights": "paper"'),
        WHOLE.replace(b'"memory_bytes": 137438953472', b'"memory_bytes": "128"'),
    ],
)
def test_an_invalid_file_is_ignored(content: bytes, tmp_path: Path) -> None:
    assert content != WHOLE
    write(tmp_path, "2", content)
    assert history.read(tmp_path, MACHINE, VERSIONS) is None
    write(tmp_path, "1", WHOLE)
    assert found(tmp_path) == (PASSED,)


def test_runs_that_cannot_be_read_are_ignored(tmp_path: Path) -> None:
    write(tmp_path / "runs", "1", results(result()))
    assert history.read(tmp_path / "runs", MACHINE, VERSIONS) is not None
    with unreadable(tmp_path / "runs"):
        assert history.read(tmp_path / "runs", MACHINE, VERSIONS) is None


def test_other_files_are_ignored(tmp_path: Path) -> None:
    assert history.read(tmp_path / "missing", MACHINE, VERSIONS) is None
    (tmp_path / "note.txt").touch()
    assert history.read(tmp_path / "note.txt", MACHINE, VERSIONS) is None
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder" / "results.json").mkdir(parents=True)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "results.json")  # opening it would block forever
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    write(tmp_path, "1", results(result()))
    assert found(tmp_path) == (PASSED,)


def test_the_number_of_runs_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_MAX_RUNS", 2)
    for day in (1, 3, 2):
        write(tmp_path, str(day), results(of_batch(day), started_at=f"2026-01-0{day}"))
    assert batch_sizes(tmp_path) == [3, 2]


def test_the_total_size_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_MAX_BYTES", 5 * len(WHOLE) // 2)
    for day in (1, 2, 3, 4):
        content = to_json(results(of_batch(day), started_at=f"2026-01-0{day}"))
        path = write(tmp_path, str(day), content + b" " * (3 * len(WHOLE) if day == 3 else 0))
        os.utime(path, (day, day))
    assert batch_sizes(tmp_path) == [4, 2]


def test_a_training_counts_for_synthetic_weights(tmp_path: Path) -> None:
    write(tmp_path, "1", trained())
    assert found(tmp_path) == (replace(PASSED, needed_bytes=None, peak_bytes=5 * GB),)


@pytest.mark.parametrize(
    "changed",
    [
        {"longest_tokens": 1023},
        {"setting": Setting(2, 8 * GB)},
        {"load": None},
        {"measured": Measured(None, None, 1.0, None)},
    ],
)
def test_a_training_below_full_size_is_ignored(changed: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, "1", trained(**changed))
    assert found(tmp_path) == ()


def test_trainings_of_older_versions_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, "1", trained())
    old = {**orjson.loads(path.read_bytes()), "setting": {"parts": 1, "limit_bytes": 8 * GB}}
    new = history.read(tmp_path, MACHINE, VERSIONS)
    path.write_bytes(orjson.dumps(old))
    assert history.read(tmp_path, MACHINE, VERSIONS) == new


def test_results_of_an_earlier_version_are_of_attention_and_adamw(tmp_path: Path) -> None:
    """Their files do not say so, because that was the only kind of training."""
    content = orjson.loads((SUPPORT / "results-0.1.json").read_bytes())
    folder = tmp_path / "0001-20260102-030405Z-1"
    folder.mkdir()
    content["machine"] = asdict(MACHINE)
    (folder / "results.json").write_bytes(orjson.dumps(content))
    past = history.read(tmp_path, MACHINE, content["device"]["versions"])
    assert past is not None
    kinds = {measurement.configuration.kind for measurement in past.measurements}
    assert kinds == {Configuration().kind}
    assert Configuration().lora_keys == ATTENTION_KEYS
    assert Configuration().optimizer is Optimizer.ADAMW
