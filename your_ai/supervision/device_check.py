"""Check that a worker uses the device that its run was planned for, which may be from the cache."""

from __future__ import annotations

from typing import Self

from worker.protocol.messages import Device
from your_ai.errors import DeviceChangedError
from your_ai.supervision.event_reader import OnEvent
from your_ai.supervision.observation import Notice
from your_ai.supervision.probe_cache import ProbeCache, is_same
from your_ai.units import show_size


class DeviceCheck:
    """Passes on a worker's notices. Raises DeviceChangedError if the device is not ``expected``.

    The cache then forgets the device, and also if the worker reports none: MLX may be broken.
    """

    def __init__(self, cache: ProbeCache, expected: Device | None, on_event: OnEvent) -> None:
        self._cache = cache
        self._expected = expected
        self._on_event = on_event
        self._is_confirmed = False

    def __call__(self, notice: Notice) -> None:
        """Check the notice, and pass it on."""
        if isinstance(notice, Device):
            if self._expected is not None and not is_same(notice, self._expected):
                raise DeviceChangedError(
                    f"This run was planned for {_shown(self._expected)}, but MLX now uses "
                    f"{_shown(notice)}. Start a new run."
                )
            self._is_confirmed = True
        self._on_event(notice)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_confirmed:
            self._cache.forget_device()


def _shown(device: Device) -> str:
    size = device.info.get("memory_size") or device.info.get("total_memory")
    facts = [device.backend, *([show_size(size)] if isinstance(size, int) else [])]
    return f"{device.info.get('device_name', 'a device')} ({', '.join(facts)})"
