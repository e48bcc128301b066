"""Check that a worker uses the device that its run was planned for, which may be from the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from worker.protocol.messages import Device
from your_ai.errors import DeviceChangedError
from your_ai.planning.device import from_probe, gpu_uuid
from your_ai.runs.run import Header, version_changes
from your_ai.supervision.event_reader import OnEvent
from your_ai.supervision.observation import Notice
from your_ai.supervision.probe_cache import ProbeCache
from your_ai.units import show_size


def checked(header: Header, on_event: OnEvent) -> OnEvent:
    """Return a function that checks the device among a worker's notices, and passes on all."""

    def on_notice(notice: Notice) -> None:
        if isinstance(notice, Device):
            check_device(header, notice)
        on_event(notice)

    return on_notice


def check_device(header: Header, answer: Device) -> None:
    """Raise DeviceChangedError if the worker's device or versions are not those of the run.

    The cache then forgets the device.
    """
    if changed := [*_changes(header, answer)]:
        ProbeCache.open().forget_device()
        raise DeviceChangedError(
            f"MLX no longer uses what {header.run_dir} was planned for, but {', '.join(changed)}. "
            "Start a new run."
        )


def _changes(header: Header, answer: Device) -> Iterator[str]:
    before = header.device
    # On the CPU, MLX reports no memory.
    found = from_probe(answer, replace(header.machine, memory_bytes=before.memory_bytes))
    if (found.name, found.backend) != (before.name, before.backend):
        yield f"{found.name} ({found.backend}; was {before.name}, {before.backend})"
    elif gpu_uuid(answer) != header.gpu_uuid:
        yield f"another {found.name}"
    if found.memory_bytes != before.memory_bytes:
        yield f"{show_size(found.memory_bytes)} of memory (was {show_size(before.memory_bytes)})"
    if found.working_set_bytes != before.working_set_bytes:
        yield f"another working set ({found.working_set_bytes} bytes)"
    versions = {**answer.versions, "your_ai": header.version}
    yield from version_changes(header, versions, even_patches=not header.accepts_patches)
