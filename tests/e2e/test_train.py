"""``your_ai train`` on a small model with real weights, compared with mlx_lm.lora."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from functools import partial

import pytest

from tests.support.command import TIMEOUT, Finished, at_a_terminal, environment, your_ai_command
from tests.support.disks import small_disk
from tests.support.workspace import ITERS, Workspace, wait_for, worker_of
from your_ai.cli.train import command


def your_ai(workspace: Workspace, *arguments: str) -> Finished:
    return your_ai_command(workspace.folder, *arguments, home=workspace.folder / "home")


def mlx_lm(workspace: Workspace, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mlx_lm", *arguments],
        cwd=workspace.folder,
        env=environment(workspace.folder / "home"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)


def test_expected_and_measured_figures_are_shown_and_recorded(
    workspace: Workspace, trained: Finished
) -> None:
    record = workspace.record("trained")
    assert (record["outcome"], record["iterations"], record["samples"]) == ("pass", ITERS, 160)
    said, took = record["expected"], record["measured"]
    assert said["is_measured"]
    assert took["peak_bytes"] <= 1.02 * said["peak_bytes"]
    for shown in ("Expected (from measurements): peak ", "✓ Done\n", "Measured: peak "):
        assert shown in trained.stdout
    assert f"[{ITERS}/{ITERS}] loss " in trained.stdout
    assert [iteration for iteration, _ in record["validation"]] == [1, 8, 16, 24, 32, 40]


def test_losses_equal_those_of_mlx_lm_lora(workspace: Workspace, trained: Finished) -> None:
    exported = your_ai(workspace, *workspace.train("exported", "--export", "lora.yaml"))
    assert exported.code == 0, exported.stderr
    assert not (workspace.folder / "exported").exists()
    printed = mlx_lm(workspace, "lora", "--config", "lora.yaml")
    losses = re.findall(r"^ +\d+ +([\d.]+)(?: [▲▼]|  )", printed, re.M)
    ours = workspace.record("trained")["losses"]
    assert len(losses) == len(ours) == ITERS
    for (_, loss), theirs in zip(ours, losses, strict=True):
        assert loss == pytest.approx(float(theirs), abs=1e-3)


def test_mlx_lm_can_use_the_adapters(workspace: Workspace, trained: Finished) -> None:
    adapters = ["--model", "model", "--adapter-path", "trained-adapters"]
    output = mlx_lm(workspace, "generate", *adapters, "--prompt", "w7", "--max-tokens", "1")
    assert "Generation: 1 tokens" in output
    mlx_lm(workspace, "fuse", *adapters, "--save-path", "fused")
    assert (workspace.folder / "fused/model.safetensors").is_file()


def test_ctrl_c_and_resume_give_the_same_adapters(workspace: Workspace, trained: Finished) -> None:
    with subprocess.Popen(
        at_a_terminal(*workspace.train("stopped")),
        cwd=workspace.folder,
        env=environment(workspace.folder / "home"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        wait_for(lambda: workspace.iteration("stopped") >= 12, process)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130, output
    assert "finishing the iteration to save a checkpoint, which can take up to 1 min" in output
    assert "– Interrupted" in output
    assert "Continue with: your_ai train --resume --run-dir /" in output
    other = your_ai(workspace, "train", "--resume", "--run-dir", "stopped", "--iters", "7")
    assert (
        other.code,
        "with different settings or versions: --iters 7 (was 40)" in other.stderr,
    ) == (
        2,
        True,
    )
    done = your_ai(workspace, "train", "--resume", "--run-dir", "stopped")
    assert done.code == 0, done.stdout + done.stderr
    (iteration,) = re.findall(
        r"Resuming from iteration (\d+) \(training started \S+Z\)\.", done.stdout
    )
    assert int(iteration) >= 12  # Ctrl-C saves a checkpoint
    ours, theirs = workspace.record("stopped"), workspace.record("trained")
    assert ours["losses"] == theirs["losses"]
    file = "adapters.safetensors"
    stopped, uninterrupted = (
        workspace.folder / f"{name}-adapters" / file for name in ("stopped", "trained")
    )
    assert stopped.read_bytes() == uninterrupted.read_bytes()


def test_a_finished_training_is_not_trained_again(workspace: Workspace, trained: Finished) -> None:
    adapters = workspace.folder / "trained-adapters"
    assert not any(adapters.glob("checkpoint-*"))
    before = (adapters / "adapters.safetensors").stat()
    done = your_ai(workspace, "train", "--resume", "--run-dir", "trained")
    assert (done.code, "✓ Done" in done.stdout) == (0, True)
    assert "Already finished (started 20" in done.stdout
    assert "] loss " not in done.stdout
    assert (adapters / "adapters.safetensors").stat() == before


def test_a_killed_worker_is_restarted_with_less_memory_and_then_unchanged(
    workspace: Workspace,
) -> None:
    """A batch of one cannot be split, so only the memory limit can be lowered, and only once."""
    process = workspace.start(workspace.train("deaths", "--batch-size", "1"))
    for _ in range(2):
        # Wait for a new checkpoint. Without progress the training would not be restarted unchanged.
        count = workspace.reports("deaths") + 6
        wait_for(partial(workspace.has_reported, "deaths", count), process)
        worker = worker_of(process)
        worker.kill()
        worker.wait(TIMEOUT)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    record = workspace.record("deaths")
    first, second = record["failures"]
    assert (first["outcome"], second["outcome"]) == ("crash", "crash")
    assert first["limit_bytes"] > second["limit_bytes"] == record["setting"]["limit_bytes"]
    assert [iteration for iteration, _ in record["losses"]] == list(range(1, ITERS + 1))
    assert output.count("✗ Crash (the worker was killed by SIGKILL, cause unknown)") == 2
    assert re.search(r"restarting from iteration \d+ with a memory limit of ", output)


def test_resume_rejects_a_running_training_and_changed_data(workspace: Workspace) -> None:
    data = shutil.copytree(workspace.folder / "data", workspace.folder / "changing")
    arguments = workspace.train("changed", "--data", "changing")
    process = workspace.start(arguments)
    wait_for(lambda: workspace.iteration("changed") >= 6, process)
    worker = worker_of(process)
    worker.suspend()
    resume = ["train", "--resume", "--run-dir", "changed"]
    other = [*arguments, "--seed", "1", "--adapter-path", "elsewhere"]
    for second in (resume, other):
        done = your_ai(workspace, *second)
        assert done.code == 2
        assert f"is still running (process {process.pid}). Wait for it" in done.stderr
    process.kill()
    worker.resume()  # so that it notices that its parent is gone
    process.communicate()
    with (data / "train.jsonl").open("a") as file:
        file.write('{"text": "w2 w3"}\n')
    done = your_ai(workspace, "train", "--resume", "--run-dir", "changed")
    assert done.code == 2
    assert "has changed since this training started" in done.stderr
    shutil.copytree(workspace.folder / "data", data, dirs_exist_ok=True)
    shutil.rmtree(workspace.folder / "changed-adapters")
    done = your_ai(workspace, "train", "--resume", "--run-dir", "changed")
    assert done.code == 0, done.stdout + done.stderr
    assert "the last checkpoint is missing or corrupt; resuming from the start" in done.stdout
    assert len(workspace.record("changed")["losses"]) == ITERS
    assert (workspace.folder / "changed-adapters/adapter_config.json").is_file()


@pytest.mark.root
def test_a_training_stopped_by_a_full_disk_can_be_resumed(workspace: Workspace) -> None:
    with small_disk(workspace.folder / "small", "size=1m") as disk:
        options = ["--adapter-path", str(disk / "adapters"), "--iters", "30"]
        done = your_ai(workspace, *workspace.train("full", *options))
        assert done.code == 1
        assert "✗ Error (cannot write a checkpoint to " in done.stdout
        assert "Continue with: your_ai train --resume --run-dir /" in done.stdout
        for copy in (disk / "adapters").glob("0*_adapters.safetensors"):
            copy.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        done = your_ai(workspace, "train", "--resume", "--run-dir", "full")
        assert (done.code, "✓ Done" in done.stdout) == (0, True)
        losses = [iteration for iteration, _ in workspace.record("full")["losses"]]
        assert losses == list(range(1, 31))


@pytest.mark.root
def test_a_training_whose_log_is_on_a_full_disk_finishes(workspace: Workspace) -> None:
    """mlx-lm prints a line for each iteration."""
    with small_disk(workspace.folder / "full-disk", "size=16k") as disk:
        (disk / "filler").write_bytes(bytes(16 * 2**10))
        (workspace.folder / "logless").mkdir()
        (workspace.folder / "logless/logs").symlink_to(disk)
        done = your_ai(workspace, *workspace.train("logless", "--iters", "3"))
        assert (done.code, "✓ Done" in done.stdout) == (0, True), done.stdout + done.stderr
        assert (disk / "attempt-1.log").stat().st_size == 0


def test_a_training_with_closed_output_finishes_and_is_listed(workspace: Workspace) -> None:
    arguments = ["train", "--from", "results.json", "--data", "data", "--iters", "1"]
    process = workspace.start([*arguments, "--adapter-path", "listed"])
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(TIMEOUT) == 0
    listed = your_ai(workspace, "runs").stdout
    assert f"{shlex.join(arguments)} --adapter-path listed: complete\n" in listed
    again = your_ai(workspace, "train", "--resume")
    assert (again.code, "✓ Done" in again.stdout) == (0, True)


def test_report_rejects_a_training(workspace: Workspace, trained: Finished) -> None:
    done = your_ai(workspace, "report", "trained")
    assert done.code == 2
    assert "trained contains a training, which has no benchmark results" in done.stderr


def test_export_rejects_a_folder_with_other_adapters(
    workspace: Workspace, trained: Finished
) -> None:
    options = ["--export", "over.yaml", "--adapter-path", "trained-adapters"]
    done = your_ai(workspace, *workspace.train("over", *options))
    assert (done.code, (workspace.folder / "over.yaml").exists()) == (2, False)
    assert "trained-adapters already contains adapters from another training" in done.stderr


def test_a_nan_loss_stops_the_training(workspace: Workspace) -> None:
    import mlx.core as mx

    broken = shutil.copytree(workspace.folder / "model", workspace.folder / "broken")
    file = str(broken / "model.safetensors")
    weights = mx.load(file)
    assert isinstance(weights, dict)
    weights["lm_head.weight"] *= float("nan")
    mx.save_safetensors(file, weights, {"format": "mlx"})
    document = json.loads((workspace.folder / "results.json").read_bytes())
    document["results"][0]["model_name"] = str(broken)
    (workspace.folder / "nan.json").write_text(json.dumps(document))
    done = your_ai(workspace, *workspace.train("diverged", "--from", "nan.json"))
    assert done.code == 1, done.stderr
    assert "the loss is not finite in iteration 1; try a smaller --learning-rate" in done.stdout
    assert workspace.record("diverged")["failures"] == []  # not restarted with less memory


def test_a_configuration_that_was_not_measured_is_estimated(workspace: Workspace) -> None:
    options = ["--batch-size", "2", "--iters", "2", "--max-seq-length", "16"]
    done = your_ai(workspace, *workspace.train("other", *options))
    assert done.code == 0, done.stdout + done.stderr
    assert "Expected (estimated from measurements): peak " in done.stdout
    assert "batch=2, rank=8" in done.stdout
    assert done.stdout.count("Note: sequences longer than 16 tokens are truncated") == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["train"], "--data is required: a folder with train.jsonl."),
        (
            ["train", "--from", "results.json", "--data", "data", "--export", "results.json"],
            "results.json is also the input file; choose a different output file.",
        ),
        (["report", "results.json", "--html", "results.json"], "is also the input file"),
        (["train", "--from", "gone.json", "--data", "data"], "Cannot read gone.json: No such"),
        (
            ["train", "--from", "results.json", "--data", "gone"],
            "gone is not a folder with a train.jsonl",
        ),
        (
            ["train", "--from", "results.json", "--data", "data", "--model", "nobody"],
            "The results do not contain nobody. Available: model (/",
        ),
        (
            ["train", "--from", "results.json", "--data", "data", "--num-layers", "99"],
            "Cannot train 99 layers of model, which has only 4",
        ),
        (["train", "--resume", "--run-dir", "measured"], "was started by `your_ai benchmark`"),
        (["train", "--resume", "--run-dir", "gone"], "No run found in gone."),
    ],
)
def test_invalid_arguments_are_usage_errors(
    arguments: list[str], error: str, workspace: Workspace
) -> None:
    done = your_ai(workspace, *arguments)
    assert (done.code, done.stdout) == (2, "")
    assert error in done.stderr
    assert "Traceback" not in done.stderr


def test_results_of_another_device_can_only_be_exported(workspace: Workspace) -> None:
    document = json.loads((workspace.folder / "results.json").read_bytes())
    document["device"]["name"] = "Apple M3 Max"
    (workspace.folder / "elsewhere.json").write_text(json.dumps(document))
    arguments = workspace.train("elsewhere", "--from", "elsewhere.json")
    done = your_ai(workspace, *arguments)
    assert (done.code, done.stdout) == (2, "")
    assert "The results were measured on Apple M3 Max (cpu), but this machine has " in done.stderr
    assert your_ai(workspace, *arguments, "--export", "elsewhere.yaml").code == 0


def test_a_training_that_cannot_start_leaves_nothing(workspace: Workspace) -> None:
    folder = workspace.folder
    options = ["--adapter-path", "results.json", "--run-dir", "never/run"]
    done = your_ai(workspace, *workspace.train("never", *options))
    assert (done.code, done.stdout) == (2, "")
    assert "Cannot write adapters to " in done.stderr
    assert not (folder / "never").exists()

    shutil.copytree(folder / "model", folder / "weightless")
    (folder / "weightless/model.safetensors").unlink()
    document = json.loads((folder / "results.json").read_bytes())
    document["results"][0]["model_name"] = str(folder / "weightless")
    (folder / "weightless.json").write_text(json.dumps(document))
    (folder / "mine").mkdir()
    options = ["--adapter-path", "mine", "--from", "weightless.json"]
    done = your_ai(workspace, *workspace.train("never", *options))
    assert (done.code, done.stdout) == (2, ""), done.stderr
    assert not (folder / "never").exists()
    assert [*(folder / "mine").iterdir()] == []  # the user's folder is still there


def test_benchmark_cannot_resume_a_training(workspace: Workspace, trained: Finished) -> None:
    done = your_ai(workspace, "benchmark", "--resume", "--run-dir", "trained")
    assert done.code == 2
    assert "Continue it with `your_ai train --resume --run-dir trained`" in done.stderr


def test_results_without_a_passed_model_are_rejected(workspace: Workspace) -> None:
    document = json.loads((workspace.folder / "results.json").read_bytes()) | {"recommended": None}
    (workspace.folder / "none.json").write_text(json.dumps(document))
    done = your_ai(workspace, "train", "--from", "none.json", "--data", "data")
    assert done.code == 2
    assert "Error: No model passed in these results, so there is nothing to train. " in done.stderr


def test_existing_adapters_are_not_overwritten(workspace: Workspace, trained: Finished) -> None:
    done = your_ai(workspace, *workspace.train("twice", "--adapter-path", "trained-adapters"))
    assert done.code == 2
    assert "trained-adapters already contains adapters from another training" in done.stderr


def test_models_with_synthetic_weights_are_rejected(workspace: Workspace, smoke: Finished) -> None:
    results = str(smoke.folder / "out.json")
    done = your_ai(workspace, "train", "--from", results, "--data", "data")
    assert done.code == 2
    assert "smoke-tiny has only synthetic weights" in done.stderr


def test_options_have_the_names_used_by_mlx_lm_lora() -> None:
    from mlx_lm.lora import build_parser

    theirs = {option for action in build_parser()._actions for option in action.option_strings}
    ours = {name for parameter in command.params for name in parameter.opts}
    own = {"--from", "--lora-rank", "--lora-keys", "--export", "--restarts"}
    own |= {"--run-dir", "--resume", "--quiet"}
    assert ours - theirs == own
