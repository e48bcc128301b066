"""``your_ai train`` on a small model of real weights: what mlx_lm.lora would have trained."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest

from tests.chaos.training import ASKED, ITERS, Course, prepare, wait_for
from tests.e2e.command import TIMEOUT, Finished, at_a_terminal, environment, your_ai_command


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    return prepare(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def trained(course: Course) -> Finished:
    """A training from its beginning to its end."""
    done = your_ai(course, *course.train("trained"))
    assert done.code == 0, done.stdout + done.stderr
    return done


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
    assert [iteration for iteration, _ in record["validation"]] == [1, 10, 20, 30, 40]


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
    said = mlx_lm(course, "generate", *adapters, "--prompt", "w2 w3", "--max-tokens", "3")
    assert "Generation: 3 tokens" in said
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
    assert "Go on with: your_ai train --resume --run-dir /" in output
    other = your_ai(course, "train", "--resume", "--run-dir", "stopped", "--iters", "7")
    assert (other.code, "begun otherwise, without --iters 7" in other.stderr) == (2, True)
    done = your_ai(course, "train", "--resume", "--run-dir", "stopped")
    assert done.code == 0, done.stdout + done.stderr
    assert "Resuming behind iteration 1" in done.stdout
    ours, theirs = course.record("stopped"), course.record("trained")
    assert ours["losses"] == theirs["losses"]
    file = "adapters.safetensors"
    stopped, whole = (course.folder / f"{name}-adapters" / file for name in ("stopped", "trained"))
    assert stopped.read_bytes() == whole.read_bytes()


def test_runs_lists_a_training(course: Course) -> None:
    asked = ["train", "--from", "results.json", "--data", "data", "--iters", "1"]
    done = your_ai(course, *asked, "--adapter-path", "listed")
    assert done.code == 0, done.stdout + done.stderr
    listed = your_ai(course, "runs").stdout
    assert f"{shlex.join(asked)} --adapter-path listed: complete\n" in listed
    again = your_ai(course, "train", "--resume")
    assert (again.code, "✓ Done" in again.stdout) == (0, True)


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
    done = your_ai(course, *course.train("other", "--batch-size", "2", "--iters", "2"))
    assert done.code == 0, done.stdout + done.stderr
    assert "Expected (estimated from what was measured): a peak of " in done.stdout
    assert "batch=2, rank=8" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["train"], "Name the results to train from (--from) and the data (--data)."),
        (["train", "--from", "gone.json", "--data", "data"], "Cannot read gone.json: No such"),
        (["train", "--from", "results.json", "--data", "gone"], "gone has no train.jsonl"),
        (
            ["train", "--from", "results.json", "--data", "data", "--model", "nobody"],
            "nobody is not among the results; there is model.",
        ),
        (
            ["train", "--from", "results.json", "--data", "data", "--num-layers", "99"],
            "--lora-layers 99 is more than the 4 layers",
        ),
        (["train", "--resume", "--run-dir", "measured"], "is none of `your_ai train`"),
        (["train", "--resume", "--run-dir", "gone"], "gone holds no run to resume"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], complaint: str, course: Course
) -> None:
    done = your_ai(course, *arguments)
    assert (done.code, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_where_nothing_passed_there_is_nothing_to_train(course: Course) -> None:
    document = json.loads((course.folder / "results.json").read_bytes()) | {"recommended": None}
    (course.folder / "none.json").write_text(json.dumps(document))
    done = your_ai(course, "train", "--from", "none.json", "--data", "data")
    assert done.code == 2
    assert done.stderr == "Error: No model passed there, so that there is none to train.\n"


def test_adapters_that_are_there_are_not_written_over(course: Course, trained: Finished) -> None:
    done = your_ai(course, *course.train("twice", "--adapter-path", "trained-adapters"))
    assert done.code == 2
    assert "trained-adapters holds adapters already; name another" in done.stderr


def test_synthesized_models_are_not_worth_training(course: Course) -> None:
    (course.folder / "smoke").mkdir()
    asked = ["--model", "smoke-tiny", "--seq-length", "16", "--steps", "1", "--output", "s.json"]
    assert your_ai(course, "benchmark", *asked).code == 0
    done = your_ai(course, "train", "--from", "s.json", "--data", "data")
    assert done.code == 2
    assert "smoke-tiny exists only as synthesized weights" in done.stderr


def test_the_options_are_those_of_mlx_lm_lora() -> None:
    from mlx_lm.lora import build_parser

    theirs = {option for action in build_parser()._actions for option in action.option_strings}
    ours = {word for word in ASKED if word.startswith("--")}
    assert ours <= theirs
