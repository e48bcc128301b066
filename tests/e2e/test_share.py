"""``your_ai report --share`` on real runs, and the check of docs/measurements."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import ROOT, Finished, your_ai_command
from tests.support.shared_runs import TOKEN

MEASUREMENTS = ROOT / "docs/measurements"


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run scripts/check-measurements.py on a folder."""
    return subprocess.run(
        [sys.executable, ROOT / "scripts/check-measurements.py", folder],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
    )


@pytest.fixture
def collected(tmp_path: Path) -> Path:
    """A copy of docs/measurements."""
    return Path(shutil.copytree(MEASUREMENTS, tmp_path / "measurements"))


def test_a_run_of_local_models_is_shared_without_paths(ladder: Finished, collected: Path) -> None:
    target = collected / "ladder.json"
    done = your_ai_command(ladder.folder, "report", "run", "--share", target)
    assert (done.code, done.stderr) == (0, "")
    entry, large = ladder.document["results"]
    trials = [*entry["optimal_config"]["all_results"], large]
    loaded = [trial for trial in trials if trial["load"]]
    assert done.stdout.startswith(f"Measurements of {len(loaded)} trials written to {target}\n")
    content = target.read_text(encoding="utf-8")
    for secret in (str(ladder.folder), str(Path.home()), platform.node(), "/", "large"):
        assert secret not in content
    document = json.loads(content)
    assert document["device"]["memory_bytes"] == ladder.document["device"]["memory_bytes"]
    assert [t["outcome"] for t in document["trials"]] == [t["outcome"] for t in loaded]
    first = document["trials"][0]
    assert first["model_name"] is None
    assert first["parameters"] == entry["load"]["parameters"]
    assert first["needed_bytes"] == entry["needed_memory_bytes"]
    assert checked(collected).returncode == 0


def test_a_run_of_a_preset_is_shared_with_its_name(smoke: Finished, collected: Path) -> None:
    target = collected / "smoke.json"
    done = your_ai_command(smoke.folder, "report", "out.json", "--share", target)
    assert done.code == 0
    assert "Models named in it: your_ai/smoke-tiny\n" in done.stdout
    assert TOKEN not in target.read_text(encoding="utf-8")
    result = checked(collected)
    assert (result.returncode, result.stderr) == (0, "")
    assert "| your_ai/smoke-tiny |" in result.stdout


