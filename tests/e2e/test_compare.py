"""``your_ai compare`` on the results of real runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import PLAIN, Finished, your_ai_command


@pytest.fixture(scope="module")
def results(smoke: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of two equal runs, and of one that needs more memory."""
    folder = tmp_path_factory.mktemp("compare")
    arguments = ["--model", "smoke-tiny", *PLAIN, "--quiet", "--output", "new.json"]
    done = your_ai_command(folder, "benchmark", *arguments)
    assert done.code == 0, done.stderr
    base = smoke.document
    (folder / "base.json").write_text(json.dumps(base))
    base["results"][0]["needed_memory_bytes"] *= 2
    (folder / "worse.json").write_text(json.dumps(base))
    (folder / "torn.json").write_text('{"results": [')
    (folder / "other.json").write_text("{}")
    return folder


def test_two_equal_runs_have_no_regression(results: Path) -> None:
    # Speed may differ, because other tests run at the same time.
    done = your_ai_command(results, "compare", "base.json", "new.json", "--fail-above", "1000")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith("✓ smoke-tiny (batch=2, rank=4, layers=4, 64 tokens")
    assert done.stdout.endswith("(1 compared trial).\n")


@pytest.mark.parametrize("form", ["text", "json", "markdown"])
def test_a_regression_exits_with_1(form: str, results: Path) -> None:
    done = your_ai_command(results, "compare", "base.json", "worse.json", "--format", form)
    assert (done.code, done.stderr) == (1, "")
    if form == "json":
        assert "needed_memory_bytes" in json.loads(done.stdout)["trials"][0]["regressions"]
    else:
        assert "became worse by more than 5%" in done.stdout


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("missing.json", "Cannot read missing.json: No such file"),
        ("torn.json", "torn.json is not a results file"),
        ("other.json", "other.json is not a results file"),
        (".", "Cannot read results.json: No such file"),
    ],
)
def test_a_file_without_results_is_a_usage_error(name: str, complaint: str, results: Path) -> None:
    done = your_ai_command(results, "compare", "base.json", name)
    assert (done.code, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
