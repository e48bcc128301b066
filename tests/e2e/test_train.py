"""``your_ai train`` on a small model of real weights: what mlx_lm.lora would have trained."""

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
from tests.support.course import ITERS, Course, wait_for, worker_of
from tests.support.disks import small_disk
from your_ai.cli.train import command


def your_ai(course: Course, *arguments: str) -> Finished:
    return your_ai_command(course.folder, *arguments, home=course.folder / "home")


def mlx_lm(course: Course, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mlx_lm", *arguments],
        cwd=course.folder,
        env=environment(course.folder / "home"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)


def test_it_says_what_it_expects_and_what_it_took(course: Course, trained: Finished) -> None:
    record = course.record("trained")
    assert (record["outcome"], record["iterations"], record["samples"]) == ("pass", ITERS, 160)
    said, took = record["expected"], record["measured"]
    assert said["is_measured"]
    assert took["peak_bytes"] <= 1.02 * said["peak_bytes"]
    for shown in ("Expected (measured): a peak of ", "✓ Done\n", "Took: a peak of "):
        assert shown in trained.stdout
    assert f"[{ITERS}/{ITERS}] loss " in trained.stdout
    assert [iteration for iteration, _ in record["validation"]] == [1, 8, 16, 24, 32, 40]


def test_the_losses_are_those_of_mlx_lm_lora(course: Course, trained: Finished) -> None:
    exported = your_ai(course, *course.train("exported", "--export", "lora.yaml"))
    assert exported.code == 0, exported.stderr
    assert not (course.folder / "exported").exists()
    printed = mlx_lm(course, "lora", "--config", "lora.yaml")
    losses = re.findall(r"^ +\d+ +([\d.]+)(?: [▲▼]|  )", printed, re.M)
    ours = course.record("trained")["losses"]
    assert len(losses) == len(ours) == ITERS
    for (_, loss), theirs in zip(ours, losses, strict=True):
        assert loss == pytest.approx(float(theirs), abs=1e-3)


def test_mlx_lm_takes_the_adapters(course: Course, trained: Finished) -> None:
    adapters = ["--model", "model", "--adapter-path", "trained-adapters"]
    said = mlx_lm(course, "generate", *adapters, "--prompt", "w7", "--max-tokens", "1")
    assert "Generation: 1 tokens" in said
    mlx_lm(course, "fuse", *adapters, "--save-path", "fused")
    assert (course.folder / "fused/model.safetensors").is_file()


def test_ctrl_c_and_resume_end_in_the_same_adapters(course: Course, trained: Finished) -> None:
    with subprocess.Popen(
        at_a_terminal(*course.train("stopped")),
        cwd=course.folder,
        env=environment(course.folder / "home"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        wait_for(lambda: course.iteration("stopped") >= 12, process)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130, output
    assert "– Interrupted" in output
    assert "Continue with: your_ai train --resume --run-dir /" in output
    other = your_ai(course, "train", "--resume", "--run-dir", "stopped", "--iters", "7")
    assert (other.code, "with different settings: --iters 7 (was 40)" in other.stderr) == (
        2,
        True,
    )
    done = your_ai(course, "train", "--resume", "--run-dir", "stopped")
    assert done.code == 0, done.stdout + done.stderr
    (behind,) = re.findall(
        r"Resuming the training started \S+Z from iteration (\d+)\.", done.stdout
    )
    assert int(behind) >= 12  # asked to end, it saved what it had
    ours, theirs = course.record("stopped"), course.record("trained")
    assert ours["losses"] == theirs["losses"]
    file = "adapters.safetensors"
    stopped, whole = (course.folder / f"{name}-adapters" / file for name in ("stopped", "trained"))
    assert stopped.read_bytes() == whole.read_bytes()


def test_a_finished_training_is_not_trained_again(course: Course, trained: Finished) -> None:
    adapters = course.folder / "trained-adapters"
    assert not any(adapters.glob("checkpoint-*"))
    before = (adapters / "adapters.safetensors").stat()
    done = your_ai(course, "train", "--resume", "--run-dir", "trained")
    assert (done.code, "✓ Done" in done.stdout) == (0, True)
    assert "Already finished (started 20" in done.stdout
    assert "] loss " not in done.stdout
    assert (adapters / "adapters.safetensors").stat() == before


def test_a_worker_that_is_killed_goes_on_with_less_then_with_the_same(course: Course) -> None:
    """Of batches of one only the limit is left to be lowered, once."""
    process = course.start(course.train("deaths", "--batch-size", "1"))
    for _ in range(2):
        # Far enough for a checkpoint of its own, or it would not be restarted as it was.
        enough = course.reports("deaths") + 6
        wait_for(partial(course.has_reported, "deaths", enough), process)
        worker = worker_of(process)
        worker.kill()
        worker.wait(TIMEOUT)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    record = course.record("deaths")
    first, second = record["failures"]
    assert (first["outcome"], second["outcome"]) == ("crash", "crash")
    assert first["limit_bytes"] > second["limit_bytes"] == record["setting"]["limit_bytes"]
    assert [iteration for iteration, _ in record["losses"]] == list(range(1, ITERS + 1))
    assert output.count("✗ Crash (the worker was killed by SIGKILL, cause unknown)") == 2
    assert re.search(r"restarting from iteration \d+ with a memory limit of ", output)


def test_one_under_way_is_left_alone_and_changed_data_is_not_gone_on_with(course: Course) -> None:
    data = shutil.copytree(course.folder / "data", course.folder / "changing")
    asked = course.train("changed", "--data", "changing")
    process = course.start(asked)
    wait_for(lambda: course.iteration("changed") >= 6, process)
    worker = worker_of(process)
    worker.suspend()
    for words in (["train", "--resume", "--run-dir", "changed"], [*asked, "--seed", "1"]):
        more = ["--adapter-path", "elsewhere"] if "--seed" in words else []
        done = your_ai(course, *words, *more)
        assert done.code == 2
        assert f"is still running (process {process.pid}). Wait for it" in done.stderr
    process.kill()
    worker.resume()  # and so it ends itself
    process.communicate()
    with (data / "train.jsonl").open("a") as file:
        file.write('{"text": "w2 w3"}\n')
    done = your_ai(course, "train", "--resume", "--run-dir", "changed")
    assert done.code == 2
    assert "has changed since this training started" in done.stderr
    shutil.copytree(course.folder / "data", data, dirs_exist_ok=True)
    shutil.rmtree(course.folder / "changed-adapters")
    done = your_ai(course, "train", "--resume", "--run-dir", "changed")
    assert done.code == 0, done.stdout + done.stderr
    assert "the last checkpoint is missing or corrupt; resuming from the start" in done.stdout
    assert len(course.record("changed")["losses"]) == ITERS
    assert (course.folder / "changed-adapters/adapter_config.json").is_file()


@pytest.mark.root
def test_a_full_disk_ends_it_and_it_goes_on_when_there_is_room(course: Course) -> None:
    with small_disk(course.folder / "small", "size=1m") as disk:
        asked = ["--adapter-path", str(disk / "adapters"), "--iters", "30"]
        done = your_ai(course, *course.train("full", *asked))
        assert done.code == 1
        assert "✗ Error (a checkpoint cannot be written to " in done.stdout
        assert "Continue with: your_ai train --resume --run-dir /" in done.stdout
        for copy in (disk / "adapters").glob("0*_adapters.safetensors"):
            copy.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        done = your_ai(course, "train", "--resume", "--run-dir", "full")
        assert (done.code, "✓ Done" in done.stdout) == (0, True)
        losses = [iteration for iteration, _ in course.record("full")["losses"]]
        assert losses == list(range(1, 31))


def test_what_nobody_reads_any_more_is_trained_all_the_same_and_listed(course: Course) -> None:
    asked = ["train", "--from", "results.json", "--data", "data", "--iters", "1"]
    process = course.start([*asked, "--adapter-path", "listed"])
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(TIMEOUT) == 0
    listed = your_ai(course, "runs").stdout
    assert f"{shlex.join(asked)} --adapter-path listed: complete\n" in listed
    again = your_ai(course, "train", "--resume")
    assert (again.code, "✓ Done" in again.stdout) == (0, True)


def test_a_training_is_no_results_and_says_so(course: Course, trained: Finished) -> None:
    done = your_ai(course, "report", "trained")
    assert done.code == 2
    assert "trained is a training, which has no benchmark results" in done.stderr


def test_an_export_does_not_lead_to_others_adapters(course: Course, trained: Finished) -> None:
    asked = ["--export", "over.yaml", "--adapter-path", "trained-adapters"]
    done = your_ai(course, *course.train("over", *asked))
    assert (done.code, (course.folder / "over.yaml").exists()) == (2, False)
    assert "trained-adapters already contains adapters from another training" in done.stderr


def test_a_loss_that_is_none_ends_it_with_what_to_do(course: Course) -> None:
    import mlx.core as mx

    broken = shutil.copytree(course.folder / "model", course.folder / "broken")
    file = str(broken / "model.safetensors")
    weights = mx.load(file)
    assert isinstance(weights, dict)
    weights["lm_head.weight"] *= float("nan")
    mx.save_safetensors(file, weights, {"format": "mlx"})
    document = json.loads((course.folder / "results.json").read_bytes())
    document["results"][0]["model_name"] = str(broken)
    (course.folder / "nan.json").write_text(json.dumps(document))
    done = your_ai(course, *course.train("diverged", "--from", "nan.json"))
    assert done.code == 1, done.stderr
    assert "the loss is not finite in iteration 1: try a smaller --learning-rate" in done.stdout
    assert course.record("diverged")["failures"] == []  # less memory would not help


def test_what_was_not_measured_is_estimated(course: Course) -> None:
    asked = ["--batch-size", "2", "--iters", "2", "--max-seq-length", "16"]
    done = your_ai(course, *course.train("other", *asked))
    assert done.code == 0, done.stdout + done.stderr
    assert "Expected (estimated from what was measured): a peak of " in done.stdout
    assert "batch=2, rank=8" in done.stdout
    assert done.stdout.count("Note: sequences longer than 16 tokens are truncated") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
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
            "gone has no train.jsonl",
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
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], complaint: str, course: Course
) -> None:
    done = your_ai(course, *arguments)
    assert (done.code, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_what_another_device_measured_holds_only_there(course: Course) -> None:
    document = json.loads((course.folder / "results.json").read_bytes())
    document["device"]["name"] = "Apple M3 Max"
    (course.folder / "elsewhere.json").write_text(json.dumps(document))
    there = course.train("elsewhere", "--from", "elsewhere.json")
    done = your_ai(course, *there)
    assert (done.code, done.stdout) == (2, "")
    assert "The results were measured on Apple M3 Max (cpu), but this machine has " in done.stderr
    assert your_ai(course, *there, "--export", "elsewhere.yaml").code == 0


def test_what_never_began_is_none_to_go_on_with(course: Course, trained: Finished) -> None:
    there = ["--adapter-path", "results.json", "--run-dir", "never"]
    done = your_ai(course, *course.train("never", *there))
    assert (done.code, done.stdout) == (2, "")
    assert "Cannot write adapters to " in done.stderr
    assert not (course.folder / "never/journal.jsonl").exists()


def test_a_benchmark_does_not_go_on_with_a_training(course: Course, trained: Finished) -> None:
    done = your_ai(course, "benchmark", "--resume", "--run-dir", "trained")
    assert done.code == 2
    assert "Continue it with `your_ai train --resume --run-dir trained`" in done.stderr


def test_where_nothing_passed_there_is_nothing_to_train(course: Course) -> None:
    document = json.loads((course.folder / "results.json").read_bytes()) | {"recommended": None}
    (course.folder / "none.json").write_text(json.dumps(document))
    done = your_ai(course, "train", "--from", "none.json", "--data", "data")
    assert done.code == 2
    assert done.stderr == "Error: No model passed in these results, so there is nothing to train.\n"


def test_adapters_that_are_there_are_not_written_over(course: Course, trained: Finished) -> None:
    done = your_ai(course, *course.train("twice", "--adapter-path", "trained-adapters"))
    assert done.code == 2
    assert "trained-adapters already contains adapters from another training" in done.stderr


def test_synthesized_models_are_not_worth_training(course: Course, smoke: Finished) -> None:
    results = str(smoke.folder / "out.json")
    done = your_ai(course, "train", "--from", results, "--data", "data")
    assert done.code == 2
    assert "smoke-tiny has only synthetic weights" in done.stderr


def test_the_options_are_those_of_mlx_lm_lora() -> None:
    from mlx_lm.lora import build_parser

    theirs = {option for action in build_parser()._actions for option in action.option_strings}
    ours = {name for parameter in command.params for name in parameter.opts}
    own = {"--from", "--lora-rank", "--export", "--restarts", "--run-dir", "--resume", "--quiet"}
    assert ours - theirs == own
