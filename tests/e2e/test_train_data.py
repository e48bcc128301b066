"""``your_ai train`` with unusual data, and resumed after something else has changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.chat import OPEN, Template, add_template, pair, words, write_rows
from tests.support.command import Finished, your_ai_command
from tests.support.workspace import Workspace, wait_for
from your_ai.runs import journal
from your_ai.runs.journal import JOURNAL

QUICK = ["--iters", "2", "--batch-size", "1", "--max-seq-length", "16"]
FITS, EMPTY, TOO_LONG = pair(4, 3), pair(4, 0), pair(20, 3)


def your_ai(workspace: Workspace, *arguments: str) -> Finished:
    return your_ai_command(workspace.folder, *arguments, home=workspace.folder / "home")


@pytest.fixture
def chatty(workspace: Workspace) -> str:
    """The results file for a copy of the model with a chat template."""
    return copied(workspace, "chatty", OPEN)


def copied(workspace: Workspace, name: str, template: Template | None = None) -> str:
    """Copy the model, and return the name of the results file for the copy."""
    model = workspace.folder / name
    if not model.exists():
        shutil.copytree(workspace.folder / "model", model)
        if template is not None:
            add_template(model, template)
    document = json.loads((workspace.folder / "results.json").read_bytes())
    document["results"][0]["model_name"] = str(model)
    (workspace.folder / f"{name}.json").write_text(json.dumps(document))
    return f"{name}.json"


def make_data(
    workspace: Workspace, name: str, *rows: dict[str, Any], file: str = "train.jsonl"
) -> str:
    (workspace.folder / name).mkdir(exist_ok=True)
    write_rows(workspace.folder / name / file, rows)
    return name


@pytest.mark.parametrize("file", ["train.jsonl", "valid.jsonl"])
def test_data_without_completions_is_refused_before_the_weights_are_loaded(
    file: str, workspace: Workspace, chatty: str
) -> None:
    data, name = f"hopeless-{file}", f"run-of-{file}"
    make_data(workspace, data, FITS)
    make_data(workspace, data, EMPTY, TOO_LONG, file=file)
    options = [*QUICK, "--from", chatty, "--data", data, "--mask-prompt"]
    done = your_ai(workspace, *workspace.train(name, *options))
    assert done.code == 1, done.stderr
    assert f"but none of the 2 in {workspace.folder / data / file} have a completion within 16" in (
        done.stdout
    )
    assert "✓ Done" not in done.stdout
    assert "loss" not in done.stdout
    record = workspace.record(name)
    assert (record["outcome"], record["load"], record["failures"]) == ("error", None, [])
    assert not (workspace.folder / f"{name}-adapters/adapters.safetensors").exists()


def test_dropped_sequences_are_counted(workspace: Workspace, chatty: str) -> None:
    make_data(workspace, "some", EMPTY, FITS, TOO_LONG, EMPTY)
    options = [*QUICK, "--from", chatty, "--data", "some", "--mask-prompt"]
    done = your_ai(workspace, *workspace.train("some-run", *options))
    assert done.code == 0, done.stdout + done.stderr
    note = "Note: dropped 3 of 4 sequences in train.jsonl: they have no completion within 16 tokens"
    assert note in done.stdout


def test_a_training_that_changes_no_adapter_has_failed(workspace: Workspace) -> None:
    options = [*QUICK, "--learning-rate", "1e-300"]
    done = your_ai(workspace, *workspace.train("unchanged", *options))
    assert done.code == 1, done.stderr
    assert "✗ Error (no trained weight changed, so the training had no effect)" in done.stdout
    assert not (workspace.folder / "unchanged-adapters/adapters.safetensors").exists()


def test_resuming_a_training_that_would_fail_again_is_not_suggested(workspace: Workspace) -> None:
    options = [*QUICK, "--learning-rate", "1e-300", "--save-every", "1"]
    done = your_ai(workspace, *workspace.train("hopeless", *options))
    assert done.code == 1, done.stderr
    assert any((workspace.folder / "hopeless-adapters").glob("checkpoint-*"))
    assert "Continue with" not in done.stdout


def test_a_training_without_an_optimizer_step_is_refused(workspace: Workspace) -> None:
    options = ["--iters", "3", "--grad-accumulation-steps", "4"]
    done = your_ai(workspace, *workspace.train("too-short", *options))
    assert (done.code, done.stdout) == (2, "")
    assert "--iters 3 is less than --grad-accumulation-steps 4, so nothing would be" in done.stderr


def test_prompts_need_a_chat_template(workspace: Workspace) -> None:
    make_data(workspace, "prompts", FITS, FITS)
    done = your_ai(workspace, *workspace.train("untemplated", *QUICK, "--data", "prompts"))
    assert done.code == 1, done.stderr
    assert "has no chat template; use a chat or instruct model, add a chat_template" in done.stdout
    assert workspace.record("untemplated")["load"] is None


def test_a_byte_order_mark_is_accepted_except_for_mlx_lm_lora(workspace: Workspace) -> None:
    folder = workspace.folder / "marked"
    folder.mkdir()
    line = json.dumps({"text": words(5)})
    (folder / "train.jsonl").write_text(f"{line}\r\n{line}", encoding="utf-8-sig")
    options = workspace.train("marked-run", *QUICK, "--data", "marked")
    done = your_ai(workspace, *options)
    assert done.code == 0, done.stdout + done.stderr
    exported = your_ai(workspace, *options, "--export", "marked.yaml")
    assert (exported.code, exported.stdout) == (2, "")
    assert "marked/train.jsonl starts with a byte order mark" in exported.stderr


def test_half_a_surrogate_pair_is_refused_with_file_and_line(workspace: Workspace) -> None:
    data = make_data(workspace, "halved", {"text": "a"}, {"text": "b \ud800"})
    done = your_ai(workspace, *workspace.train("halved-run", *QUICK, "--data", data))
    assert (done.code, done.stdout) == (2, "")
    assert "halved/train.jsonl, line 2: contains half of a surrogate pair" in done.stderr


def stopped(workspace: Workspace, name: str, results: str) -> None:
    """Start a training and kill it after its first checkpoint."""
    process = workspace.start(workspace.train(name, "--from", results))
    wait_for(lambda: workspace.iteration(name) >= 6, process)
    process.kill()
    process.communicate()


def test_a_training_whose_model_was_moved_resumes_once_it_is_back(workspace: Workspace) -> None:
    stopped(workspace, "moved", copied(workspace, "movable"))
    model, away = workspace.folder / "movable", workspace.folder / "away"
    model.rename(away)
    resume = ["train", "--resume", "--run-dir", "moved"]
    done = your_ai(workspace, *resume)
    assert (done.code, done.stdout) == (2, "")
    assert f"The model's folder {model} no longer exists. Restore it" in done.stderr
    away.rename(model)
    for file in (workspace.folder / "data").iterdir():
        file.touch()  # only the content counts
    done = your_ai(workspace, *resume)
    assert done.code == 0, done.stdout + done.stderr
    assert "Resuming from iteration " in done.stdout


def set_version(file: Path, package: str, version: str) -> str:
    """Change a package's version in the journal's header. Return the version that it had."""
    first, rest = file.read_bytes().split(b"\n", 1)
    record = journal.decode(first)
    assert record is not None
    versions = record.fields["run"]["device"]["versions"]
    before, versions[package] = versions[package], version
    file.write_bytes(journal.encode(record) + rest)
    return str(before)


def test_a_training_resumes_after_a_patch_release_with_a_note(workspace: Workspace) -> None:
    stopped(workspace, "patched", "results.json")
    file = workspace.folder / "patched" / JOURNAL
    resume = ["train", "--resume", "--run-dir", "patched"]
    current = set_version(file, "mlx", "0.1.0")
    done = your_ai(workspace, *resume)
    assert (done.code, done.stdout) == (2, "")
    assert f"with different settings or versions: mlx {current} (was 0.1.0)" in done.stderr
    earlier = f"{current.rpartition('.')[0]}.999"
    set_version(file, "mlx", earlier)
    done = your_ai(workspace, *resume)
    assert done.code == 0, done.stdout + done.stderr
    assert done.stderr.startswith(f"Note: resuming with mlx {current} (was {earlier}); losses may ")


def test_a_benchmark_does_not_resume_after_a_patch_release(workspace: Workspace) -> None:
    run = shutil.copytree(workspace.folder / "measured", workspace.folder / "patched-benchmark")
    current = set_version(run / JOURNAL, "mlx", "0.32.999")
    done = your_ai(workspace, "benchmark", "--resume", "--run-dir", run.name)
    assert (done.code, done.stdout) == (2, "")
    assert f"mlx {current} (was 0.32.999)" in done.stderr
