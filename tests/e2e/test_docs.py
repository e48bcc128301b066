"""The documents: commands in them work, options exist, and links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.support.command import ROOT, TIMEOUT, Finished, environment, your_ai_command
from tests.support.workspace import Workspace
from your_ai.cli import cli

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

SUBSTITUTES = {
    "llama-8b": "smoke-tiny",
    "r1-distill-14b": "smoke-tiny",
    "hermes-70b": "smoke-small",
    "current": "smoke",
}
"""Small models to use instead of those that take hours on a CPU."""

TRAINING = ["--seq-length", "16", "--steps", "1"]
GRID = ["--batch-sizes", "1,2", "--ranks", "4", "--layers", "1"]
LENGTHS = ["--seq-lengths", "16", "--steps", "1"]
SHORTER = {
    "benchmark": TRAINING,
    "optimize": [*LENGTHS, *GRID],
    "ceiling": [*LENGTHS, "--batch-sizes", "1"],
}
"""Options to add, so that the commands take seconds."""

DEFAULT_INPUTS = {
    "optimize": ["smoke-tiny"],
    "ceiling": ["smoke-tiny"],
    "compare": ["base.json", "new.json"],
    "report": ["results.json"],
    "train": ["--from", "results.json", "--data", "data"],
}
"""Arguments to add to commands that the documents mention without arguments."""

MLX_LM = "belongs to mlx-lm and needs a model that does not exist here"
MAKE_MODEL = "python scripts/make_model.py"
NOT_RUN = {
    f"{MAKE_MODEL} small": "run by the fixture, because other commands need its output",
    "pip install": "needs a network; tests/e2e/test_install.py installs a wheel",
    "mlx_lm.": MLX_LM,
    "python -c 'import mlx.core": MLX_LM,
    "python -P -m worker": "the command by which the parent starts a worker",
    "source .venv/bin/activate": "a line for an interactive shell",
    "pre-commit install": "writes to the repository",
    "eval": "a line for a shell's configuration; tested below",
    ".ci/run": "runs these tests",
}
"""Beginnings of commands that are not run here, with the reason."""
STARTS = re.compile(
    r"(scripts/|\.ci/|\.venv/bin/|your_ai (?!train:)|pip |python |source |mlx_lm|pre-commit |eval )"
)


def commands_in(text: str) -> Iterator[str]:
    """Yield the commands in indented blocks and inline code, without trailing comments."""
    for block, inline in re.findall(r"^ {4,}(.*)$|`([^`\n]+)`", text, re.M):
        command = re.sub(r" +#.*", "", (block or inline).strip().removeprefix("$ "))
        if STARTS.match(command):
            yield command


COMMANDS = sorted({c for path in DOCUMENTS for c in commands_in(path.read_text(encoding="utf-8"))})


def as_your_ai(command: str) -> list[str] | None:
    """Return the arguments of a ``your_ai`` command without "…", or None for another command."""
    command = re.sub(r"^scripts/benchmark\b", "your_ai benchmark", command)
    command = command.removeprefix(".venv/bin/")
    if not command.startswith("your_ai "):
        return None
    return [SUBSTITUTES.get(word, word) for word in shlex.split(command)[1:] if word != "…"]


def without_output(words: list[str]) -> tuple[str, ...]:
    """Return the command without --output. Commands that differ only in that are run once."""
    at = words.index("--output") if "--output" in words else len(words)
    return (*words[:at], *words[at + 2 :])


ALL_OURS = [words for command in COMMANDS if (words := as_your_ai(command)) is not None]
OURS = sorted({without_output(words): tuple(words) for words in ALL_OURS}.values())


@pytest.fixture(scope="module")
def folder(smoke: Finished, history: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, two searches, and the results files that the documents mention."""
    path = tmp_path_factory.mktemp("docs")
    (path / "ci").mkdir()
    (path / "lora.yaml").write_text("model: smoke-tiny\nnum_layers: 2\nbatch_size: 1\n")
    make_model = [sys.executable, str(ROOT / MAKE_MODEL.split()[1]), "small"]
    subprocess.run(make_model, cwd=path, check=True, stdout=subprocess.DEVNULL)
    shutil.copytree(path / "small/data", path / "data")
    shutil.copytree(history.folder / "state", path.parent / f"{path.name}-home" / "state")
    for search in ("optimize", "ceiling"):
        done = your_ai_command(path, search, "smoke-tiny", *SHORTER[search])
        assert done.code == 0, done.stderr
    for name in ("results.json", "base.json", "new.json"):
        shutil.copy(smoke.folder / "out.json", path / name)
    return path


