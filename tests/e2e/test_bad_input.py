"""Bad input gives a one-line error and exit code 2, and writes no file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.checks import check_refused, listing
from tests.support.command import (
    PLAIN,
    ROOT,
    TIMEOUT,
    YOUR_AI,
    add_weights,
    benchmark,
    command,
    environment,
    make_model,
    your_ai_command,
)

TINY = ["--model", "smoke-tiny"]
FOLDER = ["--model", "{models}/tiny"]
REAL = ["--weights", "real"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with models; each except ``tiny`` has one fault. Unit tests have more of them."""
    base = tmp_path_factory.mktemp("models")
    make_model(base / "tiny")
    make_model(base / "nonesuch", model_type="nonesuch")
    make_model(base / "misfit", hidden_size=10**30)  # MLX's error message has five lines
    whole = make_model(base / "truncated")
    add_weights(whole)
    weights = whole / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    return base


MAX_MEMORY = [
    ("0", "0.0 is not in the range x>0"),
    ("abc", "'abc' is not a number of GB such as 24"),
    ("1e308", "--max-memory 1e+308 exceeds the memory of "),
]
NUMBERS = [
    *(("--batch-size", value) for value in ("0", "-1", "abc", "1.5", "1025")),
    *(("--lora-rank", value) for value in ("0", "4097")),
    *(("--lora-layers", "0"), ("--seq-length", "0"), ("--steps", "0"), ("--steps", "100001")),
]
CASES: list[tuple[list[str], str]] = [
    *(([*TINY, "--max-memory", value], complaint) for value, complaint in MAX_MEMORY),
    *(([*TINY, option, value], f"Invalid value for '{option}'") for option, value in NUMBERS),
    ([*TINY, "--lora-layers", "5"], "Cannot train 5 layers of smoke-tiny, which has only 4"),
    ([*FOLDER, "--seq-length", "257"], "257 tokens is too long for tiny. Use at most 256"),
    ([*TINY, "--quantize", "7"], "Invalid value for '--quantize'"),
    ([*TINY, "--weights", "imaginary"], "Invalid value for '--weights'"),
    ([*TINY, "--timeout", "0"], "Invalid value for '--timeout'"),
    ([*TINY, "--timeout", "nan"], "'nan' is not a number of seconds such as 600"),
    (["--suite", "nonesuch"], "Invalid value for '--suite'"),
    (["--nonesuch"], "No such option"),
    (["--seq-length", "1" + "0" * 20], "not in the range 8<=x<="),
    (["surplus"], "Pass models with --model, for example: --model surplus."),
    ([*TINY, "--suite", "smoke"], "--model and --suite cannot be used together"),
    ([*TINY, *REAL], "smoke-tiny has synthetic weights only; remove --weights real"),
    (["--model", "hermes-7b"], "Did you mean hermes-70b or hermes-mistral-7b?"),
    (["--model", "x" * 5000], "Unknown model"),
    (
        ["--model", "./missing"],
        "'./missing' is neither an existing folder nor a valid Hub model id",
    ),
    (["--model", "{models}/missing"], "missing' does not exist"),
    (["--model", "{models}/misfit"], "mlx-lm cannot train misfit: "),
    ([*FOLDER, *REAL], "tiny contains no model*.safetensors. Choose a folder with weights"),
    (["--model", "{models}/truncated", *REAL], "model.safetensors is truncated or corrupt"),
    ([*TINY, *FOLDER, "--model", "{models}/nonesuch"], "Model type nonesuch not supported"),
    ([*TINY, "--output", "missing/out.json"], "its folder does not exist. Choose another file"),
]


