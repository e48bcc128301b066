"""Stand-ins for modules of mlx-lm: each exists, can be imported from, and refuses to be used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from worker import stand_ins


@pytest.mark.parametrize("name", stand_ins.MODULES)
def test_each_replaced_module_exists(name: str) -> None:
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    assert found, f"mlx-lm no longer imports {name}: update MODULES in worker/stand_ins.py"


@pytest.fixture
def make_mlx_lm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes another mlx-lm, with this code in its trainer, and a package that it imports."""
    monkeypatch.setattr(stand_ins, "MODULES", ("heavy",))
    monkeypatch.syspath_prepend(str(tmp_path))
    before = {**sys.modules}
    for name in before:
        if name.partition(".")[0] == "mlx_lm":
            del sys.modules[name]

    def make(trainer: str) -> None:
        (tmp_path / "mlx_lm/tuner").mkdir(parents=True)
        (tmp_path / "mlx_lm/__init__.py").touch()
        (tmp_path / "mlx_lm/tuner/__init__.py").touch()
        (tmp_path / "mlx_lm/tuner/trainer.py").write_text(trainer)
        (tmp_path / "heavy").mkdir()
        (tmp_path / "heavy/__init__.py").write_text("from heavy.part import Thing")
        (tmp_path / "heavy/part.py").write_text("class Thing:\n    size = 3")
        importlib.invalidate_caches()
        stand_ins.import_mlx_lm()

    yield make
    sys.modules.clear()
    sys.modules.update(before)


def trainer() -> Any:
    return importlib.import_module("mlx_lm.tuner.trainer")


def test_names_can_be_imported_and_annotate(make_mlx_lm: Callable[[str], None]) -> None:
    make_mlx_lm(
        "from heavy import Thing, Other\ndef find(a: Thing | None, b: Other): ...\n"
        "def is_thing(a): return isinstance(a, Thing)"
    )
    assert trainer().is_thing(1) is False
    assert "heavy.part" not in sys.modules


@pytest.mark.parametrize("use", ["Thing()", "Thing.size"])
def test_using_a_stand_in_is_an_error_that_names_it(
    make_mlx_lm: Callable[[str], None], use: str
) -> None:
    make_mlx_lm(f"from heavy import Thing\ndef use(): return {use}")
    with pytest.raises(stand_ins.StandInError, match=r"heavy\.Thing"):
        trainer().use()


@pytest.mark.parametrize(
    "code", ["from heavy import Thing\nsize = Thing.size", "from heavy.part import Thing"]
)
def test_an_mlx_lm_that_needs_a_replaced_module_is_imported_whole(
    make_mlx_lm: Callable[[str], None], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A newer version must not break every trial."""
    make_mlx_lm(code)
    assert trainer().Thing.size == 3
    assert "heavy" in capsys.readouterr().err
