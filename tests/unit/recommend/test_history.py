"""What earlier runs tell: read from real entries, changed one thing at a time."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.builders import CONFIG, model, observed, passing_events, spec, trial
from worker.protocol.messages import Loaded, ModelSource, OverBudget, Phase, Quantization, Weights
from your_ai.planning.device import Device
from your_ai.planning.plan import TrainingOptions, Trial
from your_ai.recommend import history
from your_ai.recommend.history import History, Measurement, training_of
from your_ai.runs.trial_record import Ended, to_json
from your_ai.supervision.outcome import classify
from your_ai.system.machine import Machine

GB = 2**30
TRIAL = trial()
MACHINE = Machine("Linux", "6.1", "x86_64", 16, 128 * GB, "3.11.7")
VERSIONS = {"mlx": "0.32.4", "mlx-lm": "0.32.2"}
DEVICE = Device("cuda", "NVIDIA H200", 140 * GB, None, 139 * GB, VERSIONS)
TRAINING = TrainingOptions(lora_layers=2, quantize=4)
PASSED = Measurement("org/tiny", TRAINING, "cuda", 7_000_000_000, 4 * GB, 6 * GB, 7 * GB, 8 * GB)


def entry(trial: Trial = TRIAL, *, over_budget: bool = False, **changed: Any) -> dict[str, Any]:
    """What the results have of one trial, as they are read again."""
    events = passing_events(**changed)
    if over_budget:
        loaded = next(i for i, event in enumerate(events) if isinstance(event, Loaded))
        events = (*events[: loaded + 2], OverBudget(3.0, Phase.TIGHT, 9 * GB, planned=False))
    seen = observed(*events, returncode=int(over_budget))
    record = Ended(trial, classify(seen, 5), "2026-01-02T03:04:05Z", seen, "/log")
    content: dict[str, Any] = orjson.loads(orjson.dumps(to_json(record)))
    return {**content, "optimal_config": None}


def document(*entries: dict[str, Any], **changed: Any) -> dict[str, Any]:
    content = {
        "results": list(entries),
        "started_at": "2026-01-02T03:04:00Z",
        "machine": asdict(MACHINE),
        "device": asdict(DEVICE),
        **changed,
    }
    return copy.deepcopy(content)


def write(runs: Path, name: str, content: dict[str, Any] | bytes) -> None:
    (runs / name).mkdir(parents=True)
    data = content if isinstance(content, bytes) else orjson.dumps(content)
    (runs / name / "results.json").write_bytes(data)


def test_a_pass_is_read_whole(tmp_path: Path) -> None:
    write(tmp_path, "1", document(entry()))
    found = history.read(tmp_path, MACHINE, VERSIONS)
    assert found.measurements == (PASSED,)
    assert found.device == replace(DEVICE, free_bytes=None)
    assert found.device_seen_at == "2026-01-02T03:04:00Z"


def test_over_budget_tells_that_it_needs_more(tmp_path: Path) -> None:
    write(tmp_path, "1", document(entry(over_budget=True)))
    (only,) = history.read(tmp_path, MACHINE, VERSIONS).measurements
    assert only == replace(PASSED, needed_bytes=None, peak_bytes=None)


@pytest.mark.parametrize("changed", [{"mlx": "0.33.0"}, {"mlx-lm": "0.1"}, {"mlx": None}])
def test_with_other_versions_it_tells_the_device_alone(
    changed: dict[str, str | None], tmp_path: Path
) -> None:
    versions = {name: v for name, v in {**VERSIONS, **changed}.items() if v is not None}
    write(tmp_path, "1", document(entry(), device={**asdict(DEVICE), "versions": versions}))
    found = history.read(tmp_path, MACHINE, VERSIONS)
    assert found.device is not None
    assert found.device.versions == versions
    assert found.measurements == ()


def test_the_installed_versions_are_those_that_a_worker_reports() -> None:
    assert history.installed_versions() == {
        name: metadata.version(name) for name in ("mlx", "mlx-lm")
    }


def test_the_trials_of_a_search_are_read_too(tmp_path: Path) -> None:
    configurations = [entry(replace(TRIAL, spec=spec(batch_size=n))) for n in (2, 4, 8)]
    searched = {**entry(), "optimal_config": {"all_results": configurations}}
    write(tmp_path, "1", document(searched))
    found = history.read(tmp_path, MACHINE, VERSIONS).measurements
    assert [m.training.batch_size for m in found] == [2, 4, 8]


def test_the_newest_of_the_same_counts(tmp_path: Path) -> None:
    for name, needed in ("20260101-1", 1), ("20260103-1", 3), ("20260102-1", 2):
        started = f"{name}T"
        write(tmp_path, name, document(entry(needed=needed * GB), started_at=started))
    found = history.read(tmp_path, MACHINE, VERSIONS)
    assert [m.needed_bytes for m in found.measurements] == [3 * GB]
    assert found.device_seen_at == "20260103-1T"


def test_what_differs_is_kept_beside_it(tmp_path: Path) -> None:
    others = [
        entry(replace(TRIAL, spec=spec(seq_length=512))),
        entry(Trial(1, model("other"), spec())),
        entry(over_budget=True),
        entry(replace(TRIAL, spec=spec(budget_bytes=4 * GB)), over_budget=True),
    ]
    write(tmp_path, "2", document(entry(), *others))
    write(tmp_path, "1", document(entry(), device={**asdict(DEVICE), "backend": "cpu"}))
    found = history.read(tmp_path, MACHINE, VERSIONS).measurements
    assert len(found) == 6
    assert [m.backend for m in found] == ["cuda"] * 5 + ["cpu"]


@pytest.mark.parametrize(
    "changed",
    [
        {"system": "macOS"},
        {"architecture": "arm64"},
        {"cpus": 8},
        {"memory_bytes": 125 * GB},
        {"memory_bytes": 131 * GB},
        {"memory_bytes": "128"},
    ],
)
def test_another_machine_says_nothing(changed: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, "1", document(entry(), machine={**asdict(MACHINE), **changed}))
    assert history.read(tmp_path, MACHINE, VERSIONS) == History()


@pytest.mark.parametrize(
    "changed", [{"release": "6.2"}, {"python": "3.13.0"}, {"memory_bytes": 127 * GB}]
)
def test_an_update_makes_no_other_machine(changed: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, "1", document(entry(), machine={**asdict(MACHINE), **changed}))
    assert history.read(tmp_path, MACHINE, VERSIONS).measurements == (PASSED,)


WHOLE = orjson.dumps(document(entry()))


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
        orjson.dumps(document(device=None)),
        orjson.dumps(document(device={**asdict(DEVICE), "memory_bytes": -1})),
    ],
)
def test_a_bad_file_is_passed_over(content: bytes, tmp_path: Path) -> None:
    write(tmp_path, "2", content)
    write(tmp_path, "1", document(entry()))
    found = history.read(tmp_path, MACHINE, VERSIONS)
    assert (found.device, found.measurements) == (replace(DEVICE, free_bytes=None), (PASSED,))


@pytest.mark.parametrize("results", [None, {}, 7, ["x", None, [], {}, {"optimal_config": 1}]])
def test_a_run_without_usable_results_still_knows_the_device(results: Any, tmp_path: Path) -> None:
    write(tmp_path, "1", document(results=results))
    found = history.read(tmp_path, MACHINE, VERSIONS)
    assert (found.device, found.measurements) == (replace(DEVICE, free_bytes=None), ())


def changed(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = to

    return change


@pytest.mark.parametrize(
    "spoil",
    [
        changed("config", to=None),
        changed("config", "batch_size", to="2"),
        changed("config", "batch_size", to=[2]),
        changed("config", "weights", to="paper"),
        changed("config", "quantization_bits", to={}),
        changed("load", to=None),
        changed("load", "parameters", to=0),
        changed("needed_memory_bytes", to=1.5),
        changed("needed_memory_bytes", to=None),
        lambda content: content.pop("peak_memory_bytes"),
    ],
)
def test_an_unusable_entry_spoils_no_other(
    spoil: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    bad = entry(Trial(1, model("bad"), spec()))
    spoil(bad)
    write(tmp_path, "1", document(bad, entry()))
    assert history.read(tmp_path, MACHINE, VERSIONS).measurements == (PASSED,)


def test_no_folder_no_history(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert history.read(tmp_path / "missing", MACHINE, VERSIONS) == History()
    assert history.read(tmp_path / "file", MACHINE, VERSIONS) == History()


def test_what_is_no_run_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "note.txt").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder" / "results.json").mkdir(parents=True)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "results.json")  # opening it would wait for ever
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    write(tmp_path, "1", document(entry()))
    assert history.read(tmp_path, MACHINE, VERSIONS).measurements == (PASSED,)


def test_only_the_newest_runs_are_read(tmp_path: Path) -> None:
    for number in range(101):
        batch = replace(TRIAL, spec=spec(batch_size=number + 1))
        write(tmp_path, f"{number:03d}", document(entry(batch)))
    found = history.read(tmp_path, MACHINE, VERSIONS).measurements
    assert [m.training.batch_size for m in found] == list(range(101, 1, -1))


def test_only_so_many_bytes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2, 3):
        batch = replace(TRIAL, spec=spec(batch_size=number))
        padding = {"padding": "x" * 1_000_000} if number == 2 else {}
        write(tmp_path, str(number), document(entry(batch), **padding))
    monkeypatch.setattr(history, "_MOST_BYTES", 500_000)
    found = history.read(tmp_path, MACHINE, VERSIONS).measurements
    assert [m.training.batch_size for m in found] == [3, 1]


STORED = {**CONFIG, "quantization": {"bits": 8, "group_size": 32}}


@pytest.mark.parametrize(
    ("asked", "training"),
    [
        ({}, TRAINING),
        ({"steps": 50, "budget_bytes": GB, "seed": 3}, TRAINING),
        ({"quantization": None}, replace(TRAINING, quantize=0)),
        ({"quantization": Quantization(8)}, replace(TRAINING, quantize=8)),
        ({"quantization": None, "model": ModelSource(STORED)}, replace(TRAINING, quantize=8)),
        ({"weights": Weights.REAL}, replace(TRAINING, weights=Weights.REAL)),
        ({"batch_size": 3, "lora_rank": 5}, replace(TRAINING, batch_size=3, lora_rank=5)),
        ({"grad_checkpoint": False}, replace(TRAINING, grad_checkpoint=False)),
    ],
)
def test_what_a_trial_trains_with_is_what_its_results_say(
    asked: dict[str, Any], training: TrainingOptions, tmp_path: Path
) -> None:
    wanted = spec(**asked)
    asked_for = Trial(1, model(config=wanted.model.config), wanted)
    assert training_of(asked_for) == training
    write(tmp_path, "1", document(entry(asked_for)))
    (only,) = history.read(tmp_path, MACHINE, VERSIONS).measurements
    assert only.training == training


def trained(runs: Path, **changed: Any) -> None:
    """What a real training left, of whole batches at full length."""
    content = {
        "model_name": "org/tiny",
        "config": {
            "weights": "real",
            "quantization_bits": 4,
            "batch_size": 2,
            "lora_rank": 64,
            "lora_layers": 2,
            "seq_length": 1024,
            "grad_checkpoint": True,
            "budget_bytes": 8 * GB,
        },
        "load": {"parameters": 7_000_000_000, "resident_bytes": 4 * GB},
        "longest_tokens": 1024,
        "setting": {"parts": 1},
        "measured": {"peak_bytes": 5 * GB},
        "machine": asdict(MACHINE),
        "device": asdict(DEVICE),
        "started_at": "2026-01-02T03:04:05Z",
        **changed,
    }
    folder = runs / "20260102-2"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training.json").write_bytes(orjson.dumps(content))


def test_a_real_training_is_a_measurement_too(tmp_path: Path) -> None:
    trained(tmp_path)
    (found,) = history.read(tmp_path, MACHINE, VERSIONS).measurements
    assert (found.needed_bytes, found.enough_bytes) == (None, 5 * GB)
    assert found.training == TRAINING


@pytest.mark.parametrize(
    "changed", [{"longest_tokens": 1023}, {"setting": {"parts": 2}}, {"load": None}]
)
def test_one_that_was_smaller_is_none(changed: dict[str, Any], tmp_path: Path) -> None:
    trained(tmp_path, **changed)
    assert history.read(tmp_path, MACHINE, VERSIONS).measurements == ()