@pytest.mark.parametrize(
    ("arguments", "complaint"), CASES, ids=lambda value: str(value)[:60].replace("{models}", "")
)
def test_bad_input_is_a_usage_error(
    models: Path, tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    folder = tmp_path / "cwd"
    folder.mkdir()
    filled = [argument.replace("{models}", str(models)) for argument in arguments]
    check_refused(benchmark(folder, *filled), complaint, [])


RUN_DIRS = [
    ("held", "held contains the results of another run. Choose a different --run-dir"),
    ("file", "cwd/file: File exists. Choose a different --run-dir"),
    ("file/below", "cwd/file/below: Not a directory. Choose a different"),
    ("x" * 300, "File name too long. Choose a different --run-dir"),
]


@pytest.mark.parametrize(("run_dir", "complaint"), RUN_DIRS, ids=lambda value: str(value)[:30])
def test_an_unusable_run_directory_is_a_usage_error(
    tmp_path: Path, run_dir: str, complaint: str
) -> None:
    folder = tmp_path / "cwd"
    (folder / "held").mkdir(parents=True)
    (folder / "held" / "results.json").write_text("precious")
    (folder / "file").touch()
    before = listing(folder)
    done = command(folder, *TINY, *PLAIN, "--run-dir", run_dir)
    check_refused(done, complaint, before)
    assert (folder / "held" / "results.json").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_without_permission_is_a_usage_error(tmp_path: Path) -> None:
    folder = tmp_path / "cwd"
    folder.mkdir()
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    done = benchmark(folder, *TINY, "--output", locked / "out.json")
    check_refused(done, "Permission denied. Choose another file", [])


BROKEN = {
    "missing": "raise ModuleNotFoundError(\"No module named 'mlx'\", name='mlx')",
    "without-backend": "raise ImportError('libmlx.so: cannot open shared object file')",
    "aborting": "import os; os.abort()",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_mlx_is_an_error_with_the_command_to_install_it(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "cwd"
    folder.mkdir()
    (tmp_path / "first" / "mlx").mkdir(parents=True)
    (tmp_path / "first" / "mlx" / "__init__.py").write_text(BROKEN[kind])
    path = os.pathsep.join([str(tmp_path / "first"), str(ROOT)])
    done = benchmark(folder, *TINY, *PLAIN, env={"PYTHONPATH": path})
    check_refused(done, "-m pip install ", [], code=3)
    assert done.stderr.startswith("Error: MLX does not work (")
    if kind != "aborting":
        assert BROKEN[kind].partition("(")[2][1:20] in done.stderr


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("optimise", "Did you mean optimize?"), ("zzz", "Commands: benchmark, optimize, ")],
)
def test_a_misspelled_command(typed: str, hint: str, tmp_path: Path) -> None:
    done = your_ai_command(tmp_path, typed)
    assert (done.code, done.stdout) == (2, "")
    assert f"Unknown command '{typed}'. {hint}" in done.stderr


@pytest.mark.parametrize("arguments", [["models"], ["runs"], ["recommend"]])
def test_output_to_a_full_disk_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*YOUR_AI, *arguments],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            timeout=TIMEOUT,
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr == "Error: Cannot print: No space left on device.\n"


def test_a_closed_pipe_is_not_an_error(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*YOUR_AI, "models"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(TIMEOUT) == 0


def test_a_folder_with_other_files_is_not_used_as_run_directory(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/letter.txt").write_text("dear")
    done = benchmark(tmp_path, "--model", "smoke-tiny")
    assert done.code == 2
    assert "run contains other files. Choose a different --run-dir." in done.stderr
    assert [each.name for each in (tmp_path / "run").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("arguments", ["benchmark", "recommend"])
def test_an_unusable_quantization_is_a_usage_error(arguments: str, tmp_path: Path) -> None:
    make_model(tmp_path / "m", quantization={"bits": 4})
    done = your_ai_command(tmp_path, arguments, "--model", "m")
    assert (done.code, done.stdout) == (2, "")
    assert "quantization without valid bits, group_size and mode" in done.stderr


def test_nan_is_not_a_percentage(tmp_path: Path) -> None:
    done = your_ai_command(tmp_path, "compare", "a", "b", "--fail-above", "nan")
    assert done.code == 2
    assert "'nan' is not a number of percent" in done.stderr
