"""Resuming a run after its parent was killed or the machine restarted."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.runs import plain
from tests.support.command import YOUR_AI, Finished, environment, your_ai_command
from tests.support.trials import wait_for
from your_ai.runs import journal
from your_ai.runs.journal import ENDED, JOURNAL, STARTED, Journal, Record

OPTIONS = ["--seq-length", "16", "--lora-rank", "4", "--batch-size", "1", "--steps", "2"]
MODELS = ["--model", "smoke-tiny", "--model", "smoke-small", *OPTIONS]
FIRST, SECOND = "01-1x4x4x16-none", "02-1x4x4x16-none"


def records(run: Path) -> list[Record]:
    path = run / JOURNAL
    return list(journal.read(path)) if path.exists() else []


def keys(run: Path, kind: str) -> list[str]:
    return [record.fields["trial"] for record in records(run) if record.kind == kind]


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [*YOUR_AI, *arguments],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as parent:
        try:
            yield parent
        finally:
            parent.kill()


def killed_in(folder: Path, key: str, *arguments: str) -> None:
    """Start a run, and kill it during a trial."""
    run = folder / "run"
    before = keys(run, STARTED).count(key)
    with running(folder, *arguments, "--run-dir", "run") as parent:
        wait_for(lambda: keys(run, STARTED).count(key) > before, f"the start of trial {key}")
        parent.kill()


def resume(folder: Path, command: str = "benchmark", *arguments: str) -> Finished:
    return your_ai_command(folder, command, "--resume", "--run-dir", "run", *arguments, home=folder)


@pytest.fixture(scope="module")
def cut_short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose parent was killed in the second trial."""
    folder = tmp_path_factory.mktemp("cut-short")
    killed_in(folder, SECOND, "benchmark", *MODELS)
    return folder / "run"


