"""Opening a run again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.support import builders
from your_ai.runs.journal import RESUMED
from your_ai.runs.open_run import begin, open_new, open_to_resume, record_resumed
from your_ai.runs.run import Run


def test_a_resumed_run_has_the_current_device_and_records_its_versions(tmp_path: Path) -> None:
    run = builders.run()
    with open_new(tmp_path / "run") as journal:
        begin(journal, run)
    limited = replace(run.device, memory_bytes=2**35, working_set_bytes=2**34)
    now = replace(limited, versions={**run.device.versions, "mlx-lm-extra": "7"})
    with open_to_resume(
        *(tmp_path / "run", Run, run.command, {}, run.version), lambda: (now, "GPU-2")
    ) as (journal, earlier, _, device):
        assert (earlier.gpu_uuid, device) == ("GPU-2", now)
        assert earlier.device == limited
        record_resumed(journal, device)
        last = journal.records()[-1]
    assert (last.kind, last.fields["versions"]) == (RESUMED, now.versions)
