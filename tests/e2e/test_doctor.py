"""``your_ai doctor`` and ``your_ai models``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.command import environment, make_model, your_ai_command
from tests.support.disks import small_disk


def test_all_checks_pass_on_a_machine_that_can_run_trials(tmp_path: Path) -> None:
    done = your_ai_command(tmp_path, "doctor")
    assert (done.code, done.stderr) == (0, ""), done.stdout
    lines = [line for line in done.stdout.splitlines() if not line.startswith("    ")]
    assert [line[2:].partition(" ")[0] for line in lines] == [
        *("your_ai", "Disk", "Disk", "Device:", "Memory:", "Budget:", "Trial"),
    ]
    assert {line[0] for line in lines} <= {"✓", "!"}
    assert lines[-1].startswith("✓ Trial of smoke-tiny: pass in ")


def test_a_broken_mlx_is_shown_with_the_command_to_install_it(tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "mlx"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('libmlx.so is not there')\n")
    path = f"{broken.parent}{os.pathsep}{environment(tmp_path)['PYTHONPATH']}"
    done = your_ai_command(tmp_path, "doctor", env={"PYTHONPATH": path})
    assert (done.code, done.stderr) == (3, "")
    last = done.stdout.splitlines()[-1]
    assert last.startswith("✗ MLX does not work (ImportError: libmlx.so is not there).")
    assert "Install it with: " in last


@pytest.mark.root
def test_a_read_only_disk_is_an_error(tmp_path: Path) -> None:
    with small_disk(tmp_path / "home", "size=1m,ro") as home:
        done = your_ai_command(tmp_path, "doctor", home=home)
    assert done.code == 3
    assert f"✗ Disk for the runs: {home} is not writable\n" in done.stdout


def test_models_lists_presets_and_whether_they_are_downloaded(tmp_path: Path) -> None:
    done = your_ai_command(tmp_path, "models", home=tmp_path)
    assert (done.code, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["llama-8b", "8B", "32", "8B", "not", "downloaded"] in [line[:6] for line in lines]
    assert ["smoke-tiny", "263K", "4", "263K", "synthetic", "–"] in lines
    snapshot = tmp_path / "hf/hub/models--mlabonne--Meta-Llama-3.1-8B-Instruct-abliterated"
    make_model(snapshot / "snapshots" / "0123456789abcdef0123456789abcdef01234567")
    assert your_ai_command(tmp_path, "models", home=tmp_path).stdout == done.stdout
    (next(snapshot.glob("snapshots/*")) / "model.safetensors").write_bytes(
        b"\x02\0\0\0\0\0\0\0{}"  # a header of two bytes and no tensors
    )
    again = your_ai_command(tmp_path, "models", home=tmp_path).stdout.splitlines()
    (words,) = [line.split() for line in again if line.split()[:1] == ["llama-8b"]]
    assert words[4:5] == ["downloaded"]
