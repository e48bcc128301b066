"""Stand-ins for modules of mlx-lm: each exists, and becomes the real module when it is used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest

from worker import stand_ins

REAL = """
class Thing:
    size = 3

def double(number):
    return 2 * number
"""


@pytest.mark.parametrize("name", stand_ins.MODULES)
def test_each_replaced_module_exists(name: str) -> None:
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    assert found, f"mlx-lm no longer imports {name}: update MODULES in worker/stand_ins.py"


@pytest.fixture
def heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for a package that can be imported, too."""
    (tmp_path / "heavy").mkdir()
    (tmp_path / "heavy/__init__.py").write_text(REAL)
    (tmp_path / "heavy/part.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(stand_ins, "MODULES", ("heavy",))
    for name in ("heavy.part", "heavy"):
        monkeypatch.setitem(sys.modules, name, sys)  # so that it is removed after the test
        del sys.modules[name]
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    stand_ins.install()
    return importlib.import_module("heavy")


def is_real() -> bool:
    return sys.modules["heavy"].__spec__ is not None


def size_of_subclass(thing: Any) -> object:
    class Larger(thing):  # type: ignore[misc]
        pass

    return Larger().size


def test_importing_names_does_not_load_the_real_module(heavy: Any) -> None:
    names = [heavy.Thing, heavy.double, Optional[heavy.Thing]]  # noqa: UP045 - as in mlx-lm
    assert len({*names}) == 3
    assert not is_real()


@pytest.mark.parametrize(
    ("use", "result"),
    [
        (lambda heavy: heavy.double(2), 4),
        (lambda heavy: heavy.Thing().size, 3),
        (lambda heavy: heavy.Thing.size, 3),
        (lambda heavy: importlib.import_module("heavy.part").__name__, "heavy.part"),
        (lambda heavy: size_of_subclass(heavy.Thing), 3),
        (lambda heavy: isinstance(4, heavy.Thing), False),
        (lambda heavy: isinstance(heavy.Thing(), heavy.Thing), True),
        (lambda heavy: isinstance(None, heavy.Thing | None), True),
    ],
)
def test_using_a_name_loads_the_real_module(
    heavy: Any, use: Callable[[Any], object], result: object
) -> None:
    assert use(heavy) == result
    assert is_real()
