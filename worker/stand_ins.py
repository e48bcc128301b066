"""Stand-ins for modules that mlx-lm imports at its top and a trial never uses.

They let a worker start in a fraction of the time. Behind these modules is transformers, which takes
0.6 s to import, and 9 to 15 s if PyTorch is installed.

tests/process/test_stand_ins.py shows that no trial uses them. If another version of mlx-lm does,
the worker imports the real modules at that moment: it is slower, but measures the same.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
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


class _StandIn(ModuleType):
    """A module from which any name can be imported."""

    def __getattr__(self, name: str) -> _Deferred:
        if name.startswith("__"):  # the import system looks for its own attributes
            raise AttributeError(name)
        return _Deferred(self.__name__, name)


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
        if isinstance(sys.modules.get(self.module), _StandIn):
            print(f"mlx-lm uses {self.module}.{self.name}, so it is imported now", file=sys.stderr)
        for name in MODULES:  # the real modules import each other
            if isinstance(sys.modules.get(name), _StandIn):
                del sys.modules[name]
        return getattr(importlib.import_module(self.module), self.name)
