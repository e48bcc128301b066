"""Finding and reading the kernel's OOM counts: recorded /proc texts, and this machine's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from your_ai.system import cgroups
from your_ai.system.cgroups import CgroupMount, Membership

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a Linux /proc")

# Ubuntu 18.04's set-up: v1 controllers, several to a mount, and a v2 hierarchy without controllers.
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

SESSION = PurePosixPath("/user.slice/user-1000.slice/session-3.scope")

# A Firecracker guest: v1 with one controller a mount, no optional fields in mountinfo.
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

# A Docker container on v1 without a cgroup namespace: the host's path, of which the mount's root
# is the whole.
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


def candidates(cgroup: str, mountinfo: str) -> tuple[Path, ...]:
    membership = cgroups.parse_membership(cgroup)
    assert membership is not None
    return cgroups.counter_candidates(membership, cgroups.parse_mounts(mountinfo))


@pytest.mark.parametrize(
    ("text", "membership"),
    [
        (HYBRID_CGROUP, Membership(1, SESSION)),
        (V1_CGROUP, Membership(1, PurePosixPath("/process_api/19196ccb61c2"))),
        ("0::/\n4:memory:/late\n", Membership(1, PurePosixPath("/late"))),
        ("4:cpu,memory:/joint\n", Membership(1, PurePosixPath("/joint"))),
        ("4:memory:/odd:name\n0::/\n", Membership(1, PurePosixPath("/odd:name"))),
        ("1:name=memory:/named\n0::/unified\n", Membership(2, PurePosixPath("/unified"))),
        (DOCKER_V2_CGROUP, Membership(2, PurePosixPath("/"))),
        ("5:cpu:/only\n", None),
        ("", None),
        ("nonsense\n\n::\n", None),
    ],
)
def test_membership(text: str, membership: Membership | None) -> None:
    assert cgroups.parse_membership(text) == membership


def test_the_mounts_of_a_hybrid_system() -> None:
    assert cgroups.parse_mounts(HYBRID_MOUNTINFO) == (
        CgroupMount(2, PurePosixPath("/"), Path("/sys/fs/cgroup/unified")),
        CgroupMount(1, PurePosixPath("/"), MEMORY),
    )


def test_mounts_without_optional_fields() -> None:
    assert CgroupMount(1, PurePosixPath("/"), MEMORY) in cgroups.parse_mounts(V1_MOUNTINFO)


def test_a_mount_point_with_a_space() -> None:
    line = r"1 2 0:3 /a\040b /mnt/c\134d\040e rw - cgroup2 none rw"
    assert cgroups.parse_mounts(line) == (
        CgroupMount(2, PurePosixPath("/a b"), Path("/mnt/c\\d e")),
    )


@pytest.mark.parametrize("text", ["", "\n", "31 23 0:28", "a b c d e - cgroup2", " - cgroup2 x rw"])
def test_text_that_is_no_mountinfo(text: str) -> None:
    assert cgroups.parse_mounts(text) == ()


def test_the_counter_on_v1() -> None:
    own, root = candidates(V1_CGROUP, V1_MOUNTINFO)
    assert own == MEMORY / "process_api/19196ccb61c2/memory.oom_control"
    assert root == MEMORY / "memory.oom_control"


def test_the_counter_on_a_hybrid_system_is_v1s() -> None:
    own, _ = candidates(HYBRID_CGROUP, HYBRID_MOUNTINFO)
    assert own == MEMORY / "user.slice/user-1000.slice/session-3.scope/memory.oom_control"


def test_the_counter_on_v2_may_be_that_of_the_nearest_cgroup_above() -> None:
    user = UNIFIED / "user.slice/user-1000.slice/user@1000.service"
    assert candidates(V2_CGROUP, V2_MOUNTINFO) == (
        user / "app.slice/vte-spawn.scope/memory.events",
        user / "app.slice/memory.events",
        user / "memory.events",
        UNIFIED / "user.slice/user-1000.slice/memory.events",
        UNIFIED / "user.slice/memory.events",
        UNIFIED / "memory.events",
    )


def test_the_counter_in_a_container_whose_mount_shows_a_part() -> None:
    assert candidates(DOCKER_V1_CGROUP, DOCKER_V1_MOUNTINFO) == (MEMORY / "memory.oom_control",)


def test_the_counter_in_a_container_with_a_namespace() -> None:
    assert candidates(DOCKER_V2_CGROUP, DOCKER_V2_MOUNTINFO) == (UNIFIED / "memory.events",)


def test_a_path_that_the_mount_does_not_contain_falls_back_to_its_root() -> None:
    # The namespace was entered without mounting anew: the mount's root is above what is shown.
    mountinfo = "9 8 0:29 /.. /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
    assert candidates("0::/job\n", mountinfo) == (UNIFIED / "memory.events",)


def test_a_process_outside_of_the_namespace_cannot_be_seen() -> None:
    assert candidates("0::/../sibling\n", DOCKER_V2_MOUNTINFO) == ()


def test_the_closest_of_several_mounts_is_used() -> None:
    bind = "77 70 0:31 /docker/7c4a2f /mnt/own rw - cgroup cgroup rw,memory\n"
    other = "78 70 0:31 /docker/other /mnt/other rw - cgroup cgroup rw,memory\n"
    whole = "79 70 0:31 / /mnt/whole rw - cgroup cgroup rw,memory\n"
    for order in (bind + other + whole, whole + other + bind):
        assert candidates(DOCKER_V1_CGROUP, order)[0] == Path("/mnt/own/memory.oom_control")


def test_a_hierarchy_that_is_not_mounted() -> None:
    assert candidates(V1_CGROUP, DOCKER_V2_MOUNTINFO) == ()


@pytest.mark.parametrize(
    ("text", "kills"),
    [
        (V1_OOM_CONTROL, 3),
        (V1_OOM_CONTROL_BEFORE_4_13, None),
        (V2_EVENTS, 5),
        (V2_EVENTS.replace("oom_kill 5\n", ""), None),
        (VMSTAT, 19),
        ("oom_kill", None),
        ("oom_kill many\n", None),
        ("oom_kill 1 2\n", None),
        ("", None),
    ],
)
def test_oom_kills(text: str, kills: int | None) -> None:
    assert cgroups.parse_oom_kills(text) == kills


def recorded_proc(tmp_path: Path, cgroup: str, mountinfo: str) -> Path:
    """A /proc with one process, 41, whose cgroup mount points lie in `tmp_path`."""
    proc = tmp_path / "proc"
    (proc / "41").mkdir(parents=True)
    (proc / "self").mkdir()
    (proc / "41/cgroup").write_text(cgroup)
    (proc / "self/mountinfo").write_text(mountinfo.replace("/sys/fs/cgroup", f"{tmp_path}/cgroup"))
    return proc


def counter(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_existing_counter_is_found_and_read(tmp_path: Path) -> None:
    proc = recorded_proc(tmp_path, V1_CGROUP, V1_MOUNTINFO)
    memory = tmp_path / "cgroup/memory"
    counter(memory / "memory.oom_control", "oom_kill 100\n")
    own = counter(memory / "process_api/19196ccb61c2/memory.oom_control", V1_OOM_CONTROL)
    assert cgroups.oom_counter_path(41, proc=proc) == own
    assert cgroups.read_oom_kills(own) == 3


def test_a_path_hidden_by_a_namespace_leads_to_the_mounts_root(tmp_path: Path) -> None:
    proc = recorded_proc(tmp_path, V1_CGROUP, V1_MOUNTINFO)
    root = counter(tmp_path / "cgroup/memory/memory.oom_control", V1_OOM_CONTROL)
    assert cgroups.oom_counter_path(41, proc=proc) == root


def test_a_v2_cgroup_without_the_controller_is_counted_above(tmp_path: Path) -> None:
    proc = recorded_proc(tmp_path, V2_CGROUP, V2_MOUNTINFO)
    user = tmp_path / "cgroup/user.slice/user-1000.slice"
    (user / "user@1000.service/app.slice/vte-spawn.scope").mkdir(parents=True)
    above = counter(user / "user@1000.service/memory.events", V2_EVENTS)
    counter(user / "memory.events", V2_EVENTS)
    assert cgroups.oom_counter_path(41, proc=proc) == above
    assert cgroups.read_oom_kills(above) == 5


def test_a_root_cgroup_on_v2_has_no_counter(tmp_path: Path) -> None:
    proc = recorded_proc(tmp_path, "0::/\n", V2_MOUNTINFO)
    (tmp_path / "cgroup").mkdir()
    assert cgroups.oom_counter_path(41, proc=proc) is None


@pytest.mark.parametrize("missing", ["41/cgroup", "self/mountinfo"])
def test_missing_files_are_no_error(tmp_path: Path, missing: str) -> None:
    proc = recorded_proc(tmp_path, V1_CGROUP, V1_MOUNTINFO)
    (proc / missing).unlink()
    assert cgroups.oom_counter_path(41, proc=proc) is None


def test_a_proc_without_memory_cgroups(tmp_path: Path) -> None:
    proc = recorded_proc(tmp_path, "5:cpu:/\n", V1_MOUNTINFO)
    assert cgroups.oom_counter_path(41, proc=proc) is None


def test_a_counter_that_is_gone_or_unreadable(tmp_path: Path) -> None:
    assert cgroups.read_oom_kills(tmp_path / "gone") is None
    assert cgroups.read_oom_kills(tmp_path) is None
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\xff\xfe\x00")
    assert cgroups.read_oom_kills(garbage) is None


def test_the_machines_count(tmp_path: Path) -> None:
    assert cgroups.machine_oom_kills(proc=tmp_path) is None
    (tmp_path / "vmstat").write_text(VMSTAT)
    assert cgroups.machine_oom_kills(proc=tmp_path) == 19


@on_linux
def test_a_real_process_that_is_gone_has_no_counter() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(60)
    assert cgroups.oom_counter_path(process.pid) is None


@on_linux
def test_this_machines_own_answers_are_counts_or_nothing() -> None:
    path = cgroups.oom_counter_path(os.getpid())
    kills = None if path is None else cgroups.read_oom_kills(path)
    assert kills is None or kills >= 0
    machine = cgroups.machine_oom_kills()
    assert machine is None or machine >= 0


def test_a_v1_limit_is_the_least_of_all_above(tmp_path: Path) -> None:
    proc = recorded_proc(tmp_path, V1_CGROUP, V1_MOUNTINFO)
    own = tmp_path / "cgroup/memory/process_api/19196ccb61c2"
    counter(own / "memory.oom_control", V1_OOM_CONTROL)
    assert cgroups.memory_limit(41, proc=proc) is None
    counter(own / "memory.stat", "cache 5\nhierarchical_memory_limit 268435456\nrss 7\n")
    assert cgroups.memory_limit(41, proc=proc) == 268435456


def test_a_v2_limit_may_be_set_above(tmp_path: Path) -> None:
    proc = recorded_proc(tmp_path, V2_CGROUP, V2_MOUNTINFO)
    own = tmp_path / "cgroup/user.slice/user-1000.slice/user@1000.service"
    counter(own / "memory.events", V2_EVENTS)
    counter(own / "memory.max", "max\n")
    assert cgroups.memory_limit(41, proc=proc) is None
    counter(own.parent / "memory.max", "4294967296\n")
    assert cgroups.memory_limit(41, proc=proc) == 4294967296
