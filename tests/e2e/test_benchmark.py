"""``your_ai benchmark`` end to end: real workers, real training, consistent figures."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from tests.support.checks import GB, check_figures
from tests.support.command import (
    PLAIN,
    SMALL,
    Finished,
    add_weights,
    benchmark,
    make_model,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_preset_passes(smoke: Finished) -> None:
    assert smoke.code == 0, smoke.stdout + smoke.stderr
    assert smoke.stderr == ""
    check_figures(smoke.only)


def test_a_preset_is_trained_with_the_given_options(smoke: Finished) -> None:
    assert smoke.only["config"] == {
        "weights": "synthetic",
        "quantization_bits": None,
        "batch_size": 2,
        "lora_rank": 4,
        "lora_layers": 4,
        "seq_length": 64,
        "steps": 2,
        "grad_checkpoint": True,
        "fine_tune_type": "lora",
        "lora_keys": ["all"],
        "lora_dropout": 0.0,
        "optimizer": "adam",
        "optimizer_config": [],
        "grad_accumulation_steps": 1,
        "quantization_mode": "affine",
        "group_size": 64,
        "budget_bytes": smoke.document["budget_bytes"],
        "seed": 0,
    }
    assert smoke.only["load"]["parameters"] == 262_720
    # rank × (in + out) in 4 layers; q and o are 64 × 64, k and v 64 × 32, the MLP 64 × 192.
    widths = 128 + 96 + 96 + 128 + 3 * (64 + 192)
    assert smoke.only["load"]["trainable_parameters"] == 4 * widths * 4
    assert len(smoke.only["load"]["lora_keys"]) == 7
    # An untrained model gives all 512 tokens the same probability.
    assert all(abs(s["loss"] - math.log(512)) < 1 for s in smoke.only["steps"])


def test_the_results_have_the_path_of_the_log(smoke: Finished) -> None:
    log = smoke.folder / smoke.only["log"]
    assert log.parent == smoke.folder / "run" / "logs"
    assert log.is_file()


def test_the_results_have_the_keys_of_the_run_and_the_trial(smoke: Finished) -> None:
    document = smoke.document
    assert document["recommended"] == "smoke-tiny"
    assert document["complete"] is True
    assert document["max_memory_gb"] * GB == document["budget_bytes"]
    assert document["budget_bytes"] <= 0.8 * document["device"]["memory_bytes"]
    assert smoke.only["preset"] == "smoke-tiny"
    assert smoke.only["model_name"] == "your_ai/smoke-tiny"
    assert smoke.only["params"] == "263K"
    assert smoke.only["optimal_config"] is None


def test_output_is_a_copy_of_the_results_in_the_run_directory(smoke: Finished) -> None:
    output = (smoke.folder / "out.json").read_bytes()
    assert output == (smoke.folder / "run" / "results.json").read_bytes()
    assert names(smoke.folder) == ["out.json", "run"]
    assert names(smoke.folder / "run") == ["journal.jsonl", "logs", "report.html", "results.json"]


def test_console_output(smoke: Finished) -> None:
    rule = "━" * 60
    lines = smoke.stdout.splitlines()
    assert lines[:3] == [rule, "Hardware Benchmark", rule]
    assert lines[3].startswith("System Memory: ")
    assert lines[4].startswith("Training: LoRA on all modules, rank 4 in the last 4 layers, ")
    assert lines[5].startswith("Unlike mlx_lm.lora by default: batch size 2 (4), rank 4 (8), ")
    assert lines[6:8] == ["Testing models from smallest to largest...", ""]
    assert lines[8].startswith("[1/1] smoke-tiny         (263K) ... ✓ Pass (")
    assert lines[9:] == [
        "",
        rule,
        "Results",
        rule,
        "Recommended: smoke-tiny (largest model that fits)",
        rule,
        "Results written to out.json",
        f"Report written to {smoke.folder / 'run/report.html'}",
    ]


def test_a_budget_above_needed_memory_passes_and_one_below_fails(
    smoke: Finished, tmp_path: Path
) -> None:
    needed = smoke.only["needed_memory_gb"]
    enough, short = tmp_path / "enough", tmp_path / "short"
    for folder in (enough, short):
        folder.mkdir()
    arguments = ["--model", "smoke-tiny", *PLAIN, "--max-memory"]
    passed = benchmark(enough, *arguments, f"{needed * 1.1:.9f}", "--quiet")
    assert (passed.code, passed.stdout, passed.stderr) == (0, "", "")
    check_figures(passed.only)
    refused = benchmark(short, *arguments, f"{needed * 0.9:.9f}")
    assert (refused.code, refused.only["outcome"]) == (1, "over-budget")


def test_over_budget_while_training_and_because_of_the_weights_alone(tmp_path: Path) -> None:
    models = ["--model", "smoke-tiny", "--model", "smoke-large", "--keep-going"]
    done = benchmark(tmp_path, *models, "--max-memory", "0.002", "--seq-length", "512")
    assert done.code == 1
    assert "✗ Over budget (needs at least " in done.stdout
    assert "Recommended: none (no model passed)" in done.stdout
    assert done.document["recommended"] is None
    training, loading = done.document["results"]
    assert (training["outcome"], training["success"]) == ("over-budget", False)
    assert training["error"].startswith("needs at least ")
    measured = int(training["evidence"].split()[0])
    assert measured > training["config"]["budget_bytes"] == int(0.002 * GB)
    assert training["evidence"].endswith("in phase tight")
    assert training["load"]["resident_bytes"] < measured
    assert training["peak_memory_gb"] is None
    assert {step["phase"] for step in training["steps"]} <= {"tight"}
    # No worker was started: 3.4 M parameters take two bytes each.
    assert (loading["outcome"], loading["load"], loading["steps"]) == ("over-budget", None, [])
    assert loading["error"].startswith("the weights alone take ")
    assert int(loading["evidence"].split()[0]) == pytest.approx(6.8e6, rel=0.02)
    assert (loading["log"], loading["wall_seconds"], loading["exit_status"]) == (None, None, None)
    assert [kind for kind, _ in trials_in_journal(tmp_path)] == ["started", "ended", "ended"]
    again = benchmark(tmp_path, "--resume")
    assert again.code == 1
    assert "is already complete" in again.stdout
    assert again.document["results"] == done.document["results"]


def trials_in_journal(folder: Path) -> list[tuple[str, str]]:
    """Return the kind and the trial of each record of a trial."""
    lines = (folder / "run/journal.jsonl").read_text().splitlines()
    records = map(json.loads, lines)
    return [(record["kind"], record["trial"]) for record in records if "trial" in record]


def test_a_folder_whose_weights_are_too_large_is_decided_by_a_probe(tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    done = benchmark(tmp_path, "--model", "model", *PLAIN, "--max-memory", "0.0001")
    assert (done.code, done.only["outcome"]) == (1, "over-budget")
    assert done.only["error"].startswith("the weights alone take ")
    assert (done.only["certainty"], done.only["params"]) == ("certain", "140K")
    assert [kind for kind, _ in trials_in_journal(tmp_path)] == ["ended"]
    assert list((tmp_path / "run/logs").iterdir()) == []


def test_the_worker_counts_the_real_weights_in_a_folder(tmp_path: Path) -> None:
    """They may have another type than the config says."""
    make_model(tmp_path / "model", torch_dtype="float32")
    add_weights(tmp_path / "model")
    options = [*PLAIN, "--weights", "real", "--max-memory"]
    done = benchmark(tmp_path, "--model", "model", *options, "0.0001")
    assert (done.code, done.only["outcome"]) == (1, "over-budget")
    assert int(done.only["evidence"].split()[0]) == 2 * 139_584
    assert Path(done.only["log"]).name in names(tmp_path / "run/logs")


CLUTTER = {
    "worker.py": "raise SystemExit('the wrong worker')",
    "worker/__init__.py": "raise SystemExit('the wrong worker')",
    "worker/__main__.py": "raise SystemExit('the wrong worker')",
    "worker/protocol.py": "raise SystemExit('the wrong worker')",
    "click.py": "raise SystemExit('the wrong click')",
    "json.py": "raise SystemExit('the wrong json')",
    "numpy.py": "raise SystemExit('the wrong numpy')",
    "mlx/__init__.py": "raise SystemExit('the wrong mlx')",
    "mlx_lm/__init__.py": "raise SystemExit('the wrong mlx_lm')",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    """Results for a model in a folder: synthetic and real weights, unquantized and quantized.

    No file in the current directory may be imported.
    """
    base = tmp_path_factory.mktemp("folders")
    model = make_model(base / "tiny-llama")
    add_weights(model)
    finished = {}
    for kind in KINDS:
        weights, _, bits = kind.partition("-")
        folder = base / kind
        for name, content in CLUTTER.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        arguments = ["--model", "../tiny-llama", "--weights", weights, "--quantize", bits]
        finished[kind] = benchmark(folder, *arguments, *SMALL)
    return finished


KINDS = ["synthetic-none", "synthetic-4", "synthetic-8", "real-none", "real-4"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_in_a_folder_passes(folders: dict[str, Finished], kind: str) -> None:
    done = folders[kind]
    assert done.code == 0, done.stdout + done.stderr
    check_figures(done.only)
    weights, _, bits = kind.partition("-")
    assert done.only["config"]["weights"] == weights
    assert done.only["config"]["quantization_bits"] == (None if bits == "none" else int(bits))
    assert done.only["preset"] == "tiny-llama"
    assert done.only["model_name"] == str(done.folder.parent / "tiny-llama")
    assert done.only["params"] == "140K"
    assert done.only["load"]["parameters"] == 139_584


def test_fewer_bits_take_less_memory(folders: dict[str, Finished]) -> None:
    resident = [
        folders[f"synthetic-{bits}"].only["load"]["resident_bytes"] for bits in ("4", "8", "none")
    ]
    assert resident == sorted(resident)
    assert resident[0] < 0.5 * resident[2]


@pytest.mark.parametrize("bits", ["none", "4"])
def test_synthetic_weights_measure_the_same_as_real_ones(
    folders: dict[str, Finished], bits: str
) -> None:
    synthetic, real = folders[f"synthetic-{bits}"].only, folders[f"real-{bits}"].only
    for entry in (synthetic, real):
        assert entry["load"]["parameters"] == 139_584
    assert real["load"]["resident_bytes"] == pytest.approx(
        synthetic["load"]["resident_bytes"], rel=0.01
    )
    assert real["needed_memory_bytes"] == pytest.approx(synthetic["needed_memory_bytes"], rel=0.05)


def test_a_run_continues_after_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    """Weights of another shape than the config says: an error with MLX's message, not an OOM."""
    odd = make_model(tmp_path / "odd", intermediate_size=64)
    add_weights(odd)
    good = make_model(tmp_path / "good")
    add_weights(good)
    done = benchmark(tmp_path, "--model", good, "--model", odd, "--weights", "real", *PLAIN)
    assert done.code == 0, done.stdout + done.stderr
    failed, passed = done.document["results"]
    assert (failed["preset"], failed["outcome"]) == ("odd", "error")
    assert "shape" in failed["error"]
    assert failed["exit_status"] == 1
    assert "Traceback" in (tmp_path / failed["log"]).read_text()
    check_figures(passed)
    assert done.document["recommended"] == "good"
    assert done.stderr == ""
    assert "Traceback" not in done.stdout
    assert "✗ Error (" in done.stdout
    assert f"log: {failed['log']}" in done.stdout


