"""Running trials, with a function instead of a worker and a real journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from tests.support import builders
from worker.protocol.codec import decode_request
from worker.protocol.configuration import Configuration, Weights
from worker.protocol.messages import Failed, OverBudget, Phase
from worker.protocol.requests import ModelSource, TrialRequest
from your_ai.errors import DeviceChangedError, NotStartedError
from your_ai.planning.plan import Trial
from your_ai.runs.cooldown import Cooldown
from your_ai.runs.journal import ENDED, STARTED, Journal
from your_ai.runs.optimization import Optimization
from your_ai.runs.resume import RunHistory, history_of
from your_ai.runs.run import Run
from your_ai.runs.runner import TrialRunner
from your_ai.runs.searching import search_for
from your_ai.runs.trial_result import TrialResult
from your_ai.search.grid import Axes
from your_ai.search.search import Objective, SearchOptions
from your_ai.supervision.observation import Kill, Observation
from your_ai.supervision.outcome import Certainty
from your_ai.system import conditions
from your_ai.system.conditions import Conditions
from your_ai.system.nvidia import Gpu
from your_ai.system.signals import interrupts

Worker = Callable[[TrialRequest], Observation]

PASS = builders.observed(*builders.passing_events())
OOM = builders.observed(
    *builders.began(Phase.LOAD, 1.0),
    Failed(2.0, Phase.LOAD, "RuntimeError", "[malloc] Unable to allocate 5 bytes"),
    returncode=1,
)
KILLED_BY_MACOS = builders.observed(
    *builders.began(Phase.TIGHT, 1.0), returncode=-9, final_pressure="critical"
)
TOO_LONG = builders.observed(
    *builders.began(Phase.TIGHT, 1.0),
    Failed(
        *(2.0, Phase.TIGHT, "RuntimeError"),
        "[METAL] Command buffer execution failed: Impacting Interactivity "
        "(0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)",
    ),
    returncode=1,
)
OVER = builders.observed(
    *builders.began(Phase.TIGHT, 1.0), OverBudget(2.0, Phase.TIGHT, 2**40, False), returncode=1
)
NO_DEVICE = builders.observed(
    *builders.began(Phase.IMPORT, 0.1),
    Failed(0.2, Phase.IMPORT, "ModuleNotFoundError", "import of mlx.core halted"),
    returncode=1,
)
INTERRUPTED = builders.observed(returncode=-15, killed=Kill.INTERRUPT)
SEARCH = SearchOptions(Axes((1, 2, 4), (8, 16), (1, 2)), Objective.CAPACITY, False)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    (tmp_path / "logs").mkdir()
    with Journal.open(tmp_path) as opened:
        yield opened


def ladder(folder: Path, *labels: str, **changed: Any) -> Run:
    trials = [builders.trial(n, f"m{n}", label) for n, label in enumerate(labels, start=1)]
    return builders.run(*trials, run_dir=str(folder), **changed)


def runner(
    run: Run,
    journal: Journal,
    worker: Worker,
    history: RunHistory | None = None,
    **options: Any,
) -> TrialRunner:
    def supervise(request: bytes, **_: Any) -> Observation:
        return worker(_trial(request))

    return TrialRunner(run, journal, history or RunHistory(), supervise=supervise, **options)


def _trial(request: bytes) -> TrialRequest:
    decoded = decode_request(request)
    assert isinstance(decoded, TrialRequest)
    return decoded


def scripted(*seen: Observation) -> Worker:
    left = list(seen)
    return lambda _: left.pop(0)


def outcomes(steps: Iterator[Trial | TrialResult]) -> list[str]:
    return [step.outcome for step in steps if isinstance(step, TrialResult)]


def kinds(journal: Journal) -> list[tuple[str, str]]:
    return [(record.kind, record.fields["trial"]) for record in journal.records()]


def test_each_trial_is_announced_journaled_and_recorded(tmp_path: Path, journal: Journal) -> None:
    found = runner(ladder(tmp_path, "1B", "2B"), journal, scripted(PASS, OVER))
    first, second, third, fourth = found.trials()
    assert isinstance(first, Trial)
    assert isinstance(third, Trial)
    assert [second, fourth] == found.ended
    assert kinds(journal) == [
        (STARTED, "01-2x64x2x1024-4"),
        (ENDED, "01-2x64x2x1024-4"),
        (STARTED, "02-2x64x2x1024-4"),
        (ENDED, "02-2x64x2x1024-4"),
    ]


def test_a_start_is_in_the_journal_before_the_worker_runs(tmp_path: Path, journal: Journal) -> None:
    def worker(_: TrialRequest) -> Observation:
        assert kinds(journal) == [(STARTED, "01-2x64x2x1024-4")]
        return PASS

    assert outcomes(runner(ladder(tmp_path, "1B"), journal, worker).trials()) == ["pass"]


def test_after_an_oom_larger_models_are_skipped(tmp_path: Path, journal: Journal) -> None:
    run = ladder(tmp_path, "1B", "2B", "2B", "3B")
    found = outcomes(runner(run, journal, scripted(PASS, OOM, PASS)).trials())
    assert found == ["pass", "oom", "pass", "skipped"]
    # The skipped trial was never started.
    assert (STARTED, "04-2x64x2x1024-4") not in kinds(journal)


def test_after_a_kill_under_critical_pressure_larger_models_are_skipped(
    tmp_path: Path, journal: Journal
) -> None:
    run = ladder(tmp_path, "1B", "2B")
    found = runner(run, journal, scripted(KILLED_BY_MACOS))
    assert outcomes(found.trials()) == ["oom", "skipped"]
    assert not found.ended[0].proves_too_large  # is no proof in a search


@pytest.mark.parametrize(("second", "outcome"), [(PASS, "pass"), (TOO_LONG, "crash")])
def test_a_trial_that_macos_stopped_is_retried_once(
    second: Observation, outcome: str, tmp_path: Path, journal: Journal
) -> None:
    found = runner(ladder(tmp_path, "1B"), journal, scripted(TOO_LONG, second))
    assert outcomes(found.trials()) == [outcome]
    (result,) = found.ended
    assert "before that: macOS stopped the GPU work for taking too long" in result.evidence
    assert outcome == "pass" or "let the display sleep" in (result.advice or "")


def test_a_parent_that_dies_in_a_retry_has_died_once(tmp_path: Path, journal: Journal) -> None:
    attempts = []

    def worker(_: TrialRequest) -> Observation:
        attempts.append(1)
        if len(attempts) == 1:
            return TOO_LONG
        raise KeyboardInterrupt

    run = ladder(tmp_path, "1B")
    with pytest.raises(KeyboardInterrupt):
        outcomes(runner(run, journal, worker).trials())
    history = history_of(journal.records())
    assert outcomes(runner(run, journal, scripted(PASS), history).trials()) == ["pass"]


def test_no_model_is_skipped_after_an_over_budget_model(tmp_path: Path, journal: Journal) -> None:
    run = ladder(tmp_path, "1B", "2B")
    assert outcomes(runner(run, journal, scripted(OVER, PASS)).trials()) == ["over-budget", "pass"]


def test_no_model_is_skipped_with_keep_going(tmp_path: Path, journal: Journal) -> None:
    run = ladder(tmp_path, "1B", "2B", keep_going=True)
    assert outcomes(runner(run, journal, scripted(OOM, PASS)).trials()) == ["oom", "pass"]


def test_an_interrupted_trial_is_the_last(tmp_path: Path, journal: Journal) -> None:
    run = ladder(tmp_path, "1B", "2B")
    assert outcomes(runner(run, journal, scripted(INTERRUPTED)).trials()) == ["interrupted"]


def test_a_stop_request_ends_the_run_after_the_trial(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worker(_: TrialRequest) -> Observation:
        monkeypatch.setattr(interrupts, "requested", True)
        return PASS

    assert outcomes(runner(ladder(tmp_path, "1B", "2B"), journal, worker).trials()) == ["pass"]


def test_final_results_are_kept_when_a_run_is_resumed(tmp_path: Path, journal: Journal) -> None:
    run = ladder(tmp_path, "1B", "2B", "3B")
    first = runner(run, journal, scripted(PASS, INTERRUPTED))
    assert outcomes(first.trials()) == ["pass", "interrupted"]
    history = history_of(journal.records())
    resumed = runner(run, journal, scripted(OVER, PASS), history)
    assert outcomes(resumed.trials()) == ["pass", "over-budget", "pass"]
    assert resumed.ended[0] == first.ended[0]
    assert [key for kind, key in kinds(journal) if kind == STARTED].count("01-2x64x2x1024-4") == 1


def test_an_earlier_oom_skips_larger_models(tmp_path: Path, journal: Journal) -> None:
    run = ladder(tmp_path, "1B", "2B")
    steps = runner(run, journal, scripted(OOM)).trials()
    next(steps)
    next(steps)
    history = history_of(journal.records())
    assert outcomes(runner(run, journal, scripted(), history).trials()) == ["oom", "skipped"]


def test_a_trial_that_killed_its_parent_twice_is_quarantined(
    tmp_path: Path, journal: Journal
) -> None:
    def dies(_: TrialRequest) -> Observation:
        raise KeyboardInterrupt

    run = ladder(tmp_path, "1B")
    for _ in range(2):
        history = history_of(journal.records())
        with pytest.raises(KeyboardInterrupt):
            outcomes(runner(run, journal, dies, history).trials())
    history = history_of(journal.records())
    found = runner(run, journal, scripted(), history)
    assert outcomes(found.trials()) == ["crash"]
    assert "2 times" in (found.ended[0].error or "")


def test_a_worker_that_cannot_be_started_ends_the_run(tmp_path: Path, journal: Journal) -> None:
    def worker(_: TrialRequest) -> Observation:
        raise NotStartedError("Cannot start a worker process.")

    run = ladder(tmp_path, "1B", "2B")
    with pytest.raises(NotStartedError):
        outcomes(runner(run, journal, worker).trials())
    history = history_of(journal.records())
    assert history.final == {}
    assert history.unfinished == {}


def test_another_device_than_that_of_the_run_ends_it(tmp_path: Path, journal: Journal) -> None:
    run = ladder(tmp_path, "1B", "2B")  # of a Mac with another name
    with pytest.raises(DeviceChangedError):
        outcomes(runner(run, journal, scripted(NO_DEVICE)).trials())
    history = history_of(journal.records())
    assert (history.final, history.unfinished) == ({}, {})


@pytest.mark.parametrize(
    ("killed", "outcome"),
    [
        (builders.observed(returncode=-9, killed=Kill.MEMORY, alarm="low"), "error"),
        (builders.observed(returncode=-9, oom_kills=1), "oom"),
    ],
)
def test_a_worker_that_was_killed_for_memory_is_no_sign_of_a_broken_mlx(
    killed: Observation, outcome: str, tmp_path: Path, journal: Journal
) -> None:
    found = runner(ladder(tmp_path, "1B"), journal, scripted(killed))
    assert outcomes(found.trials()) == [outcome]


def test_mlx_is_not_asked_if_the_user_has_stopped_the_run(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worker(_: TrialRequest) -> Observation:
        monkeypatch.setattr(interrupts, "requested", True)
        return NO_DEVICE

    run = ladder(tmp_path, "1B", "2B")
    assert outcomes(runner(run, journal, worker).trials()) == ["interrupted"]


def test_missing_weights_fail_only_that_trial(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    real = builders.trial(1, "m1", "1B", weights=Weights.REAL)
    run = builders.run(real, builders.trial(2, "m2", "2B"), run_dir=str(tmp_path))
    found = runner(run, journal, scripted(PASS))
    assert outcomes(found.trials()) == ["error", "pass"]
    assert not found.ended[0].is_final


def capacity_up_to(most: int) -> Worker:
    """Return a worker in which every configuration up to a capacity score fits."""

    def worker(request: TrialRequest) -> Observation:
        c = request.configuration
        if c.capacity > most:
            return OVER
        needed = c.capacity * 2**20
        return builders.observed(*builders.passing_events(needed=needed, peak=needed))

    return worker


def test_a_search_ends_when_the_best_is_proven(tmp_path: Path, journal: Journal) -> None:
    run = ladder(tmp_path, "1B", search=SEARCH)
    found = runner(run, journal, capacity_up_to(64))
    (trial,) = run.trials
    list(found.search(trial))
    passed = [r.config.capacity for r in found.results_of(trial) if r.success]
    assert max(passed) == 64
    assert len(found.ended) < 12  # fewer than the whole grid


def test_a_resumed_search_repeats_nothing(tmp_path: Path, journal: Journal) -> None:
    run = ladder(tmp_path, "1B", search=SEARCH)
    (trial,) = run.trials
    tried: list[Configuration] = []

    def worker(request: TrialRequest) -> Observation:
        tried.append(request.configuration)
        return capacity_up_to(32)(request)

    steps = runner(run, journal, worker).search(trial)
    for _ in range(4):  # two trials, each yielded twice
        next(steps)
    history = history_of(journal.records())
    list(runner(run, journal, worker, history).search(trial))
    assert len(tried) == len(set(tried))


def test_a_moved_folder_fails_only_that_trial_until_it_is_back(
    tmp_path: Path, journal: Journal
) -> None:
    folder = tmp_path / "model"
    source = ModelSource(builders.CONFIG, str(folder))
    moved = builders.trial(1, "m1", "1B", weights=Weights.REAL, model=source)
    run = builders.run(moved, builders.trial(2, "m2", "2B"), run_dir=str(tmp_path))
    first = runner(run, journal, scripted(PASS))
    assert outcomes(first.trials()) == ["error", "pass"]
    assert f"The model's folder {folder} no longer exists. Restore it" in str(first.ended[0].error)
    folder.mkdir()
    again = runner(run, journal, scripted(PASS), history_of(journal.records()))
    assert outcomes(again.trials()) == ["error", "pass"]
    assert f"The model's folder {folder} no longer has weights" in str(again.ended[0].error)
    (folder / "model.safetensors").write_bytes(bytes(8))
    again = runner(run, journal, scripted(PASS), history_of(journal.records()))
    assert outcomes(again.trials()) == ["error", "pass"]
    assert "model.safetensors is corrupt" in str(again.ended[0].error)
    mx.save_safetensors(str(folder / "model.safetensors"), {"weight": mx.zeros(1)})
    again = runner(run, journal, scripted(PASS), history_of(journal.records()))
    assert outcomes(again.trials()) == ["pass", "pass"]


def test_a_search_stops_if_weights_are_missing(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    trial = builders.trial(1, "m1", "1B", weights=Weights.REAL)
    run = replace(builders.run(trial, run_dir=str(tmp_path)), search=SEARCH)
    assert outcomes(runner(run, journal, scripted()).search(trial)) == ["error"]


def test_a_log_is_named_after_its_model_and_stays_in_its_folder(
    tmp_path: Path, journal: Journal
) -> None:
    trial = builders.trial(1, "../../evil/naïve", "1B")
    run = builders.run(trial, run_dir=str(tmp_path))
    found = runner(run, journal, scripted(PASS))
    outcomes(found.trials())
    log = Path(found.ended[0].log or "")
    assert log == tmp_path / "logs" / "01-..-..-evil-na-ve-2x64x2x1024-4.log"


def test_the_conditions_are_read_before_and_after_each_worker(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, Gpu | None]] = []

    def conditions_now(backend: str, gpu: Gpu | None) -> Conditions:
        read.append((backend, gpu))
        return replace(builders.ON_MAINS, slowed_seconds=float(len(read)))

    monkeypatch.setattr(conditions, "read", conditions_now)
    run = ladder(tmp_path, "1B", "2B", "3B", gpu_uuid="GPU-1")
    found = runner(run, journal, scripted(PASS, OOM))
    assert outcomes(found.trials()) == ["pass", "oom", "skipped"]
    slowed = [
        [each and each.slowed_seconds for each in (r.conditions_before, r.conditions_after)]
        for r in found.ended
    ]
    assert slowed == [[1, 2], [3, 4], [None, None]]
    assert set(read) == {("metal", None)}
    assert list(history_of(journal.records()).ended.values()) == found.ended


def test_a_cooldown_is_only_between_two_workers(tmp_path: Path, journal: Journal) -> None:
    run = ladder(tmp_path, "1B", "2B", "3B", "4B", "5B")
    first = runner(run, journal, scripted(PASS, INTERRUPTED), cooldown=Cooldown(0))
    assert outcomes(first.trials()) == ["pass", "interrupted"]
    seen: list[str] = []
    ended = 0.0
    left = [OVER, PASS, OOM]

    def worker(_: TrialRequest) -> Observation:
        nonlocal ended
        assert not ended or time.monotonic() - ended >= 0.05
        seen.append("worker")
        ended = time.monotonic()
        return left.pop(0)

    cooldown = Cooldown(0.05, lambda seconds: seen.append(f"cooldown {seconds <= 0.05}"))
    history = history_of(journal.records())
    resumed = runner(run, journal, worker, history, cooldown=cooldown)
    assert outcomes(resumed.trials()) == ["pass", "over-budget", "pass", "oom", "skipped"]
    assert seen == ["worker", *["cooldown True", "worker"] * 2]


def test_no_cooldown_is_announced_by_default(tmp_path: Path, journal: Journal) -> None:
    def announce(_: float) -> None:
        pytest.fail("there is nothing to wait for")

    run = ladder(tmp_path, "1B", "2B")
    found = runner(run, journal, scripted(PASS, PASS), cooldown=Cooldown(0, announce))
    assert outcomes(found.trials()) == ["pass", "pass"]


def too_large(index: int, **changed: Any) -> Trial:
    """Return a trial whose weights are one byte larger than its budget."""
    trial = builders.trial(index, f"m{index}", f"{index}B", **changed)
    heavy = replace(trial.model, weights_bytes=trial.request.budget_bytes + 1)
    return replace(trial, model=heavy)


def test_a_model_whose_weights_are_too_large_needs_no_worker(
    tmp_path: Path, journal: Journal
) -> None:
    trials = builders.trial(1, "m1", "1B"), too_large(2), too_large(3), builders.trial(4, "m4")
    run = builders.run(*trials, run_dir=str(tmp_path))
    found = runner(run, journal, scripted(PASS, PASS))
    assert outcomes(found.trials()) == ["pass", "over-budget", "over-budget", "pass"]
    started = [key for kind, key in kinds(journal) if kind == STARTED]
    assert started == ["01-2x64x2x1024-4", "04-2x64x2x1024-4"]
    second = found.ended[1]
    assert second.certainty is Certainty.CERTAIN
    assert second.evidence.startswith(f"{8 * 2**30 + 1} bytes ")
    assert (second.log, second.wall_seconds, second.exit_status, second.load) == (None,) * 4
    assert second.weights_bytes == 8 * 2**30 + 1
    assert second.advice
    assert second.is_final
    assert second.tried.too_large
    again = runner(run, journal, scripted(), history_of(journal.records()))
    assert outcomes(again.trials()) == ["pass", "over-budget", "over-budget", "pass"]
    assert again.ended == found.ended


def test_nothing_is_downloaded_for_a_model_that_is_too_large(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # a download would be an error
    run = builders.run(too_large(1, weights=Weights.REAL), run_dir=str(tmp_path))
    found = runner(run, journal, scripted())
    assert outcomes(found.trials()) == ["over-budget"]
    # The config may not have the type of the files.
    assert found.ended[0].certainty is Certainty.HIGH


def test_a_cooldown_does_not_delay_a_decision_without_a_worker(
    tmp_path: Path, journal: Journal
) -> None:
    pauses = list[float]()
    run = builders.run(builders.trial(1, "m1", "1B"), too_large(2), run_dir=str(tmp_path))
    found = runner(run, journal, scripted(PASS), cooldown=Cooldown(60, pauses.append))
    assert outcomes(found.trials()) == ["pass", "over-budget"]
    assert pauses == []


@pytest.mark.parametrize("is_supported", [True, False])
def test_one_trial_proves_that_nothing_fits_if_the_weights_are_too_large(
    is_supported: bool, tmp_path: Path, journal: Journal
) -> None:
    config = builders.CONFIG if is_supported else {**builders.CONFIG, "kv_lora_rank": 512}
    trial = too_large(1, model=ModelSource(config))
    run = builders.run(trial, run_dir=str(tmp_path), search=SEARCH)
    found = runner(run, journal, scripted())
    assert outcomes(found.search(trial)) == ["over-budget"]
    search = Optimization(search_for(trial, SEARCH, "cpu"), found.results_of(trial))
    assert (search.is_finished, search.is_proven, search.best) == (True, True, None)


def test_an_exhaustive_search_records_the_whole_grid_without_a_worker(
    tmp_path: Path, journal: Journal
) -> None:
    trial = too_large(1)
    exhaustive = replace(SEARCH, exhaustive=True)
    run = builders.run(trial, run_dir=str(tmp_path), search=exhaustive)
    found = outcomes(runner(run, journal, scripted()).search(trial))
    assert found == ["over-budget"] * 12
