"""``your_ai optimize`` end to end: real workers, real budgets."""

from __future__ import annotations

import signal
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.command import (
    Finished,
    at_a_terminal,
    environment,
    your_ai_command,
)
from tests.support.trials import wait_for

GB = 2**30
KIND = ["--lora-keys", "attention", "--optimizer", "adamw"]
TRAINING = ["--seq-length", "64", "--steps", "2", "--quantize", "none", *KIND]
GRID = ["--batch-sizes", "1,4", "--ranks", "4,16", "--layers", "1,4"]
# Between the needed memory of 4/4/4 and of 4/16/4, which are 2.2 and 2.6 MB.
BUDGET = ["--max-memory", f"{2.4 / 1024}"]

MANY = ",".join(map(str, range(1, 1025)))
FULL = ["optimize", "smoke-tiny", "--fine-tune-type", "full"]


def optimize(folder: Path, *arguments: str) -> Finished:
    """Run ``your_ai optimize smoke-tiny`` over a small grid, with the run directory ``run``."""
    options = [*GRID, *TRAINING, "--run-dir", "run", *arguments]
    return your_ai_command(folder, "optimize", "smoke-tiny", *options)


def configuration(entry: dict[str, Any]) -> tuple[int, int, int]:
    """Return batch size, rank and layers of a trial."""
    config = entry["config"]
    return config["batch_size"], config["lora_rank"], config["lora_layers"]


def optimum(done: Finished) -> tuple[int | None, ...]:
    """The best configuration in the results."""
    found = done.only["optimal_config"]
    return tuple(found[f"optimal_{axis}"] for axis in ("batch_size", "lora_rank", "lora_layers"))


def is_at_work(parent: int) -> bool:
    """Whether a worker has been computing for a while."""
    try:
        return any(c.cpu_times().user > 0.2 for c in psutil.Process(parent).children())
    except psutil.NoSuchProcess:  # the previous worker, which has just ended
        return False


def check_certificate(done: Finished) -> None:
    """Check that each better configuration failed, or covers one that failed."""
    found = done.only["optimal_config"]
    failed = [configuration(e) for e in found["all_results"] if not e["success"]]
    score = found["throughput_score"] or 0
    for better in product((1, 4), (4, 16), (1, 4)):
        if better[0] * better[1] * better[2] > score:
            assert any(all(b >= f for b, f in zip(better, fail, strict=True)) for fail in failed)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return optimize(tmp_path_factory.mktemp("searched"), *BUDGET)


