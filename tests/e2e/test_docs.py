"""What the documents tell a reader to type works, and where they point there is something."""

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
from tests.support.course import Course
from your_ai.cli import cli

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

SUBSTITUTES = {
    "llama-8b": "smoke-tiny",
    "r1-distill-14b": "smoke-tiny",
    "hermes-70b": "smoke-small",
}
"""Models that train within seconds, for those that take hours on a CPU."""

TRAINING = ["--seq-length", "16", "--steps", "1"]
GRID = ["--batch-sizes", "1,2", "--ranks", "4", "--layers", "1"]
LESS = {"benchmark": TRAINING, "optimize": [*TRAINING, *GRID]}
"""What is added, so that they train little."""

MEANT = {
    "optimize": ["smoke-tiny"],
    "compare": ["base.json", "new.json"],
    "report": ["results.json"],
    "train": ["--from", "results.json", "--data", "data"],
}
"""On what a command works that is named without it."""

MAKE_MODEL = ".venv/bin/python scripts/make_model.py"
NOT_HERE = {
    f"{MAKE_MODEL} small": "what the commands below begin with, and so the fixture does",
    "pip install": "needs a network; tests/e2e/test_install.py installs a wheel",
    "mlx_lm.": "mlx-lm's own, on a model that is not here",
    "python -c 'import mlx.core": "mlx-lm's own, on a model that is not here",
    "python -P -m worker": "how the parent starts a worker; nobody types it",
    "pre-commit install": "writes into the repository",
    "eval": "a line for a shell's configuration; tested below",
    ".ci/run": "this is run by it",
}
STARTS = re.compile(r"(scripts/|\.ci/|\.venv/bin/|your_ai |pip |python |mlx_lm|pre-commit |eval )")


def commands_in(text: str) -> Iterator[str]:
    """The commands in indented blocks and in inline code, without what explains them."""
    for block, inline in re.findall(r"^ {4,}(.*)$|`([^`\n]+)`", text, re.M):
        command = re.sub(r" +#.*", "", (block or inline).strip().removeprefix("$ "))
        if STARTS.match(command):
            yield command


COMMANDS = sorted({c for path in DOCUMENTS for c in commands_in(path.read_text(encoding="utf-8"))})


def as_your_ai(command: str) -> list[str] | None:
    """Its arguments, if it is one of ``your_ai``; what stands for anything is left out."""
    command = re.sub(r"^scripts/benchmark\b", "your_ai benchmark", command)
    command = command.removeprefix(".venv/bin/")
    if not command.startswith("your_ai "):
        return None
    return [SUBSTITUTES.get(word, word) for word in shlex.split(command)[1:] if word != "…"]


def but_output(words: list[str]) -> tuple[str, ...]:
    """The command without where its results go: what differs in that alone is run once."""
    at = words.index("--output") if "--output" in words else len(words)
    return (*words[:at], *words[at + 2 :])


TYPED = [words for command in COMMANDS if (words := as_your_ai(command)) is not None]
OURS = sorted({but_output(words): tuple(words) for words in TYPED}.values())


@pytest.fixture(scope="module")
def folder(smoke: Finished, history: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader has been before: a run, a search, and their results."""
    path = tmp_path_factory.mktemp("docs")
    (path / "ci").mkdir()
    make_model = [sys.executable, str(ROOT / MAKE_MODEL.split()[1]), "small"]
    subprocess.run(make_model, cwd=path, check=True, stdout=subprocess.DEVNULL)
    shutil.copytree(history.folder / "state", path.parent / f"{path.name}-home" / "state")
    done = your_ai_command(path, "optimize", "smoke-tiny", *LESS["optimize"])
    assert done.code == 0, done.stderr
    for name in ("results.json", "base.json", "new.json"):
        shutil.copy(smoke.folder / "out.json", path / name)
    return path


@pytest.fixture(scope="module")
def reader(course: Course, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader has measured a model of real weights, and trained it once."""
    path = tmp_path_factory.mktemp("docs-train")
    shutil.copytree(course.folder / "data", path / "data")
    shutil.copy(course.folder / "results.json", path)
    asked = ["train", *MEANT["train"], "--iters", "1", "--adapter-path", "before"]
    done = your_ai_command(path, *asked)
    assert done.code == 0, done.stderr
    return path


@pytest.mark.parametrize("words", [each for each in OURS if each[0] == "train"], ids=shlex.join)
def test_a_training_does_what_is_said(words: tuple[str, ...], reader: Path) -> None:
    more = [] if "--resume" in words else ["--adapter-path", f"adapters-{OURS.index(words)}"]
    if "--from" not in words and "--resume" not in words:
        more += MEANT["train"]
    if "--resume" not in words:
        more += ["--iters", "2"]  # the last one counts
    done = your_ai_command(reader, *words, *more)
    assert done.code == 0, done.stdout + done.stderr


@pytest.mark.parametrize("words", [each for each in OURS if each[0] != "train"], ids=shlex.join)
def test_a_command_of_ours_does_what_is_said(words: tuple[str, ...], folder: Path) -> None:
    more = [] if "--resume" in words else LESS.get(words[0], [])
    if all(word.startswith("-") for word in words[1:]) and "--resume" not in words:
        more = [*MEANT.get(words[0], []), *more]
    if "--optimize" in words:
        more = [*more, *GRID, "--model", "smoke-tiny"]
    elif words[0] == "benchmark" and not {"--model", "--resume"} & {*words}:
        more = [*more, "--max-memory", "0.002"]  # for the suite's smallest, not for its others
    done = your_ai_command(folder, *words, *more)
    assert done.code == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if as_your_ai(c) is None])
def test_any_other_is_there_or_is_known_to_be_elsewhere(command: str, folder: Path) -> None:
    if any(command.startswith(known) for known in NOT_HERE):
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


def test_no_excuse_outlives_its_command() -> None:
    assert [known for known in NOT_HERE if not any(c.startswith(known) for c in COMMANDS)] == []


def options() -> set[str]:
    """Every option of every command, and of the scripts."""
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


FOREIGN = {"--hf-path", "--mlx-path", "--config"}
"""Options of mlx-lm's."""


@pytest.mark.parametrize("name", NAMES)
def test_every_option_named_is_one(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert named - options() - FOREIGN == set()


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to the headings."""
    heads = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file) if file else path
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str, tmp_path: Path) -> None:
    done = your_ai_command(tmp_path, env={"_YOUR_AI_COMPLETE": f"{shell}_source"})
    assert done.code == 0
    assert "_YOUR_AI_COMPLETE" in done.stdout
    typed = {"COMP_WORDS": "your_ai optimize smo", "COMP_CWORD": "2"}
    done = your_ai_command(tmp_path, env={"_YOUR_AI_COMPLETE": "bash_complete", **typed})
    assert "plain,smoke-tiny" in done.stdout
