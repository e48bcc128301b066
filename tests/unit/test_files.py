"""Writing files atomically."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from worker import durable
from your_ai.errors import UsageError
from your_ai.files import check_writable, refuse_to_replace, to_json, write_atomically

# Writes until it is killed in the middle of the content: SIGXFSZ, which RLIMIT_FSIZE sends, kills a
# process that does not ignore it. Python ignores it by default.
KILLED_WHILE_WRITING = """
import resource, signal, sys
from pathlib import Path
from your_ai.files import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
write_atomically(Path(sys.argv[1]), b"new" * 10_000)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_is_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / "out.json", b"content")
    assert (tmp_path / "out.json").read_bytes() == b"content"
    assert names(tmp_path) == ["out.json"]


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_bytes(b"old and longer")
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"old and longer"  # a reader keeps the old file
    assert path.read_bytes() == b"new"


def test_a_crash_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], check=False)
    assert killed.returncode < 0
    assert path.read_bytes() == b"old"


def test_an_error_while_writing_keeps_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    program = KILLED_WHILE_WRITING.replace("signal.SIG_DFL", "signal.SIG_IGN")
    failed = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert "File too large" in failed.stderr
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["out.json"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_usual_permissions(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "out.json", b"x")
        assert os.umask(umask) == umask  # the umask is unchanged
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.json").stat().st_mode) == mode


def test_a_umask_that_forbids_reading_does_not_prevent_writing() -> None:
    user, umask = os.geteuid(), os.umask(0)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        try:
            if user == 0:  # root may read every file
                os.seteuid(65534)
            os.umask(0o777)
            write_atomically(Path(folder) / "out.json", b"x")
        finally:
            os.umask(umask)
            os.seteuid(user)
        assert stat.S_IMODE((Path(folder) / "out.json").stat().st_mode) == 0
        assert (user != 0) or (Path(folder) / "out.json").read_bytes() == b"x"


def test_a_folder_that_cannot_be_flushed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(durable, "sync_folder", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_atomically(tmp_path / "out.json", b"new")
    assert (tmp_path / "out.json").read_bytes() == b"new"  # whole, but not known to be on the disk
    assert names(tmp_path) == ["out.json"]


def test_a_symbolic_link_is_kept_and_its_target_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "real.json", tmp_path / "link.json"
    for old_content in (b"old", None):
        target.unlink(missing_ok=True)
        if old_content is not None:
            target.write_bytes(old_content)
        link.unlink(missing_ok=True)
        link.symlink_to("folder/real.json")
        check_writable(link)
        write_atomically(link, b"new")
        assert link.is_symlink()
        assert target.read_bytes() == b"new"
    assert names(tmp_path / "folder") == ["real.json"]


def test_a_device_is_written_and_not_replaced() -> None:
    check_writable(Path("/dev/null"))
    write_atomically(Path("/dev/null"), b"x")
    assert Path("/dev/null").is_char_device()


def test_writing_to_a_full_device_fails() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    check_writable(Path("/dev/full"))
    with pytest.raises(OSError, match="No space left"):
        write_atomically(Path("/dev/full"), b"x")
    assert Path("/dev/full").is_char_device()


def test_standard_output_can_be_a_pipe_or_a_file(
    tmp_path: Path,
) -> None:
    program = (
        "from pathlib import Path; from your_ai.files import *\n"
        "out = Path('/dev/stdout'); check_writable(out); write_atomically(out, b'content')"
    )
    command = [sys.executable, "-c", program]
    link = Path("/dev/stdout").readlink()
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"content"
    if sys.platform != "linux":
        return  # on other systems /dev/stdout does not resolve to the file
    with (tmp_path / "out.json").open("wb") as file:
        subprocess.run(command, stdout=file, check=True)
    assert (tmp_path / "out.json").read_bytes() == b"content"
    assert Path("/dev/stdout").readlink() == link


def test_a_named_pipe_is_refused_and_not_opened(tmp_path: Path) -> None:
    """To open it would wait for a reader, perhaps for ever."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(UsageError, match=r"it is a named pipe\. Choose a file"):
            check_writable(tmp_path / name)


def test_a_process_substitution_is_written() -> None:
    program = (
        "import sys; from pathlib import Path; from your_ai.files import *\n"
        "out = Path(sys.argv[1]); check_writable(out); write_atomically(out, b'content')"
    )
    command = f'{sys.executable} -c "$0" >(cat)'
    done = subprocess.run(["bash", "-c", command, program], capture_output=True, check=True)
    assert done.stdout == b"content"


def test_a_name_of_maximum_length_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    check_writable(path)
    write_atomically(path, b"x")
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("folder", "it is a folder"),
        (".", "it is a folder"),
        ("missing/out.json", "its folder does not exist"),
        ("file/out.json", "Not a directory"),
        ("x" * 256, "File name too long"),
        ("/proc/out.json", ""),
    ],
)
def test_an_unwritable_path_is_refused(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=f"Cannot write .*{reason}"):
        check_writable(tmp_path / path)
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_check_writable_rejects_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="Permission denied"):
        check_writable(tmp_path / "out.json")


def test_checking_a_path_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    check_writable(path)
    assert names(tmp_path) == []
    path.write_bytes(b"old")
    check_writable(path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["out.json"]


def test_json_is_indented_and_ends_with_a_newline() -> None:
    assert to_json({"a": [1, "é"]}) == '{\n  "a": [\n    1,\n    "é"\n  ]\n}\n'.encode()


class Color(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Paint:
    color: Color
    name: str
    parts: tuple[Any, ...] = ()


def test_dataclasses_and_enums_are_serialized() -> None:
    written = to_json({"paint": Paint(Color.RED, "a", (Paint(Color.RED, "b"), math.nan))})
    inner = {"color": "red", "name": "b", "parts": []}
    expected = {"paint": {"color": "red", "name": "a", "parts": [inner, None]}}
    assert json.loads(written) == expected


def test_invalid_utf8_is_replaced() -> None:
    """A path that is not UTF-8 must not prevent the results from being written."""
    path = os.fsdecode(b"/caf\xe9")
    written = to_json(Paint(Color.RED, path, ({"é": [path, 1.5]}, Paint(Color.RED, path))))
    assert json.loads(written) == {
        "color": "red",
        "name": "/caf?",
        "parts": [{"é": ["/caf?", 1.5]}, {"color": "red", "name": "/caf?", "parts": []}],
    }


def test_a_value_that_json_cannot_represent_is_an_error() -> None:
    with pytest.raises(TypeError):
        to_json({"a": object()})


def test_input_files_are_not_overwritten(tmp_path: Path) -> None:
    results, other = tmp_path / "results.json", tmp_path / "other.json"
    results.touch()
    refuse_to_replace(other, results, tmp_path, results / "results.json")
    (tmp_path / "link.html").symlink_to(results)
    for target in (results, tmp_path / "link.html"):
        with pytest.raises(UsageError, match="is also the input file; choose"):
            refuse_to_replace(target, tmp_path, tmp_path / "results.json")