@pytest.fixture(scope="module")
def reader(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results and a first training of a model with real weights."""
    path = tmp_path_factory.mktemp("docs-train")
    for name in ("data", "small/data"):
        shutil.copytree(workspace.folder / "data", path / name)
    shutil.copy(workspace.folder / "results.json", path)
    (path / "lora.yaml").write_text("num_layers: 2\ndata: data\n")
    options = ["--iters", "1", "--adapter-path", "before"]
    done = your_ai_command(path, "train", *DEFAULT_INPUTS["train"], *options)
    assert done.code == 0, done.stderr
    return path


@pytest.mark.parametrize("words", [each for each in OURS if each[0] == "train"], ids=shlex.join)
def test_documented_train_commands_work(words: tuple[str, ...], reader: Path) -> None:
    more = [] if "--resume" in words else ["--adapter-path", f"adapters-{OURS.index(words)}"]
    if "--from" not in words and "--resume" not in words:
        more += DEFAULT_INPUTS["train"]
    if "--resume" not in words:
        more += ["--iters", "2"]  # overrides an earlier --iters
    done = your_ai_command(reader, *words, *more)
    assert done.code == 0, done.stdout + done.stderr


@pytest.mark.parametrize("words", [each for each in OURS if each[0] != "train"], ids=shlex.join)
def test_documented_your_ai_commands_work(words: tuple[str, ...], folder: Path) -> None:
    more = [] if "--resume" in words else SHORTER.get(words[0], [])
    if all(word.startswith("-") for word in words[1:]) and "--resume" not in words:
        more = [*DEFAULT_INPUTS.get(words[0], []), *more]
    if "--optimize" in words:
        more = [*more, *GRID, "--model", "smoke-tiny"]
    elif words[0] == "benchmark" and not {"--model", "--resume"} & {*words}:
        more = [*more, "--max-memory", "0.002"]  # fits only the smallest model of the suite
    done = your_ai_command(folder, *words, *more)
    assert done.code == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if as_your_ai(c) is None])
def test_other_documented_commands_work(command: str, folder: Path) -> None:
    if any(command.startswith(known) for known in NOT_RUN):
        return
    if command.startswith("scripts/"):
        (program,) = [*ROOT.glob(command.split(maxsplit=1)[0])][:1]
        assert program.suffix == ".py" or os.access(program, os.X_OK)
        return
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_commands_that_are_not_run_are_still_documented() -> None:
    assert [known for known in NOT_RUN if not any(c.startswith(known) for c in COMMANDS)] == []


def options() -> set[str]:
    """Return all options of all commands and scripts."""
    context = click.Context(cli)
    found = {"--help", "--version"}
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            found |= {*parameter.opts, *parameter.secondary_opts}
    for path in (ROOT / "scripts").iterdir():
        if path.is_file():
            found |= set(re.findall(r"--[a-z][a-z-]+", path.read_text(encoding="utf-8")))
    return found


MLX_LM_OPTIONS = {"--hf-path", "--mlx-path"}


@pytest.mark.parametrize("name", NAMES)
def test_documented_options_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    documented = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert documented - options() - MLX_LM_OPTIONS == set()


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub generates for the headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("name", NAMES)
def test_links_between_documents_are_valid(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file) if file else path
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str, tmp_path: Path) -> None:
    done = your_ai_command(tmp_path, env={"_YOUR_AI_COMPLETE": f"{shell}_source"})
    assert done.code == 0
    assert "_YOUR_AI_COMPLETE" in done.stdout
    typed = {"COMP_WORDS": "your_ai optimize smo", "COMP_CWORD": "2"}
    done = your_ai_command(tmp_path, env={"_YOUR_AI_COMPLETE": "bash_complete", **typed})
    assert "plain,smoke-tiny" in done.stdout
