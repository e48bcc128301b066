"""Stand-ins for modules that mlx-lm imports at its top and a trial never uses.

They let a worker start in a fraction of the time. Behind these modules is transformers, which takes
0.6 s to import, and 9 to 15 s if PyTorch is installed.

tests/process/test_stand_ins.py shows that no trial uses them. If another version of mlx-lm does,
the worker imports the real modules at that moment: it is slower, but measures the same.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES = (
    "huggingface_hub",
    "mlx_lm.cli_ui",
    "mlx_lm.convert",
    "mlx_lm.generate",
    "mlx_lm.tokenizer_utils",
    "mlx_lm.tuner.callbacks",
    "mlx_lm.tuner.datasets",
)
"""What mlx-lm uses for downloads, the terminal, conversion, generation, tokenizers, reports (it
imports wandb and swanlab if they are installed) and data."""


def install() -> None:
    """Replace `MODULES` in this process. Must be called before mlx-lm is imported."""
    sys.modules.update({name: _StandIn(name) for name in MODULES})
    sys.meta_path.insert(0, _SubmoduleFinder())


def _import_real(name: str, reason: str) -> ModuleType:
    """Return the module that a stand-in replaces. All of them go, as they import each other."""
    stand_ins = [each for each in MODULES if isinstance(sys.modules.get(each), _StandIn)]
    if name in stand_ins:
        print(f"{reason} is used, so {', '.join(stand_ins)} are imported now", file=sys.stderr)
    for each in stand_ins:
        del sys.modules[each]
    return importlib.import_module(name)


class _StandIn(ModuleType):
    """A module from which any name can be imported."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []  # it may be a package; see `_SubmoduleFinder`

    def __getattr__(self, name: str) -> _Deferred:
        if name.startswith("__"):  # the import system looks for its own attributes
            raise AttributeError(name)
        return _Deferred(self.__name__, name)


class _SubmoduleFinder(MetaPathFinder):
    """Imports the real package if a submodule of a stand-in is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package = fullname.rpartition(".")[0]
        if not isinstance(sys.modules.get(package), _StandIn):
            return None
        _import_real(package, fullname)
        return importlib.util.find_spec(fullname)


@dataclass(frozen=True, slots=True)
class _Deferred:
    """A class or function in a stand-in. Its first use imports the real modules."""

    module: str
    name: str

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._real()(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # typing looks for its own attributes
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self._real())

    def __mro_entries__(self, _: tuple[Any, ...]) -> tuple[Any, ...]:  # for a subclass
        return (self._real(),)

    def __or__(self, other: Any) -> Any:  # in an annotation
        return self._real() | other

    def _real(self) -> Any:
        return getattr(_import_real(self.module, f"{self.module}.{self.name}"), self.name)
