"""A disk that is full at every write of a run."""

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

ASKED = [
    *("benchmark", "--model", "smoke-tiny", "--model", "smoke-small", "--seq-length", "16"),
    *("--lora-rank", "4", "--batch-size", "1", "--steps", "1"),
]
PAGE_KIB = 4
ENOUGH_KIB = 200


def disk(step: int = 1) -> Report:
    """Run with every ``step``-th number of free pages and of free inodes, until there is enough."""
    sizes = [f"size={kib}k" for kib in range(PAGE_KIB, ENOUGH_KIB, PAGE_KIB * step)]
    inodes = [f"size=1m,nr_inodes={count}" for count in range(2, 10, min(step, 4))]
    return filled([*sizes, *inodes])


def filled(disks: Iterable[str]) -> Report:
    """Run on each of these disks, such as ``size=40k``."""
    failures, ends = [], []
    for options in disks:
        end, wrong = _filled(options)
        ends.append(end)
        failures += [f"{options}: {each}" for each in wrong]
    figures = {
        "disks": len(ends),
        "how it ended": counted(ends),
        "tracebacks, wrong exit codes, earlier records lost, or not to be resumed": len(failures),
    }
    return Report("A full disk", figures, failures)


def _filled(options: str) -> tuple[str, list[str]]:
    """Run on such a disk, then enlarge it and resume; how it ended, and what went wrong."""
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as name,
        small_disk(Path(name) / "disk", options) as path,
    ):
        home = Folder(path)
        output = Path(name) / "out.json"
        done = home.finish(*ASKED, "--output", str(output))
        wrong = []
        lines = done.stderr.splitlines()
        if done.code not in (0, 3):
            wrong.append(f"exit code {done.code}: {done.stderr}")
        if done.code == 3 and not (len(lines) == 1 and "No space left on device" in lines[0]):
            wrong.append(f"unclear: {done.stderr}")
        before = home.ended()
        found = json.loads(output.read_bytes())["results"] if output.exists() else []
        written = [entry for entry in found if entry["exit_status"] is not None]
        if len(written) != len(before):
            wrong.append(f"earlier records lost: {len(written)} of {len(before)} in the results")
        subprocess.run(["mount", "-o", "remount,size=10m,nr_inodes=1000", path], check=True)
        try:
            again = home.finish(*(["benchmark", "--resume"] if home.records() else ASKED))
        except UsageError as error:
            return "damaged", [*wrong, f"damaged: {error}"]
        if again.code != 0:
            wrong.append(f"not to be resumed: {again.stderr}")
        elif any(home.ended().get(key) != entry for key, entry in before.items()):
            wrong.append("earlier records lost")
        said = lines[0].partition(":")[2].strip().split(" /")[0].split(" run")[0] if lines else ""
        return f"exit {done.code} ({said or 'enough'}), {len(before)} trials done", wrong
