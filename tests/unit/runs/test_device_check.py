"""A worker with another device than the run was planned for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support import builders, trainings
from worker.protocol.messages import Device
from your_ai.errors import DeviceChangedError
from your_ai.planning.device import from_probe, gpu_uuid
from your_ai.runs.device_check import check_device
from your_ai.runs.run import Run

VERSIONS = {"python": "3.11.7", "mlx": "0.32.4", "mlx-lm": "0.32.0"}
MAC = {
    "device_name": "Apple M3 Pro",
    "memory_size": 2**35,
    "max_recommended_working_set_size": 2**34,
}
H200 = {"device_name": "NVIDIA H200", "uuid": "GPU-1", "total_memory": 150754820096}
METAL = Device(0.5, "metal", MAC, VERSIONS)
CUDA = Device(0.5, "cuda", {**H200, "free_memory": 149_000_000_000}, VERSIONS)
CPU = replace(builders.CPU, versions=VERSIONS)


def planned_for(answer: Device) -> Run:
    host = builders.run().machine
    return builders.run(device=from_probe(answer, host), gpu_uuid=gpu_uuid(answer))


def of(answer: Device, **info: Any) -> Device:
    return replace(answer, at=9.0, info={**answer.info, **info})


@pytest.mark.parametrize(
    ("before", "now"),
    [(METAL, of(METAL, unknown=2)), (CUDA, of(CUDA, free_memory=1)), (CPU, of(CPU))],
)
def test_values_on_which_no_run_depends_may_change(before: Device, now: Device) -> None:
    check_device(planned_for(before), now)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (METAL, CPU),
        (CUDA, replace(CUDA, backend="cpu")),
        (CUDA, of(CUDA, device_name="NVIDIA H100")),
        (CUDA, of(CUDA, total_memory=2**30)),
        (CUDA, of(CUDA, uuid="GPU-2")),
        (METAL, of(METAL, memory_size=2**36)),
        (METAL, of(METAL, max_recommended_working_set_size=2**33)),
        (CPU, replace(CPU, versions={**VERSIONS, "mlx": "0.32.5"})),
    ],
)
def test_another_device_or_version_is_found(before: Device, now: Device) -> None:
    with pytest.raises(DeviceChangedError):
        check_device(planned_for(before), now)


def test_a_gpu_is_not_identified_to_who_reads_the_results() -> None:
    with pytest.raises(DeviceChangedError) as raised:
        check_device(planned_for(CUDA), of(CUDA, uuid="GPU-2"))
    assert "GPU-" not in str(raised.value)


def test_a_run_on_a_cpu_may_continue_on_a_machine_of_another_size() -> None:
    run = planned_for(CPU)
    check_device(replace(run, device=replace(run.device, memory_bytes=2**33)), CPU)


def test_a_training_accepts_a_patch_release_like_when_it_is_resumed() -> None:
    run = planned_for(CPU)
    training = trainings.training(machine=run.machine, device=run.device)
    check_device(training, replace(CPU, versions={**VERSIONS, "mlx": "0.32.5"}))
    with pytest.raises(DeviceChangedError):
        check_device(training, replace(CPU, versions={**VERSIONS, "mlx": "0.33.0"}))
