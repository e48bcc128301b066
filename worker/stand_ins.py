"""Stand-ins for modules that mlx-lm imports at its top and a trial never uses.

They let a worker start in a fraction of the time. Behind these modules is transformers, which takes
0.6 s to import, and 9 to 15 s if PyTorch is installed.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import NoReturn

MODULES = (
    "huggingface_hub",
    "mlx_lm.cli_ui",
    "mlx_lm.convert",
    "mlx_lm.generate",
    "mlx_lm.tokenizer_utils",
    "mlx_lm.tuner.datasets",
)
"""What mlx-lm uses for downloads, the terminal, conversion, generation, tokenizers and data."""


class StandInError(RuntimeError):
    """The worker used something that it has not loaded."""


def install() -> None:
    """Replace `MODULES` in this process. Must be called before mlx-lm is imported.

    Any name can be imported from a stand-in. It is a class whose use raises StandInError.
    """
    sys.modules.update({name: _StandIn(name) for name in MODULES})


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):  # the import system looks for its own attributes
            raise AttributeError(name)
        return _Refusing(name, (), {"__module__": self.__name__})


class _Refusing(type):
    """The type of the classes in a stand-in."""

    def __call__(cls, *_: object, **__: object) -> NoReturn:
        cls._refuse()

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        cls._refuse()

    def _refuse(cls) -> NoReturn:
        raise StandInError(
            f"mlx-lm used {cls.__module__}.{cls.__name__}, which a trial does not load"
        )
