"""``--data``: the sequence length and the time of a training come from the user's data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.chat import make_chat_model, words, write_rows
from tests.support.command import Finished, benchmark, your_ai_command

OPTIONS = ["--quantize", "none", "--lora-rank", "4", "--steps", "2", "--batch-size", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model`` and ``data``."""
    folder = tmp_path_factory.mktemp("lengths")
    make_chat_model(folder / "model")
    (folder / "data").mkdir()
    lengths = [5, 9, 20, 30, 40, 69, 7, 7]
    write_rows(folder / "data/train.jsonl", [{"text": words(n)} for n in lengths])
    write_rows(folder / "data/valid.jsonl", [{"text": words(n)} for n in (5, 40)])
    return folder


@pytest.fixture(scope="module")
def measured(folder: Path) -> Finished:
    return benchmark(folder, "--model", "model", "--data", "data", "--iters", "50", *OPTIONS)


def test_the_longest_batch_of_the_data_is_measured(measured: Finished) -> None:
    assert measured.code == 0, measured.stdout + measured.stderr
    assert measured.only["config"]["seq_length"] == 97  # 69 words and the end, padded by mlx-lm
    assert measured.only["data_lengths"]["longest"] == 70
    assert "Lengths of 8 samples: median 10, 95 % 70, longest 70 tokens\n" in measured.stdout


def test_shorter_batches_and_validation_are_timed(measured: Finished) -> None:
    timed = measured.only["timed"]
    lengths = {(t["seq_length"], t["is_validation"]) for t in timed}
    assert lengths == {(33, False), (65, True)}


def test_the_time_of_the_training_is_predicted(measured: Finished) -> None:
    expected = measured.only["expected_training"]
    assert (expected["iters"], expected["batches_per_epoch"]) == (50, 4)
    assert expected["validations"] == 2  # before the first and the last iteration
    assert 0 < expected["validation_seconds"] < expected["seconds"]
    assert expected["peak_memory_bytes"] >= measured.only["peak_memory_bytes"]
    assert "50 iterations: about " in measured.stdout


def test_the_sequence_length_cuts_the_data(folder: Path, tmp_path: Path) -> None:
    model, data = folder / "model", folder / "data"
    done = benchmark(tmp_path, "--model", model, "--data", data, "--seq-length", "24", *OPTIONS)
    assert done.code == 0, done.stdout + done.stderr
    assert done.only["config"]["seq_length"] == 24
    assert "; 3 are cut at 24\n" in done.stdout


def test_without_a_tokenizer_the_maximum_is_measured(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "data", tmp_path / "data")
    done = benchmark(tmp_path, "--suite", "smoke", "--data", "data", "--max-memory", "0.0001")
    assert done.code == 1, done.stderr
    assert "every sequence has the maximum of" in done.stdout
    assert done.document["results"][0]["data_lengths"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "nowhere is not a folder with a train.jsonl"),
        (["--data", "broken"], "broken/train.jsonl, line 1: not valid JSON"),
        (["--data", "chat"], "has no chat template"),
        (["--iters", "5"], "--iters requires --data or --config."),
    ],
)
def test_unusable_data_is_refused_before_any_worker_trains(
    options: list[str], message: str, folder: Path
) -> None:
    for name, line in (("broken", "{"), ("chat", '{"prompt": "w2", "completion": "w3"}\n' * 2)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "train.jsonl").write_text(line)
    arguments = ["model", "--quantize", "none", *options, "--run-dir", "refused"]
    done = your_ai_command(folder, "optimize", *arguments)
    assert done.code == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert not (folder / "refused").exists()


def test_a_search_for_the_length_says_what_share_of_the_samples_is_cut(
    folder: Path, tmp_path: Path
) -> None:
    lengths = ["--objective", "length", "--seq-lengths", "16,32", "--max-memory", "1"]
    model: list[str | Path] = ["--data", folder / "data", folder / "model"]
    done = your_ai_command(tmp_path, "optimize", *model, *lengths, *OPTIONS, "--run-dir", "run")
    assert done.code == 0, done.stdout + done.stderr
    assert "Lengths of 8 samples: median 10, 95 % 70, longest 70 tokens; 2 are cut" in done.stdout
    assert "At 32 tokens, 25.0% of the samples are cut (2 of 8).\n" in done.stdout
    assert done.only["data_lengths"]["cut"] == 2
    assert done.only["config"]["seq_length"] == 32  # not the padded length of a batch


def test_a_map_marks_the_longest_and_the_usual_sample(folder: Path, tmp_path: Path) -> None:
    sizes = ["--seq-lengths", "16,128", "--batch-sizes", "1", "--max-memory", "1"]
    model: list[str | Path] = ["--data", folder / "data", folder / "model", "--grad-checkpoint"]
    training = ["--quantize", "none", "--lora-rank", "4", "--steps", "1"]
    done = your_ai_command(tmp_path, "ceiling", *model, *sizes, *training, "--run-dir", "run")
    assert done.code == 0, done.stdout + done.stderr
    assert "Longest sample, 70 tokens: up to batch 1 with checkpointing.\n" in done.stdout
    assert "95 % of the samples, up to 70 tokens: up to batch 1 with" in done.stdout
