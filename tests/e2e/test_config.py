"""``--config FILE``: a file for mlx_lm.lora is measured, resumed and trained."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.checks import check_refused
from tests.support.command import (
    TIMEOUT,
    Finished,
    benchmark,
    environment,
    make_model,
    your_ai_command,
)
from tests.support.shared_runs import SharedRuns
from tests.support.workspace import Workspace
from your_ai.planning.lora_config import read_config

MEASURED = """
model: model
train: true
optimizer: adamw
optimizer_config: {adamw: {weight_decay: 5e-2}}
num_layers: 2
batch_size: 3
max_seq_length: 48
grad_accumulation_steps: 2
learning_rate: 1e-5
lora_parameters: {keys: [self_attn.v_proj, self_attn.q_proj], rank: 4, scale: 2.0, dropout: 0.1}
"""
QUICK = ["--steps", "2", "--max-memory", "1"]


def measure(folder: Path) -> Finished:
    make_model(folder / "model")
    (folder / "lora.yaml").write_text(MEASURED)
    return benchmark(folder, "--config", "lora.yaml", *QUICK)


@pytest.fixture(scope="module")
def measured(shared: SharedRuns) -> Finished:
    return shared.get("config", measure)


def test_the_training_in_the_file_is_measured(measured: Finished) -> None:
    assert measured.code == 0, measured.stderr
    expected = {
        "batch_size": 3,
        "lora_rank": 4,
        "lora_layers": 2,
        "seq_length": 48,
        "grad_checkpoint": False,
        "fine_tune_type": "lora",
        "lora_keys": ["self_attn.q_proj", "self_attn.v_proj"],
        "lora_dropout": 0.1,
        "optimizer": "adamw",
        "optimizer_config": ["weight_decay=0.05"],
        "grad_accumulation_steps": 2,
        "quantization_bits": None,
    }
    config = measured.only["config"]
    assert {name: config[name] for name in expected} == expected
    assert measured.only["preset"] == "model"
    assert "no effect on memory or speed, so not measured: learning_rate." in measured.stdout
    peak = measured.only["peak_memory_bytes"] / 2**20
    assert f"    mlx_lm.lora, without a memory limit: peak {peak:.1f} MB" in measured.stdout
    assert "    your_ai train: runs in " in measured.stdout
    assert "\nUnlike " not in measured.stdout


def test_the_content_of_the_file_must_be_the_same_to_resume(measured: Finished) -> None:
    folder = measured.folder

    def resumed(*more: str) -> Finished:
        return your_ai_command(folder, "benchmark", "--resume", "--run-dir", "run", *more)

    (folder / "copy.yaml").write_text(f"# a comment\n{MEASURED}\nseed: 0\n")
    (folder / "changed.yaml").write_text(MEASURED.replace("rank: 4", "rank: 8") + "iters: 5")
    assert resumed().code == 0
    same = resumed("--config", "copy.yaml")
    assert same.code == 0, same.stderr
    assert "is already complete" in same.stdout
    done = resumed("--config", "changed.yaml")
    assert (done.code, done.stdout) == (2, "")
    assert "Error: Cannot resume " in done.stderr
    assert ": iters 5 (was 1000), lora_parameters.rank 8 (was 4)." in done.stderr


@pytest.mark.parametrize(
    ("command", "options"),
    [("optimize", ["--batch-sizes", "1", "--ranks", "4", "--layers", "1"]), ("recommend", [])],
)
def test_other_commands_take_the_file(
    command: str, options: list[str], measured: Finished, tmp_path: Path
) -> None:
    steps = ["--steps", "1", "--run-dir", str(tmp_path / command)] if options else []
    arguments = [command, "--config", "lora.yaml", *options, *steps, "--batch-size", "3"]
    if command == "optimize":
        arguments = arguments[:-2]
    done = your_ai_command(measured.folder, *arguments, "--output", str(tmp_path / "out.json"))
    assert done.code == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "out.json").read_bytes())
    assert "self_attn.q_proj, self_attn.v_proj" in done.stdout
    assert document["max_memory_gb"] > 0


def test_options_override_the_file(measured: Finished, tmp_path: Path) -> None:
    options = ["--config", "lora.yaml", "--batch-size", "1", "--quantize", "8", *QUICK]
    done = your_ai_command(
        measured.folder, "benchmark", *options, "--run-dir", str(tmp_path / "other")
    )
    assert done.code == 0, done.stderr
    config = json.loads((tmp_path / "other/results.json").read_bytes())["results"][0]["config"]
    assert (config["batch_size"], config["quantization_bits"], config["seq_length"]) == (1, 8, 48)
    assert "Unlike lora.yaml: batch size 1 (3), 8-bit weights (the model's own)" in done.stdout


BAD = [
    ("- a list", "lora.yaml is not a configuration of mlx_lm.lora: it must be a mapping"),
    ("model: [", "lora.yaml, line 1: not valid YAML"),
    ("batch_size: 4\nbatchsize: 4", 'lora.yaml, line 2: unknown key "batchsize". Did you mean'),
    ("iters: 1e3", "lora.yaml, line 1: iters must be a whole number from 1 to 2147483648, not"),
    ("lora_parameters: {alpha: 16}", "line 1: mlx_lm.lora has no alpha in lora_parameters."),
    ("optimizer: lion", "line 1: optimizer must be one of adam, adamw"),
    ("data: nonesuch", "data 'nonesuch' is neither an existing folder nor a data set on the Hub"),
    ("num_layers: 5", "Cannot train 5 layers of smoke-tiny, which has only 4"),
    ("", "must be a mapping"),
]


@pytest.mark.parametrize(("text", "complaint"), BAD, ids=lambda value: str(value)[:30])
def test_a_bad_file_is_a_usage_error(text: str, complaint: str, tmp_path: Path) -> None:
    folder = tmp_path / "cwd"
    folder.mkdir()
    (folder / "lora.yaml").write_text(text)
    done = benchmark(folder, "--config", "lora.yaml", "--model", "smoke-tiny", "--quiet")
    check_refused(done, complaint, ["lora.yaml"])


@pytest.mark.parametrize("command", ["benchmark", "optimize", "recommend", "train"])
def test_a_missing_file_is_a_usage_error(command: str, tmp_path: Path) -> None:
    folder = tmp_path / "cwd"
    folder.mkdir()
    done = your_ai_command(folder, command, "--config", "none.yaml")
    check_refused(done, "Cannot read none.yaml: No such file or directory.", [])


@pytest.mark.parametrize("command", ["benchmark", "recommend"])
def test_the_file_is_not_overwritten(command: str, tmp_path: Path) -> None:
    (tmp_path / "lora.yaml").write_text("model: smoke-tiny")
    done = your_ai_command(tmp_path, command, "--config", "lora.yaml", "--output", "./lora.yaml")
    assert done.code == 2
    assert "lora.yaml is also the input file; choose a different output file." in done.stderr
    assert (tmp_path / "lora.yaml").read_text() == "model: smoke-tiny"


TRAINED = """
model: model
data: even
train: true
optimizer: sgd
optimizer_config: {sgd: {momentum: 0.9}}
num_layers: 2
batch_size: 4
iters: 12
steps_per_report: 4
steps_per_eval: 6
save_every: 12
val_batches: 1
max_seq_length: 32
seed: 7
lr_schedule: {name: cosine_decay, warmup: 3, arguments: [1e-2, 12]}
lora_parameters: {keys: [self_attn.q_proj, mlp.up_proj], rank: 8, scale: 10.0, dropout: 0.0}
"""


def mlx_lm_lora(workspace: Workspace, config: str) -> list[float]:
    """Return the training losses that mlx_lm.lora prints."""
    done = subprocess.run(
        [sys.executable, "-m", "mlx_lm", "lora", "--config", config],
        cwd=workspace.folder,
        env=environment(workspace.folder / "home"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    return [float(loss) for loss in re.findall(r"^ +\d+ +([\d.]+)(?: [▲▼]|  )", printed, re.M)]


def test_train_does_what_mlx_lm_does_with_the_same_file(workspace: Workspace) -> None:
    folder, home = workspace.folder, workspace.folder / "home"
    (folder / "ours.yaml").write_text(f"{TRAINED}adapter_path: configured\n")
    (folder / "theirs.yaml").write_text(f"{TRAINED}adapter_path: theirs\n")
    train = ["train", "--config", "ours.yaml", "--from", "results.json"]

    exported = your_ai_command(folder, *train, "--export", "exported.yaml", home=home)
    assert exported.code == 0, exported.stderr
    wanted, found = (read_config(folder / name) for name in ("ours.yaml", "exported.yaml"))
    assert found.configuration() == wanted.configuration()
    assert (found.schedule(), found.lora_scale) == (wanted.schedule(), wanted.lora_scale)

    done = your_ai_command(folder, *train, "--run-dir", "configured-run", home=home)
    assert done.code == 0, done.stdout + done.stderr
    assert "Note: unlike what was measured: LoRA on mlp.up_proj, self_attn.q_proj (" in done.stderr
    record: dict[str, Any] = workspace.record("configured-run")
    theirs = mlx_lm_lora(workspace, "theirs.yaml")
    assert len(theirs) == 3
    for (_, loss), other in zip(record["losses"], theirs, strict=True):
        assert loss == pytest.approx(other, abs=2e-3)
    adapters = json.loads((folder / "configured/adapter_config.json").read_bytes())
    assert adapters["lora_parameters"]["scale"] == 10.0


def test_train_resumes_only_with_the_same_file(workspace: Workspace, trained: Finished) -> None:
    (workspace.folder / "other.yaml").write_text(TRAINED)
    resume = ["train", "--resume", "--run-dir", "trained", "--config", "other.yaml"]
    done = your_ai_command(workspace.folder, *resume, home=workspace.folder / "home")
    assert done.code == 2
    assert "--config other.yaml (was not given)" in done.stderr


def test_the_data_of_the_file_is_measured(workspace: Workspace) -> None:
    folder, home = workspace.folder, workspace.folder / "home"
    (folder / "data.yaml").write_text(TRAINED.replace("data: even", "data: data"))
    measure = ["benchmark", "--config", "data.yaml", "--steps", "2", "--max-memory", "1"]
    done = your_ai_command(folder, *measure, "--run-dir", "of-data", home=home)
    assert done.code == 0, done.stdout + done.stderr
    (entry,) = json.loads((folder / "of-data/results.json").read_bytes())["results"]
    training = entry["expected_training"]
    assert (training["iters"], training["validations"]) == (12, 3)
    assert "Lengths of 100 samples: " in done.stdout
    assert re.search(r"\n    mlx_lm\.lora, .*; about .* for 12 iterations\n", done.stdout)
    assert "\nUnlike " not in done.stdout


def test_the_options_override_data_and_iterations(workspace: Workspace) -> None:
    folder, home = workspace.folder, workspace.folder / "home"
    (folder / "hub.yaml").write_text(TRAINED.replace("data: even", "data: org/data"))
    more = ["--data", "even", "--iters", "7", "--steps", "1", "--max-memory", "1"]
    measure = ["benchmark", "--config", "hub.yaml", *more, "--run-dir", "of-hub"]
    done = your_ai_command(folder, *measure, home=home)
    assert done.code == 0, done.stdout + done.stderr
    (entry,) = json.loads((folder / "of-hub/results.json").read_bytes())["results"]
    assert entry["expected_training"]["iters"] == 7
    assert "data on the Hub is not read" not in done.stdout
