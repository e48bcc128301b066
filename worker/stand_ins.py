"""Stand-ins for modules that mlx-lm imports at its top and a trial never uses.

They let a worker start in a fraction of the time. Behind these modules is transformers, which takes
0.6 s to import, and 9 to 15 s if PyTorch is installed.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import NoReturn

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


class StandInError(RuntimeError):
    """mlx-lm used something that the worker has not loaded."""


def import_mlx_lm() -> None:
    """Import mlx-lm for this process, with stand-ins for `MODULES`.

    Any name can be imported from a stand-in. It is a class whose use raises StandInError. If a
    newer version of mlx-lm cannot be imported like that, the next import will load all of it.
    """
    sys.modules.update({name: _StandIn(name) for name in MODULES})
    try:
        importlib.import_module("mlx_lm.tuner.trainer")
    except Exception as error:  # noqa: BLE001 - trials must run, even if they start slowly
        print(f"Importing all of mlx-lm, because of: {error}", file=sys.stderr)
        for name in [*sys.modules]:
            if name in MODULES or name.partition(".")[0] == "mlx_lm":
                del sys.modules[name]


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
            f"mlx-lm uses {cls.__module__}.{cls.__name__}, which your_ai does not load for a trial;"
            " please report this error"
        )
