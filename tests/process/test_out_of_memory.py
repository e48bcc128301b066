"""Real training that runs out of memory, and how its end is classified."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cgroups import MIB, memory_cgroup
from tests.support.fakes import dying
from tests.support.trials import PATIENT, giant_request, observe, tiny_request
from worker.protocol.codec import encode
from worker.protocol.messages import Phase
from your_ai.supervision.classify import classify
from your_ai.supervision.outcome import Certainty, OutcomeKind
from your_ai.supervision.supervisor import WORKER, supervise
from your_ai.supervision.trial_log import TrialLog

pytestmark = pytest.mark.alone

ADDRESS_SPACE_KIB = 2 * 2**20
LIMITED = ["sh", "-c", f'ulimit -c 0; ulimit -v {ADDRESS_SPACE_KIB}; exec "$@"', "sh"]

needs_address_space_limit = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux holds a process to RLIMIT_AS"
)


def test_real_training_passes_if_nothing_fails(log: TrialLog) -> None:
    """A control: without a limit the worker of these tests passes."""
    spec = tiny_request()
    seen = supervise(encode(spec), log=log, limits=PATIENT)
    assert classify(seen, spec.steps).kind is OutcomeKind.PASS, log.tail()
    assert (seen.returncode, seen.memory_limited, seen.oom_kills or 0) == (0, False, 0)


@pytest.mark.root
def test_the_oom_killer_kills_only_the_worker(tmp_path: Path) -> None:
    # The parent uses more memory than the worker, so by size the kernel would kill the parent.
    limit_mib, ballast_mib = 400, 250
    parent = [sys.executable, "-m", "tests.support.parent", str(tmp_path / "trial.log")]
    with memory_cgroup(limit_mib * MIB) as cgroup:
        answer = subprocess.run(
            cgroup.command([*parent, "5", str(ballast_mib), "unguarded", *WORKER]),
            input=encode(giant_request()),
            capture_output=True,
            check=False,
            timeout=PATIENT.deadline,
        )
    assert answer.returncode == 0, answer.stderr.decode()
    seen = json.loads(answer.stdout)
    assert seen["returncode"] == -signal.SIGKILL
    assert (seen["kind"], seen["certainty"]) == (OutcomeKind.OOM, Certainty.CERTAIN)
    assert seen["reason"] == "the kernel killed the worker because memory ran out"
    assert "the kernel's OOM counter rose by 1" in seen["evidence"]


@needs_address_space_limit
def test_a_segfault_under_an_address_space_limit_is_only_suspected_as_oom(log: TrialLog) -> None:
    spec = giant_request()
    seen = supervise(encode(spec), log=log, limits=PATIENT, command=[*LIMITED, *WORKER])
    assert seen.returncode == -signal.SIGSEGV, log.tail()
    assert [phase.phase for phase in seen.phases] == [Phase.IMPORT, Phase.LOAD]
    assert seen.memory_limited  # only the worker is limited, not its parent
    outcome = classify(seen, spec.steps)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.CRASH, Certainty.LOW)
    assert "possibly out of memory" in outcome.reason
    assert "RLIMIT_AS" in outcome.evidence


@needs_address_space_limit
def test_a_worker_within_its_address_space_limit_passes(log: TrialLog) -> None:
    spec = tiny_request()
    seen = supervise(encode(spec), log=log, limits=PATIENT, command=[*LIMITED, *WORKER])
    assert classify(seen, spec.steps).kind is OutcomeKind.PASS, log.tail()
    assert seen.memory_limited


def test_a_segfault_without_a_limit_is_not_suspected_as_oom(log: TrialLog) -> None:
    seen = observe(dying.segfault, log)
    assert (seen.returncode, seen.memory_limited) == (-signal.SIGSEGV, False)
    outcome = classify(seen, dying.STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.CRASH, Certainty.LOW)
    assert outcome.reason == "the worker was killed by SIGSEGV, cause unknown"
