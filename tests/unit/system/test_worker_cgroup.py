"""Creating a worker's cgroup on v2, from recorded files. tests/process uses real cgroups."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from your_ai.system import cgroups, worker_cgroup
from your_ai.system.cgroups import MemoryCgroup
from your_ai.units import MB

ME = os.getpid()


class Container:
    """The files of a container's cgroup, of 1000 MB. Plain files, so no process really moves."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.place = folder
        self.is_root = True
        self.write("memory.max", 1000 * MB)
        self.write("memory.current", 300 * MB)
        self.write("memory.stat", "inactive_file 0\nactive_file 0")
        self.write("memory.events", "oom_kill 0")
        self.write("cgroup.procs", ME)
        self.write("cgroup.subtree_control", "")
        monkeypatch.setattr(cgroups, "of_process", lambda _: MemoryCgroup(2, self.place))
        monkeypatch.setattr(cgroups, "is_namespace_root", lambda: self.is_root)

    def write(self, name: str, text: object) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{text}\n")

    def read(self, name: str) -> str:
        return (self.folder / name).read_text().strip()

    @property
    def children(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if path.is_dir()}


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    return Container(tmp_path, monkeypatch)


def test_parent_and_worker_get_cgroups_of_their_own(container: Container) -> None:
    with worker_cgroup.created() as cgroup:
        assert cgroup is not None
        assert cgroup.folder.parent == container.folder
        assert (cgroup.folder / "memory.max").read_text() == str(700 * MB - 128 * MB)
        assert (cgroup.folder / "memory.oom.group").read_text() == "1"
    assert container.read("your_ai-parent/cgroup.procs") == str(ME)
    assert container.read("cgroup.subtree_control") == "+memory"


def test_the_parent_moves_only_once(container: Container) -> None:
    container.place, container.is_root = container.folder / worker_cgroup.OURS, False
    container.write("your_ai-parent/cgroup.procs", ME)
    container.write("cgroup.procs", "")
    with worker_cgroup.created() as cgroup:
        assert cgroup is not None
        assert cgroup.folder.parent == container.folder
    assert container.read("cgroup.procs") == ""


def nothing_is_created(container: Container) -> bool:
    with worker_cgroup.created() as cgroup:
        return (cgroup, container.children) == (None, set())


def test_nothing_is_created_outside_a_container(container: Container) -> None:
    container.is_root = False
    assert nothing_is_created(container)


def test_nothing_is_created_without_a_limit(container: Container) -> None:
    container.write("memory.max", "max")
    assert nothing_is_created(container)


def test_child_processes_move_with_their_parent(container: Container) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        container.write("cgroup.procs", f"{child.pid}\n{ME}")
        assert not nothing_is_created(container)
    # Each write replaced the one before, since this is a plain file.
    assert int(container.read("your_ai-parent/cgroup.procs")) in (ME, child.pid)


def test_other_processes_are_not_moved(container: Container) -> None:
    container.write("cgroup.procs", f"1\n{ME}")
    assert nothing_is_created(container)


def test_nothing_is_created_in_a_cgroup_that_is_not_ours(container: Container) -> None:
    container.write("cgroup.procs", 1)
    assert nothing_is_created(container)


def test_the_parent_moves_back_if_the_controller_cannot_be_enabled(container: Container) -> None:
    (container.folder / "cgroup.subtree_control").unlink()
    (container.folder / "cgroup.subtree_control").mkdir()  # cannot be written
    (container.folder / "cgroup.procs").write_text(f"{ME}")
    with worker_cgroup.created() as cgroup:
        assert cgroup is None
    assert container.read("cgroup.procs") == str(ME)


def test_only_cgroups_of_dead_processes_are_removed(container: Container) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(60)
    left, ours, used = (f"your_ai-worker-{pid}-x" for pid in (dead.pid, ME, os.getppid()))
    for name in (left, ours, used, "unrelated"):
        (container.folder / name).mkdir()
    with worker_cgroup.created():
        assert {left, ours} & container.children == set()
        assert {used, "unrelated"} <= container.children
