"""Finding and reading the kernel's OOM counts, from recorded files and on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from your_ai.system import cgroups
from your_ai.system.cgroups import MemoryCgroup, Room

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a Linux /proc")

# Ubuntu 18.04: v1 with several controllers per mount, and a v2 hierarchy without controllers.
HYBRID_CGROUP = """\
12:pids:/user.slice/user-1000.slice/session-3.scope
11:cpu,cpuacct:/user.slice
9:memory:/user.slice/user-1000.slice/session-3.scope
5:net_cls,net_prio:/
1:name=systemd:/user.slice/user-1000.slice/session-3.scope
0::/user.slice/user-1000.slice/session-3.scope
"""
HYBRID_MOUNTINFO = """\
26 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
31 23 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
32 31 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup rw,nsdelegate
33 31 0:28 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd
36 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct
41 31 0:36 / /sys/fs/cgroup/memory rw,nosuid,nodev shared:20 - cgroup cgroup rw,memory
"""

# A Firecracker guest: v1 with one controller per mount, no optional fields in mountinfo.
V1_CGROUP = "8:pids:/\n4:memory:/process_api/19196ccb61c2\n1:cpu:/\n0::/\n"
V1_MOUNTINFO = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""

# Fedora: the unified hierarchy only.
V2_CGROUP = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn.scope\n"
V2_MOUNTINFO = """\
29 23 0:25 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,seclabel,nsdelegate
30 23 0:26 / /sys/fs/pstore rw,nosuid shared:5 - pstore pstore rw,seclabel
"""

# A Docker container on v1 without a cgroup namespace: the mount's root is the full host path.
DOCKER_V1_CGROUP = "11:memory:/docker/7c4a2f\n1:name=systemd:/docker/7c4a2f\n"
DOCKER_V1_MOUNTINFO = """\
851 846 0:31 /docker/7c4a2f /sys/fs/cgroup/memory ro,nosuid master:15 - cgroup cgroup rw,memory
"""

# The same, seen through the cgroup namespace of a container on v2.
DOCKER_V2_CGROUP = "0::/\n"
DOCKER_V2_MOUNTINFO = "1203 1202 0:29 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n"

V1_OOM_CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
V1_OOM_CONTROL_BEFORE_4_13 = "oom_kill_disable 0\nunder_oom 1\n"
V2_EVENTS = "low 0\nhigh 12\nmax 431\noom 7\noom_kill 5\noom_group_kill 2\n"
VMSTAT = "nr_free_pages 6122103\nallocstall_normal 0\noom_kill 19\nswap_ra 0\n"

MEMORY = Path("/sys/fs/cgroup/memory")
UNIFIED = Path("/sys/fs/cgroup")

BOTH_MOUNTINFO = DOCKER_V2_MOUNTINFO + V1_MOUNTINFO.splitlines(keepends=True)[1]


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("0::/\n4:memory:/late\n", MemoryCgroup(1, MEMORY / "late")),
        ("4:cpu,memory:/joint\n", MemoryCgroup(1, MEMORY / "joint")),
        ("4:memory:/odd:name\n0::/\n", MemoryCgroup(1, MEMORY / "odd:name")),
        ("1:name=memory:/named\n0::/unified\n", MemoryCgroup(2, UNIFIED / "unified")),
        ("5:cpu:/only\n", None),
        ("", None),
        ("nonsense\n\n::\n", None),
    ],
)
def test_the_controller_that_accounts_memory(text: str, nearest: MemoryCgroup | None) -> None:
    assert next(iter(cgroups.candidates(text, BOTH_MOUNTINFO)), None) == nearest


def folders(cgroup: str, mountinfo: str) -> list[Path]:
    return [found.folder for found in cgroups.candidates(cgroup, mountinfo)]


def test_v1() -> None:
    assert cgroups.candidates(V1_CGROUP, V1_MOUNTINFO) == (
        MemoryCgroup(1, MEMORY / "process_api/19196ccb61c2"),
        MemoryCgroup(1, MEMORY),
    )


def test_on_a_hybrid_system_v1_accounts_memory() -> None:
    session = MEMORY / "user.slice/user-1000.slice/session-3.scope"
    own, root = cgroups.candidates(HYBRID_CGROUP, HYBRID_MOUNTINFO)
    assert (own, root) == (MemoryCgroup(1, session), MemoryCgroup(1, MEMORY))


def test_v2_accounts_in_the_nearest_ancestor_with_the_controller() -> None:
    user = UNIFIED / "user.slice/user-1000.slice/user@1000.service"
    expected = [
        user / "app.slice/vte-spawn.scope",
        user / "app.slice",
        user,
        UNIFIED / "user.slice/user-1000.slice",
        UNIFIED / "user.slice",
        UNIFIED,
    ]
    found = cgroups.candidates(V2_CGROUP, V2_MOUNTINFO)
    assert found == tuple(MemoryCgroup(2, folder) for folder in expected)


def test_a_mount_point_with_a_space() -> None:
    mount = r"1 2 0:3 /a\040b /mnt/c\134d\040e rw - cgroup2 none rw"
    assert folders("0::/a b/own\n", mount)[0] == Path("/mnt/c\\d e/own")


@pytest.mark.parametrize("text", ["", "\n", "31 23 0:28", "a b c d e - cgroup2", " - cgroup2 x rw"])
def test_invalid_mountinfo_is_ignored(text: str) -> None:
    assert folders("0::/\n", text) == []


def test_a_container_whose_mount_shows_a_subtree() -> None:
    assert folders(DOCKER_V1_CGROUP, DOCKER_V1_MOUNTINFO) == [MEMORY]


def test_a_container_with_a_cgroup_namespace() -> None:
    assert folders(DOCKER_V2_CGROUP, DOCKER_V2_MOUNTINFO) == [UNIFIED]


def test_a_path_that_the_mount_does_not_contain_falls_back_to_its_root() -> None:
    # The namespace was entered without a new mount, so the mount's root is above the visible path.
    mountinfo = "9 8 0:29 /.. /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
    assert folders("0::/job\n", mountinfo) == [UNIFIED]


def test_a_process_outside_the_namespace_is_not_found() -> None:
    assert folders("0::/../sibling\n", DOCKER_V2_MOUNTINFO) == []


def test_the_closest_of_several_mounts_is_used() -> None:
    bind = "77 70 0:31 /docker/7c4a2f /mnt/own rw - cgroup cgroup rw,memory\n"
    other = "78 70 0:31 /docker/other /mnt/other rw - cgroup cgroup rw,memory\n"
    whole = "79 70 0:31 / /mnt/whole rw - cgroup cgroup rw,memory\n"
    for order in (bind + other + whole, whole + other + bind):
        assert folders(DOCKER_V1_CGROUP, order)[0] == Path("/mnt/own")


def test_a_hierarchy_that_is_not_mounted() -> None:
    assert folders(V1_CGROUP, DOCKER_V2_MOUNTINFO) == []


@pytest.mark.parametrize(
    ("version", "text", "kills"),
    [
        (1, V1_OOM_CONTROL, 3),
        (1, V1_OOM_CONTROL_BEFORE_4_13, None),
        (2, V2_EVENTS, 5),
        (2, V2_EVENTS.replace("oom_kill 5\n", ""), None),
        (2, "oom_kill", None),
        (2, "oom_kill many\n", None),
        (2, "oom_kill 1 2\n", None),
        (2, "", None),
        (2, "\udcff\udcfe\0", None),
    ],
)
def test_oom_kills(version: cgroups.Version, text: str, kills: int | None, tmp_path: Path) -> None:
    cgroup = MemoryCgroup(version, tmp_path)
    assert cgroup.oom_kills() is None
    cgroup.events.write_text(text, errors="surrogateescape")
    assert cgroup.oom_kills() == kills


def test_the_machines_oom_kills(tmp_path: Path) -> None:
    assert cgroups.machine_oom_kills(proc=tmp_path) is None
    (tmp_path / "vmstat").write_text(VMSTAT)
    assert cgroups.machine_oom_kills(proc=tmp_path) == 19


def recorded_proc(tmp_path: Path, cgroup: str, mountinfo: str) -> Path:
    """Create a /proc with the process 41, whose cgroup mount points are in `tmp_path`."""
    proc = tmp_path / "proc"
    write(proc / "41/cgroup", cgroup)
    write(proc / "self/mountinfo", mountinfo.replace("/sys/fs/cgroup", f"{tmp_path}/cgroup"))
    return proc


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_processs_own_cgroup_is_found(tmp_path: Path) -> None:
    proc = recorded_proc(tmp_path, V1_CGROUP, V1_MOUNTINFO)
    memory = tmp_path / "cgroup/memory"
    own = MemoryCgroup(1, memory / "process_api/19196ccb61c2")
    write(memory / "memory.oom_control", "oom_kill 100\n")
    write(own.events, V1_OOM_CONTROL)
    assert cgroups.of_process(41, proc=proc) == own
    assert own.oom_kills() == 3


def test_a_hidden_path_falls_back_to_the_root_of_the_mount(tmp_path: Path) -> None:
    proc = recorded_proc(tmp_path, V1_CGROUP, V1_MOUNTINFO)
    root = MemoryCgroup(1, tmp_path / "cgroup/memory")
    write(root.events, V1_OOM_CONTROL)
    assert cgroups.of_process(41, proc=proc) == root


def test_a_v2_cgroup_without_the_controller_is_accounted_above(tmp_path: Path) -> None:
    proc = recorded_proc(tmp_path, V2_CGROUP, V2_MOUNTINFO)
    user = tmp_path / "cgroup/user.slice/user-1000.slice"
    (user / "user@1000.service/app.slice/vte-spawn.scope").mkdir(parents=True)
    above = MemoryCgroup(2, user / "user@1000.service")
    write(above.events, V2_EVENTS)
    write(user / "memory.events", V2_EVENTS)
    assert cgroups.of_process(41, proc=proc) == above


def test_a_root_cgroup_on_v2_accounts_nothing(tmp_path: Path) -> None:
    proc = recorded_proc(tmp_path, "0::/\n", V2_MOUNTINFO)
    (tmp_path / "cgroup").mkdir()
    assert cgroups.of_process(41, proc=proc) is None


@pytest.mark.parametrize("missing", ["41/cgroup", "self/mountinfo"])
def test_missing_files_are_ignored(tmp_path: Path, missing: str) -> None:
    proc = recorded_proc(tmp_path, V1_CGROUP, V1_MOUNTINFO)
    write(tmp_path / "cgroup/memory/memory.oom_control", V1_OOM_CONTROL)
    assert cgroups.of_process(41, proc=proc) is not None
    (proc / missing).unlink()
    assert cgroups.of_process(41, proc=proc) is None


@on_linux
def test_a_real_process_that_is_gone_has_no_cgroup() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(60)
    assert cgroups.of_process(process.pid) is None


@on_linux
def test_the_counts_of_this_machine_are_plausible() -> None:
    cgroup = cgroups.of_process(os.getpid())
    counts = [cgroup.oom_kills() if cgroup else None, cgroups.machine_oom_kills()]
    for count in counts:
        assert count is None or count >= 0


NO_V1_LIMIT = 9223372036854771712


def v1(
    limit: int, used: int, active: int = 0, inactive: int = 0, swapped: int = 0
) -> dict[str, object]:
    """Return the files of a v1 cgroup; ``limit`` is the lowest of all above, as in memory.stat."""
    return {
        "memory.limit_in_bytes": NO_V1_LIMIT,
        "memory.usage_in_bytes": used,
        "memory.stat": f"active_file 1\ninactive_file 1\nhierarchical_memory_limit {limit}\n"
        f"total_swap {swapped}\ntotal_inactive_file {inactive}\ntotal_active_file {active}",
    }


def v2(
    limit: object, used: int, active: int = 0, inactive: int = 0, swapped: int = 0
) -> dict[str, object]:
    return {
        "memory.max": limit,
        "memory.current": used,
        "memory.stat": f"anon {used}\ninactive_file {inactive}\nactive_file {active}",
        "memory.swap.current": swapped,
    }


def write_all(folder: Path, files: dict[str, object]) -> None:
    for name, text in files.items():
        write(folder / name, f"{text}\n")


@pytest.mark.parametrize(
    ("files", "room"),
    [
        (v1(1000, 300), Room(1000, 700, 0)),
        (v1(1000, 900, active=200, inactive=300), Room(1000, 600, 0)),
        (v1(1000, 1000, swapped=50), Room(1000, 0, 50)),
        (v1(1000, 1020), Room(1000, 0, 0)),  # the limit was lowered
        (v1(1000, 300, active=400), Room(1000, 1000, 0)),  # read at different times
        (v1(NO_V1_LIMIT, 300), None),
        ({}, None),
        ({"memory.stat": "cache 5\nhierarchical_memory_limit 1000"}, Room(1000, 1000, None)),
    ],
)
def test_room_on_v1(tmp_path: Path, files: dict[str, object], room: Room | None) -> None:
    write_all(tmp_path, files)
    assert MemoryCgroup(1, tmp_path).room() == room


@pytest.mark.parametrize(
    ("above", "own", "room"),
    [
        (v2("max", 5000), v2(1000, 900, active=200, inactive=300), Room(1000, 600, 0)),
        (v2(2000, 1800), v2(1000, 300), Room(1000, 200, 0)),  # other cgroups use up the parent
        (v2(2000, 1000), v2("max", 300), Room(2000, 1000, 0)),
        (v2("max", 1000), v2("max", 300), None),
        ({}, v2(1000, 300), Room(1000, 700, 0)),  # the root cgroup has no such files
        ({}, v2(0, 300), Room(0, 0, 0)),
        (v2(2000, 90, swapped=70), v2(1000, 90, swapped=30), Room(1000, 910, 70)),
        (v2("max", 90, swapped=70), v2(1000, 90, swapped=30), Room(1000, 910, 30)),
    ],
)
def test_room_on_v2(
    tmp_path: Path, above: dict[str, object], own: dict[str, object], room: Room | None
) -> None:
    write_all(tmp_path, above)
    write_all(tmp_path / "own", own)
    assert MemoryCgroup(2, tmp_path / "own").room() == room


@pytest.mark.parametrize(
    ("above", "own", "together"),
    [
        ({}, {}, False),  # v1, or a kernel before 4.19
        ({"memory.oom.group": 0}, {"memory.oom.group": 0}, False),
        ({}, {"memory.oom.group": 1}, True),
        ({"memory.oom.group": 1}, {"memory.oom.group": 0}, True),
    ],
)
def test_what_the_oom_killer_kills_together(
    tmp_path: Path, above: dict[str, object], own: dict[str, object], together: bool
) -> None:
    write_all(tmp_path, above)
    write_all(tmp_path / "own", own)
    assert MemoryCgroup(2, tmp_path / "own").is_killed_as_a_whole() is together


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [(DOCKER_V2_CGROUP, True), (V2_CGROUP, False), (V1_CGROUP, False), ("", False)],
)
def test_the_root_of_a_cgroup_namespace(tmp_path: Path, cgroup: str, expected: bool) -> None:
    write(tmp_path / "self/cgroup", cgroup)
    assert cgroups.is_namespace_root(proc=tmp_path) is expected
