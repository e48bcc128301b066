"""Hostile models can neither run code nor control the terminal, and tokens are not leaked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.command import PLAIN, Finished, add_weights, make_model, your_ai_command
from tests.support.shared_runs import TOKEN

ESCAPE = "\x1b]0;owned\x07\x1b[2Jevil"
LEAVE_TRACE = "import pathlib; pathlib.Path({!r}).touch()\n"


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def run(folder: Path, model: str | Path, *arguments: str, **env: str) -> Finished:
    home = folder / "home"
    return your_ai_command(
        folder, "benchmark", "--model", model, *PLAIN, *arguments, env=env, home=home
    )


@pytest.mark.parametrize("weights", ["synthetic", "real"])
@pytest.mark.parametrize(
    "config",
    [
        {"model_file": "model.py"},
        {"auto_map": {"AutoModelForCausalLM": "model.Model"}, "trust_remote_code": True},
        {"model_type": "model", "auto_map": {"AutoModelForCausalLM": "model.Model"}},
    ],
)
def test_code_in_a_models_folder_is_never_run(
    config: dict[str, object], weights: str, tmp_path: Path
) -> None:
    """The model is trained with mlx-lm's own class if there is one, and rejected otherwise."""
    folder = make_model(tmp_path / "hostile", **config)
    add_weights(folder)
    trace = tmp_path / "trace"
    for name in ("model", "modeling_model", "configuration_model", "tokenization_model", "mlx"):
        (folder / f"{name}.py").write_text(LEAVE_TRACE.format(str(trace)))
    (folder / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'touch %b'\ntR." % bytes(trace))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"A": "model.A"}}))
    done = run(tmp_path, folder, "--weights", weights, "--run-dir", "run")
    is_supported = "trust_remote_code" in config
    assert done.code == (0 if is_supported else 2), done.stdout + done.stderr
    assert is_supported or re.match(
        r"Error: (Cannot|mlx-lm cannot) train \S*hostile: ", done.stderr
    )
    assert not trace.exists()


@pytest.mark.parametrize("changed", [{}, {"hidden_size": -1}])
def test_escape_sequences_in_a_models_name_are_not_printed(
    changed: dict[str, int], tmp_path: Path
) -> None:
    make_model(tmp_path / ESCAPE, **changed)
    done = run(tmp_path, ESCAPE)
    assert done.code == (2 if changed else 0), done.stdout + done.stderr
    assert r"\x1b]0;owned\x07\x1b[2Jevil" in done.stdout + done.stderr
    for command in ("runs", "recommend"):
        done = your_ai_command(
            tmp_path, command, *(["--model", ESCAPE] if command == "recommend" else []),
            home=tmp_path / "home",
        )  # fmt: skip
        assert "\x1b" not in done.stdout + done.stderr
    for log in files_in(tmp_path / "home"):
        assert "\x1b" not in log.name


def test_a_models_name_cannot_leave_the_run_directory(tmp_path: Path) -> None:
    inner = tmp_path / "x" / "y" / "z"
    (inner / "a").mkdir(parents=True)
    names = ["../../escaped", "a/../../escaped", ".."]
    for name in names:
        make_model((inner / name).resolve())
    before = set(files_in(tmp_path))
    models = [word for name in names for word in ("--model", name)]
    done = your_ai_command(
        inner, "benchmark", *models, *PLAIN, "--run-dir", "run", home=inner / "home"
    )
    assert done.code == 0, done.stdout + done.stderr
    new = set(files_in(tmp_path)) - before
    logs = inner / "run/logs"
    assert len([path for path in new if path.parent == logs]) == len(names)
    own = (inner / "run", inner / "home/cache/your_ai")
    assert [path for path in new if not any(map(path.is_relative_to, own))] == []


def test_tokens_are_neither_written_nor_printed(smoke: Finished) -> None:
    assert TOKEN not in smoke.stdout + smoke.stderr
    written = files_in(smoke.folder)
    assert {path.name for path in written} >= {"journal.jsonl", "results.json", "out.json"}
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]