def test_shared_files_are_read_by_nobody_as_results(smoke: Finished, tmp_path: Path) -> None:
    shutil.copy(smoke.folder / "out.json", tmp_path)
    assert your_ai_command(tmp_path, "report", "out.json", "--share", "mac.json").code == 0
    done = your_ai_command(tmp_path, "report", "mac.json")
    assert done.code == 2
    assert "not a results file" in done.stderr


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--share", "out.json"], "is also the input file"),
        (["--share", "link.json"], "is also the input file"),
        (["--share", "gone/mac.json"], "its folder does not exist"),
        (["--share", "mac.json", "--html", "./mac.json"], "name the same file"),
    ],
)
def test_an_unusable_target_is_refused(
    smoke: Finished, tmp_path: Path, options: list[str], problem: str
) -> None:
    shutil.copy(smoke.folder / "out.json", tmp_path)
    (tmp_path / "link.json").symlink_to("out.json")
    before = (tmp_path / "out.json").read_bytes()
    done = your_ai_command(tmp_path, "report", "out.json", *options)
    assert done.code == 2
    assert problem in done.stderr
    assert (tmp_path / "out.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "out.json"]


def test_a_run_without_measurements_is_not_shared(smoke: Finished, tmp_path: Path) -> None:
    document = json.loads((smoke.folder / "out.json").read_bytes())
    for entry in document["results"]:
        entry.update(load=None, outcome="error", success=False)
    (tmp_path / "out.json").write_text(json.dumps(document))
    done = your_ai_command(tmp_path, "report", "out.json", "--share", "mac.json")
    assert (done.code, (tmp_path / "mac.json").exists()) == (2, False)
    assert "nothing to share" in done.stderr


def test_the_collected_measurements_are_valid() -> None:
    result = checked(MEASUREMENTS)
    assert (result.returncode, result.stderr) == (0, "")
    rows = [line for line in result.stdout.splitlines() if line.startswith("| ")][2:]
    reports = (MEASUREMENTS / "public-metal-reports.jsonl").read_text().splitlines()
    files = MEASUREMENTS.glob("*.json")
    trials = sum(len(json.loads(path.read_bytes())["trials"]) for path in files)
    assert len(rows) == trials + len(reports) > len(reports) > 0


SHARED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "unknown-key": (
        lambda d: d["trials"][0].update(user="a"),
        "$.trials[0].user is an unknown key",
    ),
    "missing-key": (
        lambda d: d["trials"][0].pop("outcome"),
        "Object missing required field `outcome` - at `$.trials[0]`",
    ),
    "no-memory": (
        lambda d: d["device"].update(memory_bytes=0),
        "Expected `int` >= 1 - at `$.device.memory_bytes`",
    ),
    "needed-above-peak": (
        lambda d: d["trials"][0].update(needed_bytes=2**40),
        "$.trials[0].needed_bytes is larger than peak_bytes",
    ),
    "resident-above-needed": (
        lambda d: d["trials"][0].update(resident_bytes=2**40),
        "$.trials[0].resident_bytes is larger than needed_bytes",
    ),
    "pass-without-peak": (
        lambda d: d["trials"][0].update(peak_bytes=None),
        "$.trials[0].peak_bytes is null, but the trial passed",
    ),
    "path": (
        lambda d: d["trials"][0].update(model_name="/Users/alice/model"),
        "at `$.trials[0].model_name`",
    ),
    "folder": (
        lambda d: d["trials"][0]["configuration"].update(lora_keys=["/home/alice"]),
        "$.trials[0].configuration.lora_keys[0] looks like a path: '/home/alice'",
    ),
    "modules": (
        lambda d: d["trials"][0]["configuration"].update(lora_keys=["alice"]),
        "$.trials[0].configuration has unknown modules or arguments of the optimizer",
    ),
    "parameters": (
        lambda d: d["trials"][0].update(parameters=5),
        "$.trials[0].parameters is 5, but mlx-lm's model has 262,720",
    ),
    "versions": (lambda d: d["versions"].update(mlx=None), "$.versions.mlx must be known"),
    "version-text": (lambda d: d["versions"].update(mlx="my own"), "at `$.versions.mlx`"),
    "budget": (
        lambda d: d.update(budget_bytes=2**60),
        "$.budget_bytes is larger than $.device.memory_bytes",
    ),
    "nothing": (lambda d: d.update(trials=[]), "$.trials is empty"),
    "format": (lambda d: d.update(format=2), "at `$.format`"),
}
PUBLIC: list[tuple[Callable[[Any], Any], str]] = [
    (lambda r: r.update(notes="see ~/mlx"), "$.notes looks like a path: 'see ~/mlx'"),
    (lambda r: r.update(notes="in C:\\runs"), "$.notes looks like a path"),
    (lambda r: r.update(notes="ask a@b.org"), "$.notes looks like an e-mail address"),
    (lambda r: r.update(notes="with hf_abcdefghij"), "$.notes looks like a token"),
    (lambda r: r.update(url="somewhere"), "$.url is not a link"),
    (lambda r: r.update(date="yesterday"), "$.date is not a month or a day"),
    (lambda r: r.update(peak_bytes=0), "Expected `int` >= 1 - at `$.peak_bytes`"),
    (lambda r: r.update(author="a"), "$.author is an unknown key"),
    (lambda r: r.update(architecture="No"), "$.architecture: models/No.json does not exist"),
    (lambda r: r.update(parameters=7), "$.parameters is 7, but mlx-lm's model has"),
]


def test_damage_is_reported_with_file_and_field(collected: Path) -> None:
    shared, *others = sorted(collected.glob("*.json"))
    for other in others:
        other.unlink()
    expected = []
    for name, (change, problem) in SHARED.items():
        document = json.loads(shared.read_bytes())
        change(document)
        (collected / f"{name}.json").write_text(json.dumps(document))
        expected.append((f"{name}.json: ", problem))
    public = collected / "public-metal-reports.jsonl"
    first = public.read_text().splitlines()[0]
    reports = [first]
    for change, problem in PUBLIC:
        report = json.loads(first)
        change(report)
        reports.append(json.dumps(report))
        expected.append((f"{public.name}, line {len(reports)}: ", problem))
    public.write_text("\n".join([*reports, first[:-9]]) + "\n")
    expected.append((f"{public.name}, line {len(reports) + 1}: ", "truncated"))
    shutil.copy(shared, collected / "Alice's Mac.json")
    expected.append(("Alice's Mac.json: ", "the name may contain only"))
    (collected / "notes.txt").write_text("")
    expected.append(("notes.txt: ", "does not belong here"))

    result = checked(collected)
    assert (result.returncode, result.stdout) == (1, "")
    found = result.stderr.splitlines()
    for where, problem in expected:
        assert [line for line in found if line.startswith(where) and problem in line], (
            where,
            problem,
            result.stderr,
        )
    reported = {line.partition(": ")[0] for line in found}
    assert reported == {where.removesuffix(": ") for where, _ in expected}


def test_a_broken_architecture_is_reported(collected: Path) -> None:
    (collected / "models/Qwen3-8B.json").write_text(json.dumps({"model_type": "none"}))
    result = checked(collected)
    assert result.returncode == 1
    assert result.stderr.startswith("models/Qwen3-8B.json: ")