@pytest.fixture
def run(cut_short: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return shutil.copytree(cut_short, tmp_path / "run")


def test_resume_skips_finished_trials_and_runs_the_rest(run: Path, tmp_path: Path) -> None:
    (before,) = [record for record in records(run) if record.kind == ENDED]
    done = resume(tmp_path)
    assert (done.code, done.stderr) == (0, "")
    assert "(1 trial already finished)" in done.stdout
    assert keys(run, STARTED) == [FIRST, SECOND, SECOND]
    assert keys(run, ENDED) == [FIRST, SECOND]

    (tmp_path / "whole").mkdir()
    whole = your_ai_command(tmp_path / "whole", "benchmark", *MODELS, "--run-dir", "run")
    assert plain(done.document) == plain(whole.document)
    assert done.document["results"][0] == before.fields["result"]
    assert next(line for line in done.stdout.splitlines() if line.startswith("[")).startswith(
        "[1/2] smoke-tiny         (263K) ... ✓ Pass ("
    )

    again = resume(tmp_path, "benchmark", *MODELS)
    assert again.code == 0
    assert keys(run, STARTED) == [FIRST, SECOND, SECOND]
    assert again.document["results"] == done.document["results"]


def test_a_search_is_resumed(tmp_path: Path) -> None:
    axes = ["--batch-sizes", "1,2", "--ranks", "4", "--layers", "1", "--exhaustive"]
    asked = ["optimize", "smoke-tiny", *axes, "--seq-length", "16", "--steps", "1"]
    killed_in(tmp_path, "01-2x4x1x16-none", *asked)
    done = resume(tmp_path, "optimize")
    assert done.code == 0, done.stdout + done.stderr
    run = tmp_path / "run"
    assert keys(run, ENDED) == ["01-1x4x1x16-none", "01-2x4x1x16-none"]
    assert keys(run, STARTED).count("01-1x4x1x16-none") == 1
    best = done.document["results"][0]["optimal_config"]
    assert (best["optimal_batch_size"], best["optimal_lora_layers"]) == (2, 1)
    assert (len(best["all_results"]), best["complete"]) == (2, True)


def test_a_trial_during_which_the_machine_restarted_is_not_repeated(
    run: Path, tmp_path: Path
) -> None:
    rewrite(run, lambda record: {"boot": "before"} if record.kind == STARTED else {})
    done = resume(tmp_path)
    assert done.code == 0, done.stdout + done.stderr  # the first trial passed
    assert keys(run, STARTED) == [FIRST, SECOND]
    first, second = done.document["results"]
    assert (first["outcome"], second["outcome"], second["certainty"]) == ("pass", "crash", "low")
    assert second["error"].startswith("the machine restarted during this trial")
    assert "✗ Crash (the machine restarted during this trial" in done.stdout
    assert plain(resume(tmp_path).document) == plain(done.document)


def test_a_trial_that_killed_its_parent_twice_is_not_repeated(tmp_path: Path) -> None:
    killed_in(tmp_path, FIRST, "benchmark", *MODELS)
    killed_in(tmp_path, FIRST, "benchmark", "--resume")
    done = resume(tmp_path)
    assert done.code == 0, done.stdout + done.stderr
    assert keys(tmp_path / "run", STARTED) == [FIRST, FIRST, SECOND]
    assert [entry["outcome"] for entry in done.document["results"]] == ["crash", "pass"]
    assert "your_ai ended unexpectedly 2 times during this trial" in done.stdout


def rewrite(run: Path, change: Any) -> None:
    old = records(run)
    (run / JOURNAL).unlink()
    with Journal.open(run) as opened:
        for record in old:
            opened.append(record.kind, {**record.fields, **change(record)})


def test_a_running_run_cannot_be_resumed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with running(tmp_path, "benchmark", *MODELS, "--run-dir", "run") as parent:
        wait_for(lambda: keys(run, STARTED), "the first trial")
        for asked in (["--resume"], MODELS):
            done = your_ai_command(tmp_path, "benchmark", *asked, "--run-dir", "run", home=tmp_path)
            assert (done.code, done.stdout) == (2, "")
            assert f"is still running (process {parent.pid}). Wait for it" in done.stderr
        listed = your_ai_command(tmp_path, "runs", home=tmp_path)
        assert listed.stdout.startswith("No saved runs in ")  # runs in a --run-dir are not listed


def test_the_last_run_is_resumed_and_listed(tmp_path: Path) -> None:
    none = your_ai_command(tmp_path, "benchmark", "--resume", home=tmp_path)
    assert (none.code, "No run of `your_ai benchmark` found in " in none.stderr) == (
        2,
        True,
    )
    with running(tmp_path, "benchmark", *MODELS) as parent:
        (path,) = wait_for(lambda: [*tmp_path.rglob(JOURNAL)], "the journal")
        wait_for(lambda: keys(path.parent, ENDED), "the first trial's end")
        listed = your_ai_command(tmp_path, "runs", home=tmp_path).stdout
        assert ": running (1 done, 1 passed)" in listed
        parent.kill()
    listed = your_ai_command(tmp_path, "runs", home=tmp_path).stdout
    assert ": ended unexpectedly, can be resumed (1 done, 1 passed)" in listed
    assert (
        "  benchmark --model smoke-tiny --model smoke-small --batch-size 1 --lora-rank 4" in listed
    )
    done = your_ai_command(tmp_path, "benchmark", "--resume", home=tmp_path)
    assert done.code == 0, done.stdout + done.stderr
    listed = your_ai_command(tmp_path, "runs", home=tmp_path).stdout
    assert ": complete (2 done, 2 passed)" in listed
    assert str(path.parent) in listed


@pytest.fixture
def finished(smoke: Finished) -> Path:
    """The folder of a complete run."""
    return smoke.folder


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (["benchmark", "--resume", "--lora-rank", "8"], "--lora-rank 8 (was 4)"),
        (["benchmark", "--resume", "--keep-going"], "--keep-going on (was not given)"),
        (["benchmark", "--resume", "--model", "smoke-small"], "smoke-small (was smoke-tiny)"),
        (["optimize", "--resume"], "was started by `your_ai benchmark`. Continue it with"),
        (["benchmark", *MODELS], "contains the results of another run. Add --resume"),
        (
            ["benchmark", "--resume", "--run-dir", "nowhere"],
            "No run found in nowhere.",
        ),
    ],
)
def test_invalid_resumes_are_refused(asked: list[str], complaint: str, finished: Path) -> None:
    before = (finished / "run" / JOURNAL).read_bytes()
    where = [] if "--run-dir" in asked else ["--run-dir", "run"]
    done = your_ai_command(finished, *asked, *where, home=finished)
    assert (done.code, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert (finished / "run" / JOURNAL).read_bytes() == before


def test_a_damaged_journal_is_reported_with_its_line(finished: Path, tmp_path: Path) -> None:
    content = (finished / "run" / JOURNAL).read_bytes()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / JOURNAL).write_bytes(content.replace(b'"started"', b'"stopped"', 1))
    done = resume(tmp_path)
    assert (done.code, done.stdout) == (2, "")
    assert "run/journal.jsonl is corrupt at line 2; the lines before it are" in done.stderr


def test_the_files_of_a_run_are_private(finished: Path) -> None:
    run = finished / "run"
    assert {p.stat().st_mode & 0o077 for p in (run, run / "logs", run / JOURNAL)} == {0}
    assert {p.stat().st_mode & 0o077 for p in (run / "logs").iterdir()} == {0}
    assert [p.name for p in (run / "logs").iterdir()] == ["01-smoke-tiny-2x4x4x64-none.log"]


def test_a_trial_whose_log_cannot_be_written_is_measured(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "logs")
    (run / "logs").symlink_to("/proc/self")  # where no file can be created
    done = resume(tmp_path)
    assert done.code == 0, done.stdout + done.stderr
    assert [entry["outcome"] for entry in done.document["results"]] == ["pass", "pass"]
    assert done.document["results"][1]["log_excerpt"] == []
