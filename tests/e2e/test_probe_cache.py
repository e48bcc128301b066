"""A second command on the same machine asks MLX nothing that it knows already."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.command import PLAIN, ROOT, Finished, make_model, your_ai_command

RECOMMEND = ["recommend", "--seq-length", "64", "--fine-tune-type", "dora"]
"""DoRA cannot train every model, so mlx-lm is asked."""

SITECUSTOMIZE = """
import sys
if "worker" in sys.orig_argv:
    with open({file!r}, "a") as file:
        file.write("started\\n")
    {code}
"""


@dataclass(frozen=True)
class User:
    """A user with a model and a home folder; counts the workers that commands start."""

    folder: Path

    def run(self, *arguments: str, code: str = "pass") -> tuple[int, Finished]:
        """Run a command whose workers first run ``code``; return how many there were."""
        site, started = self.folder / "site", self.folder / "started"
        site.mkdir(exist_ok=True)
        text = SITECUSTOMIZE.format(file=str(started), code=code)
        (site / "sitecustomize.py").write_text(text)
        started.write_text("")
        env = {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
        done = your_ai_command(self.folder, *arguments, env=env)
        return len(started.read_text().splitlines()), done

    def benchmark(self, *arguments: str, code: str = "pass") -> tuple[int, Finished]:
        """Run the benchmark of the model."""
        return self.run("benchmark", "--model", "model", *PLAIN, *arguments, code=code)

    @property
    def kept(self) -> list[Path]:
        """The files of the cache, wherever the cache folder of this system is."""
        home = self.folder.with_name(f"{self.folder.name}-home")
        return [*home.rglob("your_ai/probes/*.json")]


def device_of(run: Path) -> object:
    return json.loads((run / "results.json").read_bytes())["device"]


@pytest.fixture
def user(tmp_path: Path) -> User:
    make_model(tmp_path / "model")
    return User(tmp_path)


def test_a_second_benchmark_starts_no_probe_until_something_changes(user: User) -> None:
    assert user.benchmark("--run-dir", "first")[0] == 2  # the probe and the trial
    assert len(user.kept) == 2
    workers, done = user.benchmark("--run-dir", "second")
    assert (workers, done.code) == (1, 0), done.stderr
    assert device_of(user.folder / "first") == device_of(user.folder / "second")
    make_model(user.folder / "model", intermediate_size=160)
    assert user.benchmark()[0] == 2
    for file in user.kept:
        file.write_bytes(b"\xff")
    workers, done = user.benchmark()
    assert (workers, done.code) == (2, 0), done.stderr


def test_an_mlx_that_has_broken_is_asked_by_the_next_run_but_one(user: User) -> None:
    broken = "sys.modules['mlx.core'] = None"
    assert user.benchmark()[1].code == 0
    workers, done = user.benchmark(code=broken)
    assert (workers, done.code) == (1, 1), done.stderr
    _, done = user.benchmark(code=broken)
    assert done.code == 3
    assert "MLX does not work" in done.stderr


def test_doctor_asks_mlx_and_recommend_only_once(user: User) -> None:
    recommend = [*RECOMMEND, "--model", "model"]
    assert user.run(*recommend)[0] == 1
    assert user.run(*recommend)[0] == 0
    assert user.run("doctor")[0] == 2  # the probe and the trial


def test_a_model_that_crashes_the_probe_does_not_hide_the_others(user: User) -> None:
    make_model(user.folder / "crashing", hidden_size=96)
    code = (
        "import os; from worker import probe; facts = probe.facts; "
        "probe.facts = lambda it: os.abort() if it.config['hidden_size'] == 96 else facts(it)"
    )
    models = ["--model", "crashing", "--model", "model"]
    workers, done = user.run(*RECOMMEND, *models, code=code)
    assert (workers, done.code) == (3, 0), done.stderr
    assert "SIGABRT" in done.stdout
