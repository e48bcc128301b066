"""The conditions of a measurement: readings from recorded outputs, and which ones affect speed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.gpus import OLD_QUERY, QUERY
from your_ai.system import conditions, macos, power
from your_ai.system.conditions import Conditions, caveats
from your_ai.system.macos import ThermalPressure
from your_ai.system.nvidia import Gpu, GpuClocks, GpuMemory, GpuReading
from your_ai.system.power import PowerSource
from your_ai.units import MB

UUID = "GPU-0019ef91-ac4c-7e29-6ab3-554b260553d2"
MEMORY = "100, 90, Disabled"
UNKNOWN = Conditions(None, None, None, None, None, None, None)
GOOD = Conditions(PowerSource.MAINS, False, ThermalPressure.NOMINAL, 10.0, 1980, 1980, ())


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that replaces PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(path: Path, code: str) -> None:
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        (GOOD, GOOD, ()),
        (UNKNOWN, UNKNOWN, ()),
        (GOOD, UNKNOWN, ()),
        (None, None, ()),
        (replace(GOOD, power_source=PowerSource.BATTERY), GOOD, ("on battery",)),
        (GOOD, replace(GOOD, power_source=PowerSource.BATTERY), ("on battery",)),
        (GOOD, replace(GOOD, low_power_mode=True), ("in low power mode",)),
        (GOOD, replace(GOOD, thermal_pressure=ThermalPressure.MODERATE), ()),
        (
            GOOD,
            replace(GOOD, thermal_pressure=ThermalPressure.HEAVY),
            ("under heavy thermal pressure",),
        ),
        (
            replace(GOOD, thermal_pressure=ThermalPressure.HEAVY),
            replace(GOOD, thermal_pressure=ThermalPressure.TRAPPING),
            ("under trapping thermal pressure",),
        ),
        (GOOD, replace(GOOD, slowed_seconds=10.9), ()),
        (
            GOOD,
            replace(GOOD, slowed_seconds=11.1),
            ("while heat or the power supply slowed the device",),
        ),
        (GOOD, replace(GOOD, slowed_seconds=0.0), ()),  # the driver was loaded again
        (replace(GOOD, slowed_seconds=None), replace(GOOD, slowed_seconds=99.0), ()),
        # Normal on GPUs under full load: they are built to reach their power limit.
        (GOOD, replace(GOOD, gpu_slowdowns=("power limit",)), ()),
        (
            GOOD,
            replace(GOOD, gpu_slowdowns=("power limit", "heat")),
            ("while heat or the power supply slowed the device",),
        ),
        (
            replace(GOOD, power_source=PowerSource.BATTERY),
            replace(GOOD, power_source=PowerSource.BATTERY, low_power_mode=True),
            ("on battery", "in low power mode"),
        ),
    ],
)
def test_the_conditions_under_which_a_speed_is_not_comparable(
    before: Conditions | None, after: Conditions | None, reasons: tuple[str, ...]
) -> None:
    assert caveats(before, after, seconds=100.0) == reasons


BATT = "Now drawing from '{}'\n -InternalBattery-0 (id=22806627)\t78%; discharging; 5:05 remaining"
SETTINGS = """\
System-wide power settings:
Currently in use:
 standby              1
 sleep                1 (sleep prevented by caffeinate)
 {}
 womp                 1
