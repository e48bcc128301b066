"""A second command on the same machine asks MLX nothing that it knows already."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.matrix.configs import all_configs
from tests.support import tiny
from tests.support.command import PLAIN, ROOT, Finished, make_model, your_ai_command
from your_ai.runs.journal import JOURNAL, read
from your_ai.runs.resume import history_of
from your_ai.supervision.probe import install_line

RECOMMEND = ["recommend", "--seq-length", "64", "--fine-tune-type", "dora"]
"""DoRA cannot train every model, so mlx-lm is asked."""

RESUME = ["benchmark", "--resume", "--run-dir", "run"]
BROKEN = "sys.modules['mlx.core'] = None"

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


def test_an_mlx_that_has_broken_ends_the_run_at_once_until_it_is_repaired(user: User) -> None:
    two = ["--model", "other", "--run-dir", "run"]
    make_model(user.folder / "other", intermediate_size=160)
    assert user.benchmark("--model", "other")[1].code == 0
    workers, done = user.benchmark(*two, code=BROKEN)
    assert (workers, done.code) == (2, 3), done.stderr  # the first trial, then the probe
    assert install_line() in done.stderr
    history = history_of(read(user.folder / "run" / JOURNAL))
    assert (history.final, history.unfinished) == ({}, {})  # no trial is blamed for it
    workers, done = user.run(*RESUME, code=BROKEN)
    assert (workers, done.code) == (1, 3), done.stderr
    assert user.run(*RESUME)[1].code == 0
    results = json.loads((user.folder / "run" / "results.json").read_bytes())["results"]
    assert [each["outcome"] for each in results] == ["pass", "pass"]


def test_a_trial_that_ends_before_its_device_is_known_has_its_own_outcome(user: User) -> None:
    assert user.benchmark()[1].code == 0
    code = "import os; from worker import trial; trial.run = lambda *_: os.abort()"
    workers, done = user.benchmark("--run-dir", "run", code=code)
    assert (workers, done.code) == (2, 1), done.stderr
    (result,) = json.loads((user.folder / "run" / "results.json").read_bytes())["results"]
    assert (result["outcome"], result["exit_status"]) == ("crash", -6)


def test_a_stale_device_in_the_cache_ends_the_run_and_is_forgotten(user: User) -> None:
    assert user.benchmark()[1].code == 0
    (file,) = (file for file in user.kept if file.name.startswith("device-"))
    answer = json.loads(file.read_bytes())
    file.write_text(json.dumps({**answer, "versions": {**answer["versions"], "mlx": "0.1"}}))
    workers, done = user.benchmark("--run-dir", "run")
    assert (workers, done.code) == (1, 3), done.stderr
    assert file not in user.kept
    assert user.benchmark()[1].code == 0


def test_an_mlx_that_has_broken_does_not_hide_what_is_known_of_other_models(user: User) -> None:
    assert user.run(*RECOMMEND, "--model", "model")[1].code == 0
    make_model(user.folder / "new", intermediate_size=160)
    workers, done = user.run(*RECOMMEND, "--model", "model", "--model", "new", code=BROKEN)
    assert (workers, done.code) == (2, 0), done.stderr
    assert "MLX does not work" in done.stdout


def test_a_models_memory_is_traced_once(user: User) -> None:
    recommend = ["recommend", "--model", "model", "--seq-length", "64"]
    workers, done = user.run(*recommend)
    assert (workers, done.code) == (1, 0), done.stderr
    assert "estimated" in done.stdout
    # Tables are valid for lengths near this one, and for every batch size and optimizer.
    for changed in (
        *([], ["--batch-size", "8"], ["--seq-length", "80"]),
        *(["--no-grad-checkpoint"], ["--optimizer", "sgd"]),
    ):
        workers, again = user.run(*recommend, *changed)
        assert (workers, again.code) == (0, 0), changed
        assert (again.stdout == done.stdout) == (changed == [])
    for other in (["--seq-length", "1024"], ["--lora-keys", "attention"], ["--lora-rank", "4"]):
        assert user.run(*recommend, *other)[0] == 1


def test_a_model_that_cannot_be_traced_is_shown_beside_one_that_can(user: User) -> None:
    config = all_configs()["mamba"]  # its layers loop over tokens
    make_model(user.folder / "mamba", **{**dict.fromkeys(tiny.LLAMA), **config})
    recommend = ["recommend", "--seq-length", "64", "--model", "mamba"]
    workers, both = user.run(*recommend, "--model", "model")
    assert (workers, both.code) == (1, 0), both.stderr
    assert "Recommended: model (largest model that fits)" in both.stdout
    sentence = r"mamba: weights [\d.]+ [kM]B, activations not estimated; run `your_ai\s+benchmark "
    assert re.search(sentence, both.stdout)
    workers, alone = user.run(*recommend)
    assert (workers, alone.code) == (0, 1)
    assert re.search(sentence, alone.stdout)
    workers, small = user.run(*recommend, "--max-memory", "0.00001")
    assert (workers, small.code) == (0, 1)
    assert "mamba does not fit: the weights alone take" in small.stdout


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
