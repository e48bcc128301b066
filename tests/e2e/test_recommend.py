"""``your_ai recommend`` before and after a real benchmark."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.matrix.configs import all_configs
from tests.support import tiny
from tests.support.command import Finished, environment, make_model, your_ai_command

SMALL = ["--seq-length", "64", "--lora-rank", "4"]
MEASURED = ["--model", "smoke-tiny", *SMALL]
HEAVY = {"mlx", "mlx_lm", "numpy", "transformers", "huggingface_hub"}


def recommend(folder: Path, *arguments: str | Path, **env: str) -> tuple[dict[str, Any], Finished]:
    """Run ``your_ai recommend``; return the document it wrote, and what it printed."""
    options = ["recommend", "--output", "recommended.json", *arguments]
    done = your_ai_command(folder, *options, env=env, home=folder)
    assert done.stderr == ""
    return json.loads((folder / "recommended.json").read_bytes()), done


def only(document: dict[str, Any]) -> dict[str, Any]:
    (entry,) = document["results"]
    assert isinstance(entry, dict)
    return entry


@pytest.fixture
def home(history: Finished) -> Path:
    """The home of a user who has benchmarked a preset and a local model."""
    return history.folder


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The home of a user without any runs."""
    return tmp_path


def results_file(home: Path) -> Path:
    """The results of the benchmark, wherever the state folder of this system is."""
    (path,) = home.rglob("your_ai/runs/*/results.json")
    return path


def results(home: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(results_file(home).read_bytes())
    return content


def benchmarked(home: Path, name: str) -> dict[str, Any]:
    entries: list[dict[str, Any]] = results(home)["results"]
    return next(entry for entry in entries if entry["preset"] == name)


def with_history(home: Path, tmp_path: Path) -> Path:
    """A copy of that home that may be changed."""
    copy: Path = shutil.copytree(home, tmp_path / "copy")
    return copy


def test_a_measured_configuration_is_not_estimated(home: Path) -> None:
    document, done = recommend(home, *MEASURED, "--quantize", "none")
    truth = benchmarked(home, "smoke-tiny")
    entry = only(document)
    assert done.code == 0
    assert (entry["source"], entry["verdict"]) == ("measured", "fits")
    assert entry["needed_memory_bytes"] == truth["needed_memory_bytes"]
    assert entry["peak_memory_bytes"] == truth["peak_memory_bytes"]
    assert document["budget_bytes"] <= 0.8 * results(home)["device"]["memory_bytes"]
    assert document["device"] == {**results(home)["device"], "free_bytes": None}
    shown = f"{entry['needed_memory_bytes'] / 2**20:.1f} MB"
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("smoke-tiny ")]
    assert shown in line
    assert line.endswith("fits     measured")
    assert "Recommended: smoke-tiny (largest model that fits)" in done.stdout
    assert "(from the run of " in done.stdout
    assert "may be off" not in done.stdout


def test_another_configuration_gets_a_corrected_estimate(home: Path, bare: Path) -> None:
    options = [*MEASURED, "--quantize", "none", "--batch-size", "3"]
    corrected, done = recommend(home, *options)
    estimated, _ = recommend(bare, *options)
    assert only(corrected)["source"] == "corrected"
    assert only(estimated)["source"] == "estimated"
    assert only(corrected)["needed_memory_bytes"] != only(estimated)["needed_memory_bytes"]
    assert "may be off" in done.stdout


def test_only_comparable_models_correct_an_estimate(home: Path) -> None:
    document, _ = recommend(home, "--model", "smoke-small", "--model", "hermes-70b")
    assert [entry["source"] for entry in document["results"]] == ["corrected", "estimated"]


def test_a_folder_is_recognized_until_its_model_changes(home: Path, tmp_path: Path) -> None:
    copy = with_history(home, tmp_path)
    written = results_file(copy)
    written.write_text(written.read_text().replace(str(home / "mine"), str(copy / "mine")))
    options = ["--model", "mine", *SMALL, "--quantize", "none"]
    before = only(recommend(copy, *options)[0])
    assert (before["source"], before["params"]) == ("measured", benchmarked(home, "mine")["params"])
    make_model(copy / "mine", intermediate_size=160)
    assert only(recommend(copy, *options)[0])["source"] != "measured"


def test_without_earlier_runs_everything_is_estimated(bare: Path) -> None:
    document, done = recommend(bare, "--max-memory", "2", "--suite", "smoke")
    assert done.code == 0
    assert {entry["source"] for entry in document["results"]} == {"estimated"}
    assert document["recommended"] == "smoke-large"
    # The suite's own defaults, as in `benchmark`.
    trained = {(e["config"]["seq_length"], e["config"]["lora_rank"]) for e in document["results"]}
    assert trained == {(48, 8)}
    assert (document["max_memory_gb"], document["budget_bytes"]) == (2.0, 2 * 2**30)
    # Only the output file is written: no run, no cache.
    assert [path.name for path in bare.iterdir()] == ["recommended.json"]


