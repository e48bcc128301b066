"""The chips of the Macs that Apple has sold, with their memory sizes, and how users write them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from your_ai.errors import UsageError

# From the technical specifications of each Mac (support.apple.com/specs); the newest are the Mac
# mini (M6) and the Mac Studio (M5 Ultra) of August 2026. iPads with these chips have other sizes.
_SIZES_GB: dict[str, tuple[int, ...]] = {
    "M1": (8, 16),
    "M1 Pro": (16, 32),
    "M1 Max": (32, 64),
    "M1 Ultra": (64, 128),
    "M2": (8, 16, 24),
    "M2 Pro": (16, 32),
    "M2 Max": (32, 64, 96),
    "M2 Ultra": (64, 128, 192),
    "M3": (8, 16, 24),
    "M3 Pro": (18, 36),
    "M3 Max": (36, 48, 64, 96, 128),
    "M3 Ultra": (96, 256, 512),
    "M4": (16, 24, 32),
    "M4 Pro": (24, 48, 64),
    "M4 Max": (36, 48, 64, 128),
    "M5": (16, 24, 32),
    "M5 Pro": (24, 48, 64),
    "M5 Max": (36, 48, 64, 128),
    "M5 Ultra": (96, 256, 512),
    "M6": (16, 24, 32),
    "A18 Pro": (8,),
}

_EXAMPLE = '"M4 Pro, 24 GB"'

# "MacBook Pro, M4" must not be read as an M4 Pro.
_OTHER_WORDS = re.compile(
    r"imac|mac( ?(book( (pro|air|neo))?|mini|studio|pro))?|apple|chip|with|and|unified|memory|ram"
)
_CHIP = re.compile(r"(?<![a-z0-9])([am][0-9]+)[ -]?(pro|max|ultra)?(?![a-z])")
_REST = re.compile(r"[\W_]*(?:([0-9]+(?:\.[0-9]+)?)\s*(?:gib|gb|g)?[\W_]*)?")


@dataclass(frozen=True, slots=True)
class Mac:
    """A Mac that Apple has sold."""

    chip: str
    """Name of the chip, such as M4 Pro."""
    memory_gb: int
    """Memory in GB."""


def find(text: str) -> Mac:
    """Return the Mac that a user describes by its chip and memory, in any order and case.

    The memory can be missing if all Macs with the chip have the same.

    Raises:
        UsageError: if there is no such Mac, or more than one; says what exists.
    """
    words = _OTHER_WORDS.sub(" ", " ".join(text.lower().split()))
    found = _CHIP.search(words)
    rest = found and _REST.fullmatch(words[: found.start()] + " " + words[found.end() :])
    if found is None or rest is None:
        raise UsageError(
            f"{text!r} is not a chip and a memory size such as {_EXAMPLE}. Chips: {_chips()}. For "
            "another machine, use --memory and --backend."
        )
    chip = " ".join([found[1].upper(), *([found[2].capitalize()] if found[2] else [])])
    if chip not in _SIZES_GB:
        raise UsageError(f"No Mac has been sold with an {chip} chip. Chips: {_chips()}.")
    return _with_memory(chip, rest[1])


def _with_memory(chip: str, given: str | None) -> Mac:
    """Return the Mac with this chip and this memory in GB; raises UsageError without one."""
    sizes = _SIZES_GB[chip]
    sold = f"The {chip} was sold with {_listed(sizes)} GB"
    if given is None:
        if len(sizes) == 1:
            return Mac(chip, sizes[0])
        raise UsageError(f'{sold}. Choose one, for example --machine "{chip}, {sizes[0]} GB".')
    for size in sizes:
        if float(given) == size:
            return Mac(chip, size)
    raise UsageError(
        f"{sold}, not with {given} GB. For another size, use --memory {given} --backend metal."
    )


def _chips() -> str:
    return ", ".join(_SIZES_GB)


def _listed(sizes: tuple[int, ...]) -> str:
    *most, last = map(str, sizes)
    return f"{', '.join(most)} or {last}" if most else last
