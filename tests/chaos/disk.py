"""Runs on disks of many sizes, so that the disk is full at each write."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.chaos.report import Report, counted
from tests.chaos.runs import Folder
from tests.support.disks import small_disk
from your_ai.errors import UsageError

ARGUMENTS = [
    *("benchmark", "--model", "smoke-tiny", "--model", "smoke-small", "--seq-length", "16"),
    *("--lora-rank", "4", "--batch-size", "1", "--steps", "1"),
]
PAGE_KIB = 4
ENOUGH_KIB = 200


def disk(step: int = 1) -> Report:
    """Run with every ``step``-th number of free pages and inodes, up to a sufficient number."""
    sizes = [f"size={kib}k" for kib in range(PAGE_KIB, ENOUGH_KIB, PAGE_KIB * step)]
    inodes = [f"size=1m,nr_inodes={count}" for count in range(2, 10, min(step, 4))]
    return filled([*sizes, *inodes])


def filled(disks: Iterable[str]) -> Report:
    """Run on each of these disks, given as mount options such as ``size=40k``."""
    failures, endings = [], []
    for options in disks:
        ending, problems = _filled(options)
        endings.append(ending)
        failures += [f"{options}: {each}" for each in problems]
    figures = {
        "disks": len(endings),
        "endings": counted(endings),
        "unclear errors, wrong exit codes, lost records, or failures to resume": len(failures),
    }
    return Report("A full disk", figures, failures)


def _filled(options: str) -> tuple[str, list[str]]:
    """Run on a small disk, enlarge it and resume. Return how the run ended and the failures."""
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as name,
        small_disk(Path(name) / "disk", options) as path,
    ):
        home = Folder(path)
        output = Path(name) / "out.json"
        done = home.finish(*ARGUMENTS, "--output", str(output))
        failures = []
        lines = done.stderr.splitlines()
        if done.code not in (0, 3):
            failures.append(f"exit code {done.code}: {done.stderr}")
        if done.code == 3 and not (len(lines) == 1 and "No space left on device" in lines[0]):
            failures.append(f"unclear error: {done.stderr}")
        before = home.ended()
        found = json.loads(output.read_bytes())["results"] if output.exists() else []
        written = [entry for entry in found if entry["exit_status"] is not None]
        if len(written) != len(before):
            failures.append(f"earlier records lost: {len(written)} of {len(before)} in the results")
        subprocess.run(["mount", "-o", "remount,size=10m,nr_inodes=1000", path], check=True)
        try:
            again = home.finish(*(["benchmark", "--resume"] if home.records() else ARGUMENTS))
        except UsageError as error:
            return "damaged", [*failures, f"damaged: {error}"]
        if again.code != 0:
            failures.append(f"cannot resume: {again.stderr}")
        elif any(home.ended().get(key) != entry for key, entry in before.items()):
            failures.append("earlier records lost")
        reason = lines[0].partition(":")[2].strip().split(" /")[0].split(" run")[0] if lines else ""
        return f"exit {done.code} ({reason or 'no error'}), {len(before)} trials done", failures