def test_the_default_suite_is_used_even_without_a_gpu(bare: Path) -> None:
    document, _ = recommend(bare, PATH="")
    names = [entry["preset"] for entry in document["results"]]
    assert names == ["hermes-mistral-7b", "dolphin-8b", "llama-8b", "r1-distill-14b", "hermes-70b"]


def test_models_that_can_be_estimated_are_answered_beside_those_that_cannot(bare: Path) -> None:
    make_model(bare / "mamba", **{**dict.fromkeys(tiny.LLAMA), **all_configs()["mamba"]})
    make_model(bare / "short", max_position_embeddings=32)
    names = ("mamba", "smoke-tiny", "short")
    options = [*SMALL, *(word for name in names for word in ("--model", name))]
    document, done = recommend(bare, *options)
    assert (done.code, document["recommended"]) == (0, "smoke-tiny")
    errors = {entry["preset"]: entry["error"] for entry in document["results"]}
    assert errors["smoke-tiny"] is None
    assert re.fullmatch(
        r"mamba: weights [\d.]+ [kM]B, activations not estimated; "
        r"run `your_ai benchmark --model \S*mamba`\.",
        errors["mamba"],
    )
    assert errors["short"].startswith("A sequence length of 64 tokens is too long for short.")
    for name in ("mamba", "short"):
        assert errors[name] in done.stdout
        entry = next(each for each in document["results"] if each["preset"] == name)
        assert (entry["verdict"], entry["needed_memory_bytes"]) == (None, None)
    none = your_ai_command(bare, "recommend", *SMALL, "--model", "mamba", home=bare)
    assert none.code == 1
    assert errors["mamba"] in none.stdout
    none = your_ai_command(bare, "recommend", *SMALL, "--model", "short", home=bare)
    assert (none.code, none.stdout, errors["short"] in none.stderr) == (2, "", True)
    unknown = your_ai_command(bare, "recommend", *options, "--model", "nobody", home=bare)
    assert (unknown.code, "Unknown model 'nobody'" in unknown.stderr) == (2, True)


def test_the_current_suite_is_answered_although_some_models_cannot_be_estimated(bare: Path) -> None:
    document, done = recommend(bare, "--suite", "current", "--max-memory", "12")
    verdicts = {entry["preset"]: entry["verdict"] for entry in document["results"]}
    assert (done.code, document["recommended"]) == (0, "qwen3-8b")
    assert (verdicts["qwen3-8b"], verdicts["llama-3.3-70b"]) == ("fits", "does not fit")
    assert {name for name, verdict in verdicts.items() if verdict is None} == {
        "qwen3.5-9b"  # its layers loop over tokens
    }
    assert verdicts["qwen3.6-27b"] == "does not fit"
    assert "qwen3.5-9b: weights 4.7 GB, activations not estimated; run" in done.stdout
    assert "qwen3.6-27b does not fit: the weights alone take 14.1 GB." in done.stdout


def test_models_without_a_config_are_answered_beside_the_others(bare: Path) -> None:
    (make_model(bare / "broken") / "config.json").write_text("{")
    lost = ["--model", "org/uncached", "--model", "broken"]  # the Hub is offline
    document, done = recommend(bare, *SMALL, *lost, "--model", "smoke-tiny")
    assert (done.code, document["recommended"]) == (0, "smoke-tiny")
    errors = {entry["preset"]: entry["error"] for entry in document["results"]}
    assert errors["smoke-tiny"] is None
    assert errors["org/uncached"].startswith("Cannot get org/uncached from the Hub ")
    assert errors["broken"].startswith("The config.json of broken is not valid JSON")
    for names, code in ((lost, 2), ([*lost[:2], "--model", "org/other"], 3), (lost[:2], 3)):
        none = your_ai_command(bare, "recommend", *SMALL, *names, home=bare)
        assert (none.code, none.stdout) == (code, "")
        assert "Cannot get org/uncached from the Hub " in none.stderr
    for name in ("no/such/folder", "~/missing"):
        unknown = your_ai_command(bare, "recommend", *SMALL, *lost, "--model", name, home=bare)
        assert (unknown.code, f"The folder {name!r} does not exist" in unknown.stderr) == (2, True)