@pytest.fixture(scope="module")
def whole_grid(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return optimize(tmp_path_factory.mktemp("whole"), *BUDGET, "--exhaustive")


def test_the_search_and_the_whole_grid_agree(searched: Finished, whole_grid: Finished) -> None:
    assert searched.code == 0, searched.stdout + searched.stderr
    assert whole_grid.code == 0, whole_grid.stdout + whole_grid.stderr
    tried = [configuration(e) for e in whole_grid.only["optimal_config"]["all_results"]]
    assert sorted(tried) == list(product((1, 4), (4, 16), (1, 4)))
    assert optimum(searched) == optimum(whole_grid)
    assert len(searched.only["optimal_config"]["all_results"]) < len(tried)


def test_the_optimum_is_proven(searched: Finished, whole_grid: Finished) -> None:
    for done in (searched, whole_grid):
        check_certificate(done)
        found = done.only["optimal_config"]
        assert found["complete"] is True
        assert found["certificate"]["unsettled"] == []
        assert {f["outcome"] for f in found["certificate"]["failures"]} == {"over-budget"}
        assert done.document["complete"] is True


def test_the_entry_is_that_of_the_best_configuration(searched: Finished) -> None:
    found = searched.only["optimal_config"]
    assert configuration(searched.only) == optimum(searched)
    assert searched.document["recommended"] == "smoke-tiny"
    assert searched.only["peak_memory_gb"] == found["peak_memory_gb"]
    assert found["needed_memory_bytes"] <= searched.document["budget_bytes"]
    batch, rank, layers = configuration(searched.only)
    assert found["throughput_score"] == batch * rank * layers
    assert (found["model"], found["objective"]) == ("your_ai/smoke-tiny", "capacity")
    logs = {entry["log"] for entry in found["all_results"]}
    assert len(logs) == len(found["all_results"])
    assert all((searched.folder / log).is_file() for log in logs)


def test_the_console_shows_each_trial_and_the_proof(searched: Finished) -> None:
    lines = searched.stdout.splitlines()
    trials = [line for line in lines if line.startswith("[")]
    assert len(trials) == len(searched.only["optimal_config"]["all_results"])
    batch, rank, layers = optimum(searched)
    assert any(
        line.startswith(f"Optimal: batch={batch}, rank={rank}, layers={layers}, needs ")
        for line in lines
    )
    assert any(line.startswith("Proven optimal: every better configuration") for line in lines)
    assert any("✗ Over budget" in line for line in lines if line.startswith("    batch="))
    assert searched.stderr == ""


def test_no_trial_dominates_one_of_the_pareto_set(whole_grid: Finished) -> None:
    found = whole_grid.only["optimal_config"]

    def merits(c: dict[str, Any]) -> tuple[float, ...]:
        return -c["needed_memory_bytes"], c["capacity"], c["tokens_per_second"]

    def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        return one != other and all(a >= b for a, b in zip(one, other, strict=True))

    passed = [
        (
            -e["needed_memory_bytes"],
            configuration(e)[0] * configuration(e)[1] * configuration(e)[2],
            e["tokens_per_second"],
        )
        for e in found["all_results"]
        if e["success"]
    ]
    front = [merits(c) for c in found["pareto"]]
    assert sorted(front) == sorted(m for m in passed if not any(dominates(o, m) for o in passed))


def test_the_objective_tokens_finds_the_fastest_configuration(tmp_path: Path) -> None:
    done = optimize(tmp_path, "--objective", "tokens")
    assert done.code == 0, done.stdout + done.stderr
    tried = done.only["optimal_config"]["all_results"]
    assert [configuration(e) for e in tried] == [(1, 4, 1), (4, 4, 1)]
    fastest = max(tried, key=lambda e: e["tokens_per_second"])
    assert optimum(done) == configuration(fastest)
    assert done.document["complete"] is True


def test_no_optimum_if_no_configuration_fits(nothing_fits: Finished) -> None:
    done = nothing_fits
    assert done.code == 1, done.stdout + done.stderr
    assert optimum(done) == (None, None, None)
    assert done.only["success"] is False
    assert [configuration(e) for e in done.only["optimal_config"]["all_results"]] == [(1, 4, 2)]
    assert done.only["optimal_config"]["certificate"]["unsettled"] == []
    assert "Optimal: no configuration passed (" in done.stdout


def test_benchmark_optimizes_the_models_that_pass(ladder: Finished) -> None:
    small, large = ladder.document["results"]
    assert large["outcome"] == "over-budget"
    assert large["optimal_config"] is None
    found = small["optimal_config"]
    assert configuration(small) == (2, 4, 2)
    assert configuration(found["all_results"][0]) == (2, 4, 2)
    assert found["optimal_batch_size"] in (1, 4)
    assert ladder.document["complete"] is True
    line = next(x for x in ladder.stdout.splitlines() if "Optimizing" in x)
    assert line.startswith("    Optimizing configuration ... ✓ (batch=")


def test_ctrl_c_keeps_the_finished_trials(tmp_path: Path) -> None:
    asked = ["optimize", "smoke-tiny", *GRID, *TRAINING, "--exhaustive", "--run-dir", "run"]
    process = subprocess.Popen(
        at_a_terminal(*asked),
        cwd=tmp_path,
        env=environment(tmp_path / "home"),
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            if line.startswith("[2]"):
                break
        wait_for(lambda: is_at_work(process.pid), "the third worker", every=0.05)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    done = Finished(process.returncode, rest, "", tmp_path)
    assert done.code == 130
    found = done.only["optimal_config"]
    assert found["complete"] is False
    assert optimum(done)[0] is not None
    assert found["certificate"]["unsettled"]
    assert done.document["complete"] is False
    assert "Not proven: " in rest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["optimize", "smoke-tiny", "--ranks", "8,x"],
            "'8,x' is not a list of positive whole numbers",
        ),
        (
            ["optimize", "smoke-tiny", "--ranks", "8,,4"],
            "'8,,4' is not a list of positive whole numbers",
        ),
        (
            ["optimize", "smoke-tiny", "--batch-sizes", "0,2"],
            "not between 1 and 1024",
        ),
        (
            ["optimize", "smoke-tiny", "--ranks", "9" * 5000],
            "not between 1 and 4096",
        ),
        (
            ["optimize", "smoke-tiny", "--quick", "--ranks", "8"],
            "--quick and --ranks cannot be used together",
        ),
        (
            ["optimize", "smoke-tiny", "--batch-sizes", MANY, "--ranks", "1,2,3,4,5"],
            "5120 configurations, more than the maximum of 5000",
        ),
        (["optimize", "smoke-tiny", "--objective", "joy"], "'joy' is not one of"),
        (["optimize"], "A model is required."),
        (
            ["optimize", "smoke-tiny", "--batch-size", "1", "--batch-sizes", "1,2"],
            "--batch-size and --batch-sizes cannot be used together",
        ),
        (
            ["optimize", "smoke-tiny", "--objective", "length", "--seq-length", "64"],
            "To choose the lengths to try, use --seq-lengths",
        ),
        (
            ["optimize", "smoke-tiny", "--objective", "length", "--quick"],
            "--quick cannot be used with --objective length",
        ),
        (
            ["optimize", "smoke-tiny", "--seq-lengths", "4096,8192"],
            "All --seq-lengths are too long for smoke-tiny. Use at most 2048 tokens.",
        ),
        (
            ["optimize", "smoke-tiny", "--seq-lengths", "4"],
            "not between 8 and 16777216",
        ),
        (
            ["optimize", "smoke-tiny", "--grad-checkpoints", "on,maybe"],
            "'maybe' is not one of 'on', 'off'",
        ),
        (["ceiling"], "A model is required."),
        (
            ["ceiling", "smoke-tiny", "--suite", "smoke"],
            "MODEL and --suite cannot be used together",
        ),
        (
            [*FULL, "--quantize", "8,none", "--objective", "tokens"],
            "Full fine-tuning cannot train quantized weights",
        ),
        (["benchmark", "--model", "smoke-tiny", "--quick"], "--quick requires --optimize"),
        (["benchmark", "--model", "smoke-tiny", "--layers", "2"], "--layers requires --optimize"),
    ],
)
def test_bad_options_are_usage_errors(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = your_ai_command(tmp_path, *arguments)
    assert done.code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_quantizations_are_searched_together(tmp_path: Path) -> None:
    axes = ["--batch-size", "1", "--ranks", "4", "--layers", "1", "--steps", "1"]
    options = [*axes, "--seq-length", "64", "--objective", "tokens", "--quantize", "none,8"]
    done = your_ai_command(tmp_path, "optimize", "smoke-tiny", *options, "--run-dir", "run")
    assert done.code == 0, done.stdout + done.stderr
    found = done.only["optimal_config"]
    assert found["grid"]["quantizations"] == ["8", "none"]
    tried = {e["config"]["quantization_bits"]: e for e in found["all_results"]}
    assert list(tried) == [8, None]
    fastest = max(tried, key=lambda bits: tried[bits]["tokens_per_second"])
    assert found["optimal_quantization"] == {8: "8", None: "none"}[fastest]
    label = {8: "8-bit", None: "unquantized"}[fastest]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Optimal: ")]
    assert line.startswith(f"Optimal: batch=1, rank=4, layers=1, {label}, ")
    again = your_ai_command(tmp_path, "optimize", "--resume", "--run-dir", "run")
    assert again.code == 0, again.stdout + again.stderr
    assert "is already complete" in again.stdout
    assert line in again.stdout.splitlines()


def test_of_equal_capacities_more_bits_and_no_checkpointing_win(tmp_path: Path) -> None:
    axes = ["--batch-size", "1", "--ranks", "4", "--layers", "1", "--seq-length", "32"]
    varied = ["--quantize", "8,none", "--grad-checkpoints", "on,off", "--steps", "1"]
    done = your_ai_command(tmp_path, "optimize", "smoke-tiny", *axes, *varied, "--run-dir", "run")
    assert done.code == 0, done.stdout + done.stderr
    found = done.only["optimal_config"]
    assert (found["optimal_quantization"], found["optimal_grad_checkpoint"]) == ("none", False)
    assert (len(found["all_results"]), found["proven"]) == (1, True)


def test_one_trial_without_a_worker_proves_that_the_weights_are_too_large(tmp_path: Path) -> None:
    done = optimize(tmp_path, "--max-memory", "0.0001")
    assert done.code == 1, done.stdout + done.stderr
    found = done.only["optimal_config"]
    assert [configuration(trial) for trial in found["all_results"]] == [(1, 4, 1)]
    assert (found["complete"], found["proven"]) == (True, True)
    assert found["certificate"]["unsettled"] == []
    assert (done.only["outcome"], done.only["log"]) == ("over-budget", None)
    assert list((tmp_path / "run/logs").iterdir()) == []
    assert '"started"' not in (tmp_path / "run/journal.jsonl").read_text()