def test_a_trial_past_its_time_limit_fails(tmp_path: Path) -> None:
    done = benchmark(tmp_path, "--model", "smoke-tiny", *PLAIN, "--timeout", "0.3")
    assert (done.code, done.only["outcome"], done.only["success"]) == (1, "timeout", False)
    assert "--timeout" in done.only["error"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_results_are_kept_if_the_output_cannot_be_written(
    tmp_path: Path,
) -> None:
    done = benchmark(tmp_path, "--model", "smoke-tiny", *PLAIN, "--output", "/dev/full")
    assert done.code == 3
    kept = tmp_path / "run/results.json"
    assert done.stderr.startswith("Error: Cannot write /dev/full: No space left on device")
    assert done.stderr.endswith(f" The results are in {kept}.\n")
    assert "Traceback" not in done.stderr
    assert f"Report written to {tmp_path / 'run/report.html'}\n" in done.stdout
    check_figures(done.only)
    resumed = benchmark(tmp_path, "--resume")
    assert resumed.code == 3  # it writes to the same output
    assert "closed" in (tmp_path / "run/journal.jsonl").read_text()


def test_a_model_folder_whose_name_is_not_utf8(tmp_path: Path) -> None:
    name = b"model-\xff".decode(errors="surrogateescape")
    try:
        make_model(tmp_path / name)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    done = benchmark(tmp_path, "--model", name, *PLAIN)
    assert done.code == 0, done.stdout + done.stderr
    assert done.only["preset"] == "model-?"


def test_a_run_is_saved_in_the_state_folder_by_default(history: Finished) -> None:
    (results,) = history.folder.rglob("results.json")
    assert f"Results written to {results}" in history.stdout
    assert results.parent.parent.name == "runs"
    assert results.is_relative_to(history.folder / "state")
    for entry in json.loads(results.read_bytes())["results"]:
        check_figures(entry)


def test_output_to_a_pipe_is_one_document(tmp_path: Path) -> None:
    arguments = ["--model", "smoke-tiny", "--model", "smoke-small", *PLAIN]
    done = benchmark(tmp_path, *arguments, "--quiet", "--output", "/dev/stdout")
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout) == done.document


def test_a_report_that_cannot_be_written_is_no_failure(smoke: Finished, tmp_path: Path) -> None:
    run = shutil.copytree(smoke.folder / "run", tmp_path / "run")
    report = run / "report.html"
    report.unlink()
    report.mkdir()
    again = benchmark(tmp_path, "--resume", "--output", "out.json")
    assert again.code == 0
    assert f"No report: Cannot write {report}: Is a directory" in again.stdout


def test_results_of_a_finished_run_are_newer_than_its_journal(smoke: Finished) -> None:
    run = smoke.folder / "run"
    times = [(run / name).stat().st_mtime_ns for name in ("journal.jsonl", "results.json")]
    assert times[0] <= times[1]


def test_a_large_model_on_a_cpu_gets_a_warning(tmp_path: Path) -> None:
    done = benchmark(tmp_path, "--model", "llama-8b", "--max-memory", "0.01")
    assert (done.code, done.only["outcome"]) == (1, "over-budget")
    is_cpu = done.document["device"]["backend"] == "cpu"
    assert ("on a CPU can take hours" in done.stdout) is is_cpu
