"""How weights are quantized: as the user asks for it, and as a model's files have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.protocol.configuration import GROUP_SIZE, Configuration, QuantizationMode

AFFINE_BITS = (2, 3, 4, 5, 6, 8)
GROUP_SIZES = (32, 64, 128)
_MICROSCALING = {
    QuantizationMode.MXFP4: (4, 32),
    QuantizationMode.MXFP8: (8, 32),
    QuantizationMode.NVFP4: (4, 16),
}
"""Bits and group size of the modes that have only one (`mx.quantize`)."""

NONE = "none"
NAMES = (NONE, *map(str, AFFINE_BITS), *(mode.value for mode in _MICROSCALING))


@dataclass(frozen=True, slots=True)
class Quantization:
    """Bits per weight (``None`` if weights are not quantized), mode and group size."""

    bits: int | None = None
    mode: QuantizationMode = QuantizationMode.AFFINE
    group_size: int = GROUP_SIZE

    @classmethod
    def of(cls, configuration: Configuration) -> Quantization:
        """Return the quantization of a configuration's weights."""
        return cls(
            configuration.quantization_bits,
            configuration.quantization_mode,
            configuration.group_size,
        )

    @property
    def name(self) -> str:
        """The value of --quantize: ``none``, the bits, or the mode."""
        if self.bits is None:
            return NONE
        return str(self.bits) if self.mode is QuantizationMode.AFFINE else self.mode.value

    @property
    def label(self) -> str:
        """What a person reads: ``unquantized``, ``4-bit`` or ``mxfp4``."""
        if self.bits is None:
            return "unquantized"
        group = "" if self.is_default_group else f", groups of {self.group_size}"
        return (f"{self.bits}-bit" if self.name == str(self.bits) else self.name) + group

    @property
    def is_default_group(self) -> bool:
        """Whether the group size is the default of its mode."""
        return self.bits is None or self == named(self.name)


def named(name: str, group_size: int | None = None) -> Quantization:
    """Return the quantization called ``name`` (see `NAMES`); only affine has a choice of groups."""
    if name == NONE:
        return Quantization()
    if name.isdecimal():
        return Quantization(int(name), group_size=group_size or GROUP_SIZE)
    mode = QuantizationMode(name)
    return Quantization(_MICROSCALING[mode][0], mode, _MICROSCALING[mode][1])


def stored(config: Mapping[str, Any]) -> Quantization | None:
    """Return the quantization in a ``config.json``; ``None`` if there is none in MLX's format.

    mlx-lm keeps the microscaling formats of other programs as they are.
    """
    own = config.get("quantization")
    if own is not None:
        mode = QuantizationMode(own.get("mode") or QuantizationMode.AFFINE)
        return Quantization(int(own["bits"]), mode, int(own["group_size"]))
    other = config.get("quantization_config")
    method = other.get("quant_method") if isinstance(other, Mapping) else None
    return named(method) if method in ("mxfp4", "mxfp8") else None
