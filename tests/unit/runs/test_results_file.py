"""Loading results from a file, from a folder, and from the journal of a killed run."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.support import builders
from worker.protocol.messages import Memory
from your_ai.errors import UsageError
from your_ai.runs.assembly import assemble
from your_ai.runs.journal import BEGAN, ENDED, JOURNAL, Journal
from your_ai.runs.results import write
from your_ai.runs.results_file import ResultsWriter, load
from your_ai.runs.run_dir import RESULTS
from your_ai.runs.trial_result import TrialResult
from your_ai.supervision.observation import FootprintSample
from your_ai.units import GB

RUN = builders.run(builders.trial(1, "a", "7B"), builders.trial(2, "b", "8B"))
FIRST, SECOND = (builders.result(t) for t in RUN.trials)


def journaled(folder: Path, *ended: TrialResult) -> None:
    with Journal.open(folder) as journal:
        journal.append(BEGAN, {"run": asdict(RUN)})
        for each in ended:
            journal.append(ENDED, {"trial": each.key, "result": asdict(each)})


def written(folder: Path, *ended: TrialResult) -> None:
    (folder / RESULTS).write_bytes(write(assemble(RUN, ended)))


def set_times(folder: Path, *, journal: int, results: int) -> None:
    os.utime(folder / JOURNAL, (journal, journal))
    os.utime(folder / RESULTS, (results, results))


@pytest.mark.parametrize("name", ["", RESULTS])
def test_results_are_rebuilt_from_a_newer_journal(name: str, tmp_path: Path) -> None:
    journaled(tmp_path, FIRST, SECOND)
    written(tmp_path, FIRST)
    set_times(tmp_path, journal=2000, results=1000)
    # The current path, even if the folder was moved.
    here = replace(RUN, run_dir=str(tmp_path))
    assert load(tmp_path / name) == assemble(here, [FIRST, SECOND])


def test_an_up_to_date_results_file_is_read(tmp_path: Path) -> None:
    journaled(tmp_path, FIRST, SECOND)
    written(tmp_path, FIRST)
    set_times(tmp_path, journal=1000, results=2000)
    assert len(load(tmp_path).results) == 1


def test_results_of_a_killed_run_are_rebuilt(tmp_path: Path) -> None:
    journaled(tmp_path, FIRST)
    found = load(tmp_path)
    assert found == assemble(replace(RUN, run_dir=str(tmp_path)), [FIRST])
    assert not found.complete


def test_the_results_file_is_used_if_the_journal_is_unreadable(tmp_path: Path) -> None:
    written(tmp_path, FIRST)
    (tmp_path / JOURNAL).write_bytes(b"nonsense\n")
    set_times(tmp_path, journal=2000, results=1000)
    assert load(tmp_path) == assemble(RUN, [FIRST])


def test_a_damaged_journal_without_results_is_an_error(tmp_path: Path) -> None:
    journaled(tmp_path, FIRST)
    path = tmp_path / JOURNAL
    path.write_bytes(path.read_bytes().replace(b'"began"', b'"begun"'))
    with pytest.raises(UsageError, match="corrupt at line 1"):
        load(tmp_path)


def test_a_run_without_an_ended_trial_has_no_results(tmp_path: Path) -> None:
    journaled(tmp_path)
    with pytest.raises(UsageError, match=r"results\.json: No such file"):
        load(tmp_path)


def test_a_running_training_is_not_mistaken_for_another_version(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.append(BEGAN, {"run": asdict(replace(RUN, command="train"))})
    with pytest.raises(UsageError, match=r"results\.json: No such file"):
        load(tmp_path)


def test_a_training_is_not_mistaken_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "training.json").touch()
    with pytest.raises(UsageError, match="contains a training, which has no benchmark results"):
        load(tmp_path)


def test_results_are_written_at_most_every_ten_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    writer = ResultsWriter([tmp_path / "a.json"])
    assert writer.is_due()
    writer.write(assemble(RUN, [FIRST]))
    now[0] += 9.9
    assert not writer.is_due()
    now[0] += 0.1
    assert writer.is_due()


def test_an_unwritable_target_is_reported_and_others_are_written(tmp_path: Path) -> None:
    writer = ResultsWriter([tmp_path / "a.json", tmp_path / "gone" / "b.json"])
    writer.write(assemble(RUN, [FIRST]), final=True)
    assert load(tmp_path / "a.json") == assemble(RUN, [FIRST])
    assert writer.problem is not None
    assert writer.problem.startswith(f"Cannot write {tmp_path / 'gone' / 'b.json'}: No such file")
    assert f"The results are in {tmp_path / 'a.json'}" in writer.problem


def test_a_pipe_gets_only_the_final_results(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = ResultsWriter([pipe])
    writer.write(assemble(RUN, [FIRST]))  # would block without a reader
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer.write(assemble(RUN, [FIRST]), final=True)
    assert os.read(reading, 2**20).startswith(b"{")
    os.close(reading)


def test_the_results_of_a_long_trial_are_small() -> None:
    started, *later = builders.passing_events()
    memory = [Memory(10.0 + n / 10, GB + n % 977, GB) for n in range(36_000)]
    footprints = [FootprintSample(n / 10, GB + n % 977) for n in range(36_000)]
    seen = builders.observed(started, *memory, *later, footprints=tuple(footprints))
    result = builders.result(RUN.trials[0], seen=seen)
    for timeline in (result.memory_timeline, result.footprint_timeline):
        assert 60 <= len(timeline) <= 120
    assert len(write(assemble(RUN, [result]))) < 40_000
