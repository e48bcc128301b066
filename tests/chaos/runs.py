"""Real runs of the command, each in a separate folder, and access to their files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support.command import YOUR_AI, Finished, environment, your_ai_command
from your_ai.files import to_json
from your_ai.runs import journal
from your_ai.runs.journal import JOURNAL, STARTED, Record
from your_ai.runs.resume import history_of

MARK = "YOUR_AI_CHAOS"
"""Environment variable that marks all processes of a run, so that survivors can be found."""


@dataclass(frozen=True)
class Folder:
    """The folder of one run. The run directory is its subfolder ``run``."""

    path: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def document(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.run / "results.json").read_bytes())
        return content

    def records(self) -> list[Record]:
        """Return the journal's records, none if there is no journal. Raises DamagedError."""
        path = self.run / JOURNAL
        return list(journal.read(path)) if path.exists() else []

    def keys(self, kind: str) -> list[str]:
        return [record.fields["trial"] for record in self.records() if record.kind == kind]

    def ended(self) -> dict[str, Any]:
        """Return the final results by trial key."""
        final = history_of(self.records()).final
        return {key: json.loads(to_json(ended)) for key, ended in final.items()}

    def starts(self, key: str) -> int:
        return self.keys(STARTED).count(key)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start the command, and kill it at the end of the block if it is still running."""
        with subprocess.Popen(
            [*YOUR_AI, *arguments, "--run-dir", "run"],
            cwd=self.path,
            env=environment(self.path, **{MARK: self.mark}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as parent:
            try:
                yield parent
            finally:
                parent.kill()

    def finish(self, *arguments: str) -> Finished:
        """Run the command and wait for its end."""
        env = {MARK: self.mark}
        run_dir = ["--run-dir", "run"]
        return your_ai_command(self.path, *arguments, *run_dir, env=env, home=self.path)

    def survivors(self, within: float) -> list[int]:
        """Kill the run's processes that still exist after so many seconds. Return their pids."""
        deadline = time.monotonic() + within
        while (alive := self._alive()) and time.monotonic() < deadline:
            time.sleep(0.01)
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return alive

    def _alive(self) -> list[int]:
        return [process.pid for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            marked = process.environ().get(MARK) == self.mark
            return marked and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def plain(document: Any) -> Any:
    """Return a results document without the values that differ between equal runs."""
    if isinstance(document, list):
        return [plain(item) for item in document]
    if isinstance(document, dict):
        measured = r".*(_at|seconds|per_second.*|_bytes|_gb|timeline|steps|phases|run_dir|log|at)"
        return {k: plain(v) for k, v in document.items() if not re.fullmatch(measured, k)}
    return document