def test_damaged_and_foreign_results_are_ignored(home: Path, tmp_path: Path) -> None:
    copy = with_history(home, tmp_path)
    runs = results_file(copy).parent.parent
    whole = json.dumps(results(home))
    another = json.dumps({**results(home), "machine": {"system": "Plan 9"}})
    for number, content in enumerate(["", "{", whole[: len(whole) // 2], "[]", "null", another]):
        (runs / f"99999999-{number}").mkdir()
        (runs / f"99999999-{number}" / "results.json").write_text(content)
    document, done = recommend(copy, *MEASURED, "--quantize", "none")
    assert (done.code, only(document)["source"]) == (0, "measured")


@pytest.mark.skipif(sys.platform == "darwin", reason="nvidia-smi is not run on a Mac")
def test_the_memory_of_an_nvidia_gpu_is_read(bare: Path) -> None:
    program = bare / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771'\n")
    program.chmod(0o755)
    document, done = recommend(bare, PATH=f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    assert done.code == 0
    assert document["device"]["memory_bytes"] == 143771 * 2**20
    assert document["recommended"] == "hermes-70b"
    assert "Device: NVIDIA H200 (cuda), 140.40 GB (as reported by nvidia-smi)" in done.stdout
    program.write_text("#!/bin/sh\nexit 9\n")
    document, done = recommend(bare, PATH=f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    assert document["device"]["backend"] == "cpu"
    assert "(no GPU was found)" in done.stdout


def test_another_mac_is_answered_without_what_this_machine_measured(home: Path) -> None:
    options = [*MEASURED, "--quantize", "none", "--machine", "m4pro 24gb"]
    document, done = recommend(home, *options)
    entry = only(document)
    assert (done.code, entry["source"], entry["verdict"]) == (0, "estimated", "fits")
    assert (document["machine"], document["device_source"]) == (None, "as given; not this machine")
    device = document["device"]
    assert (device["backend"], device["name"]) == ("metal", "Apple M4 Pro")
    assert device["memory_bytes"] == 24 * 2**30
    # macOS 26 printed 19069.67 MB on such a Mac.
    assert document["budget_bytes"] == device["working_set_bytes"] == 19069665280
    assert "Device: Apple M4 Pro (metal), 24.00 GB (as given; not this machine)" in done.stdout
    assert "from the run of" not in done.stdout
    assert "with the same training options on that machine." in done.stdout
    assert "with the same options." not in done.stdout


def test_another_machine_is_answered_from_its_memory_and_backend(bare: Path) -> None:
    document, done = recommend(bare, "--memory", "24", "--backend", "cuda")
    assert (done.code, document["recommended"]) == (0, "r1-distill-14b")
    assert document["budget_bytes"] == int(0.8 * 24 * 2**30)
    assert document["device"]["working_set_bytes"] is None
    assert "Device: an NVIDIA GPU (cuda), 24.00 GB (as given; not this machine)" in done.stdout
    document, done = recommend(
        bare, "--suite", "smoke", "--machine", "M1, 8 GB", "--max-memory", "6"
    )
    assert (done.code, document["budget_bytes"]) == (0, 6 * 2**30)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--machine", "M4 Pro"], 2, "The M4 Pro was sold with 24, 48 or 64 GB."),
        (["--machine", "M4 Ultra"], 2, "No Mac has been sold with an M4 Ultra chip."),
        (["--memory", "24"], 2, "--memory requires --backend"),
        (["--memory", "24", "--backend", "rocm"], 2, "'rocm' is not one of"),
        (["--machine", "M1, 8 GB", "--max-memory", "9"], 2, "memory of Apple M1 (8.00 GB)"),
        (["--max-memory", "0.5"], 1, "Recommended: none (no model fits)"),
        (["--max-memory", "0"], 2, "--max-memory"),
        (["--model", "nothing-like-it"], 2, "nothing-like-it"),
        (["--model", "smoke-tiny", "--suite", "smoke"], 2, "--model and --suite"),
        (["--output", "missing/out.json"], 2, "missing/out.json"),
        (["--output", "/dev/full"], 3, "/dev/full: No space left"),
        (["--model", "unknown"], 2, "mlx-lm cannot train unknown: ModelArgs"),
    ],
)
def test_exit_codes(arguments: list[str], code: int, words: str, bare: Path) -> None:
    make_model(bare / "unknown", hidden_size=None)
    if "/dev/full" in arguments and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = your_ai_command(bare, "recommend", *arguments)
    assert (done.code, words in done.stdout + done.stderr) == (code, True), done
    assert "Traceback" not in done.stderr


def test_quiet_prints_only_the_document(bare: Path) -> None:
    done = your_ai_command(
        bare, "recommend", "--suite", "smoke", "--quiet", "--output", "/dev/stdout"
    )
    assert done.code == 0
    assert len(json.loads(done.stdout)["results"]) == 4
    assert your_ai_command(bare, "recommend", "--quiet").stdout == ""


STATEMENT = """
import json, sys
started = []
def heard(event, args):
    if event == "subprocess.Popen":
        started.append([str(word) for word in args[1]])
sys.addaudithook(heard)
sys.argv = ["your_ai", "recommend", *sys.argv[1:]]
from your_ai.cli import main
try:
    main()
finally:
    print(json.dumps([started, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


@pytest.mark.parametrize(
    ("state", "arguments"), [(".", []), (".", MEASURED), ("none", ["--model", "mine", *SMALL])]
)
def test_recommend_imports_nothing_heavy_and_starts_no_worker(
    state: str, arguments: list[str], home: Path
) -> None:
    env = {**environment(home / state), "PYTHONPATH": environment(home)["PYTHONPATH"]}
    command = [sys.executable, "-P", "-c", STATEMENT, *arguments]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=home,
            env=env,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    done = run()
    assert "Recommended: " in done.stdout, done.stderr
    if state == "none":  # a model that is no preset costs one probe, which is kept
        done = run()
    started, modules = json.loads(done.stdout.splitlines()[-1])
    assert {"your_ai", "click"} <= set(modules)
    assert set(modules) & HEAVY == set()
    assert all(command[0] == "nvidia-smi" for command in started)