"""


@pytest.mark.parametrize(
    ("said", "source"),
    [
        (BATT.format("AC Power"), PowerSource.MAINS),
        (BATT.format("Battery Power"), PowerSource.BATTERY),
        (BATT.format("UPS Power"), None),
        ("", None),
    ],
)
def test_the_power_source_of_a_mac(
    said: str, source: PowerSource | None, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    program(programs / "pmset", f'[ "$*" = "-g batt" ] && echo "{said}"')
    assert power.source() is source


@pytest.mark.parametrize(
    ("setting", "is_low"),
    [
        ("lowpowermode         0", False),
        ("lowpowermode         1", True),
        ("powermode            1", True),  # on Macs that also have a high power mode
        ("powermode            2", False),
        ("powernap             1", None),
    ],
)
def test_the_low_power_mode_of_a_mac(
    setting: str, is_low: bool | None, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    program(programs / "pmset", f'[ "$*" = "-g" ] && echo "{SETTINGS.format(setting)}"')
    assert power.is_low() is is_low


def test_a_missing_or_hanging_pmset_is_unknown(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert (power.source(), power.is_low()) == (None, None)
    program(programs / "pmset", "exec /bin/sleep 600")
    monkeypatch.setattr(power, "TIMEOUT_SECONDS", 0.2)
    assert (power.source(), power.is_low()) == (None, None)


def supply(sys_folder: Path, name: str, **files: str) -> None:
    folder = sys_folder / "class/power_supply" / name
    folder.mkdir(parents=True)
    for file, text in files.items():
        (folder / file).write_text(f"{text}\n")


BATTERY = {"type": "Battery", "scope": "System"}
MOUSE = {"type": "Battery", "scope": "Device", "status": "Discharging"}
DISCHARGING = {**BATTERY, "status": "Discharging"}


@pytest.mark.parametrize(
    ("supplies", "source"),
    [
        ({}, None),
        ({"hidpp_battery_0": MOUSE}, None),
        ({"ADP1": {"type": "Mains", "online": "1"}, "BAT0": DISCHARGING}, PowerSource.MAINS),
        ({"ADP1": {"type": "Mains", "online": "0"}, "BAT0": DISCHARGING}, PowerSource.BATTERY),
        ({"ucsi": {"type": "USB", "online": "0"}, "BAT1": DISCHARGING}, PowerSource.BATTERY),
        ({"BAT0": {**BATTERY, "status": "Not charging"}}, PowerSource.MAINS),
        ({"BAT0": {**BATTERY, "status": "Unknown"}}, None),
        ({"BAT0": DISCHARGING, "BAT1": {**BATTERY, "status": "Unknown"}}, PowerSource.BATTERY),
        ({"AC": {"type": "Mains", "online": "1"}}, PowerSource.MAINS),
    ],
)
def test_the_power_source_on_linux(
    supplies: dict[str, dict[str, str]],
    source: PowerSource | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name, files in supplies.items():
        supply(tmp_path, name, **files)
    assert power.source(tmp_path) is source


@pytest.mark.parametrize(
    ("profile", "is_low"), [("low-power", True), ("balanced", False), (None, None)]
)
def test_the_low_power_mode_on_linux(
    profile: str | None, is_low: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    if profile is not None:
        (tmp_path / "firmware/acpi").mkdir(parents=True)
        (tmp_path / "firmware/acpi/platform_profile").write_text(f"{profile}\n")
    assert power.is_low(tmp_path) is is_low


def test_the_time_in_which_heat_slowed_the_cpu(tmp_path: Path) -> None:
    assert power.cpu_slowed_seconds(tmp_path) is None
    for cpu, core, package in (("cpu0", "0", "1500"), ("cpu1", "2500", "1500")):
        folder = tmp_path / "devices/system/cpu" / cpu / "thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_total_time_ms").write_text(f"{core}\n")
        (folder / "package_throttle_total_time_ms").write_text(f"{package}\n")
        (folder / "core_throttle_count").write_text("7\n")
    assert power.cpu_slowed_seconds(tmp_path) == 2.5


def gpu(folder: Path, fields: str, answer: str) -> Gpu:
    """Install an nvidia-smi that knows these fields; it fails for others, as the real one does."""
    known = f"--id={UUID} --query-gpu={fields} --format=csv,noheader,nounits"
    program(folder / "nvidia-smi", f'[ "$*" = "{known}" ] || exit 2\necho "{answer}"')
    return Gpu(UUID)


@pytest.mark.parametrize(
    ("answer", "clocks"),
    [
        # Recorded on an idle H200, driver 580.
        ("345, 1980, 0x0000000000000001, 0, 0, 0, 0", GpuClocks(345, 1980, (), 0.0)),
        # Recorded there during matrix products at 690 W and 63 °C.
        (
            "1455, 1980, 0x0000000000000004, 0, 0, 0, 13628574",
            GpuClocks(1455, 1980, ("power limit",), 0.0),
        ),
        (
            "900, 1980, 0x00000000000000EC, 1000000, 500000, 2000000, 9000000",
            GpuClocks(
                *(900, 1980),
                ("power limit", "hardware", "heat", "heat (hardware)", "power supply"),
                3.5,
            ),
        ),
        # A laptop's driver 575 has the same number in both: it says nothing about heat.
        (
            "675, 3105, 0x0000000000000001, 0, 0, 91403239, 91403239",
            GpuClocks(675, 3105, (), 0.0),
        ),
        (
            "[N/A], [N/A], [N/A], [N/A], [N/A], [N/A], [N/A]",
            GpuClocks(None, None, None, None),
        ),
    ],
)
def test_the_clocks_of_a_gpu(answer: str, clocks: GpuClocks, programs: Path) -> None:
    assert gpu(programs, QUERY, f"{MEMORY}, {answer}").read().clocks == clocks


def test_the_clocks_of_a_gpu_whose_driver_has_no_counters(programs: Path) -> None:
    old = gpu(programs, OLD_QUERY, f"{MEMORY}, 1410, 1410, 0x0000000000000040")
    assert old.read() == GpuReading(
        GpuMemory(100 * MB, 90 * MB), GpuClocks(1410, 1410, ("heat (hardware)",), None)
    )


@pytest.mark.parametrize("answer", ["", "No devices were found"])
def test_the_clocks_of_an_unknown_gpu(answer: str, programs: Path) -> None:
    assert gpu(programs, QUERY, answer).read() == GpuReading(None, None)


def test_the_conditions_of_a_gpu_are_read_only_for_cuda(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = gpu(programs, QUERY, f"{MEMORY}, 1980, 1980, 0x0, 1000000, 0, 0, 0")
    monkeypatch.setattr(power, "cpu_slowed_seconds", lambda: 7.0)
    monkeypatch.setattr(macos, "thermal_pressure", lambda: None)
    on_gpu = conditions.read("cuda", known)
    assert (on_gpu.gpu_clock_mhz, on_gpu.gpu_max_clock_mhz) == (1980, 1980)
    assert (on_gpu.gpu_slowdowns, on_gpu.slowed_seconds) == ((), 1.0)
    on_cpu = conditions.read("cpu", None)
    assert (on_cpu.gpu_clock_mhz, on_cpu.slowed_seconds) == (None, 7.0)
    assert conditions.read("metal", None).slowed_seconds is None


def test_reading_the_conditions_of_this_machine() -> None:
    now = conditions.read("cpu", None)
    assert now.gpu_clock_mhz is None
    assert (now.thermal_pressure is None) == (sys.platform != "darwin")
