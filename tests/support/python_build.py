"""This Python as an archive that uv installs, in place of the builds that it downloads."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import sysconfig
import tarfile
from pathlib import Path

RELEASE = "20261110"
SOURCE = "https://github.com/astral-sh/python-build-standalone/releases/download"
LEFT_OUT = {"site-packages", "dist-packages", "test", "idlelib", "tkinter", "__pycache__"}


def make_mirror(folder: Path) -> dict[str, str]:
    """Write the archive and uv's list of downloads; return the variables that lead uv to them."""
    version, machine = platform.python_version(), platform.machine()
    archive = f"cpython-{version}+{RELEASE}-{machine}-unknown-linux-gnu-install_only.tar.gz"
    path = folder / RELEASE / archive
    path.parent.mkdir(parents=True)
    _pack(path)
    major, minor, patch = map(int, platform.python_version_tuple())
    download = {
        "name": "cpython",
        "arch": {"family": machine, "variant": None},
        "os": "linux",
        "libc": "gnu",
        "major": major,
        "minor": minor,
        "patch": patch,
        "prerelease": "",
        "url": f"{SOURCE}/{RELEASE}/{archive.replace('+', '%2B')}",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "variant": None,
        "build": RELEASE,
    }
    downloads = folder / "downloads.json"
    downloads.write_text(json.dumps({f"cpython-{version}-linux-{machine}-gnu": download}))
    return {
        "UV_PYTHON_INSTALL_MIRROR": folder.as_uri(),
        "UV_PYTHON_DOWNLOADS_JSON_URL": downloads.as_uri(),
    }


def _pack(path: Path) -> None:
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = Path(sys.base_prefix) / "bin" / name
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(interpreter.resolve(), f"python/bin/{name}")
        archive.add(sysconfig.get_path("stdlib"), f"python/lib/{name}", filter=_needed)


def _needed(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = Path(member.name).parts
    is_static_library = any(part.startswith("config-") for part in parts)
    return None if is_static_library or LEFT_OUT.intersection(parts) else member
