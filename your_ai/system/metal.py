"""Predict how much memory macOS lets a GPU use, for Macs that your_ai does not run on: pure."""

from __future__ import annotations

import math
from fractions import Fraction

from your_ai.units import GB

# Printed by llama.cpp as recommendedMaxWorkingSetSize, in 10^6 bytes, on Macs with the default
# limit (from public logs and issues). The GPU family in a log (Metal 4 or 3) says whether it is
# of macOS 26, if nothing else does.
#
#     GB   macOS 26    share   macOS 13 to 15   share   printed on
#      8    5726.63    2/3                              M1, macOS 26.5
#     16   12713.12    0.74     11453.25          2/3   M1, M2, M3, M4
#     18   14302.25    0.74                             M3 Pro
#     24   19069.67    0.74     17179.89          2/3   M2, M3, M4, M4 Pro, M5
#     32   26800.60    0.78     22906.50          2/3   M1 Pro, M1 Max, M2 Max, M4
#     36   30150.67    0.78     28991.03          3/4   M3 Pro, M3 Max, M4 Max
#     48   40200.90    0.78                             M4 Pro, M5 Max (llama.cpp #16634)
#     64   55662.79    0.81     51539.61          3/4   M1 Max, M2 Max, M3 Max
#     96                        77309.41          3/4   M2 Max (llama.cpp #3213, as 73728 MiB)
#    128  115448.73    0.84                             M4 Max (macOS 26.2), M5 Max
#    512                       498216.21      464/512   M3 Ultra, twice; maybe also macOS 26
#
# A size without a report gets the share of the next smaller one, because shares only grow.
_Shares = tuple[tuple[int, Fraction], ...]
_LARGEST = (512, Fraction(464, 512))
_SHARES: _Shares = (
    _LARGEST,
    (128, Fraction(84, 100)),
    (64, Fraction(81, 100)),
    (32, Fraction(78, 100)),
    (16, Fraction(74, 100)),
    (0, Fraction(2, 3)),
)
_SHARES_BEFORE_26: _Shares = (_LARGEST, (36, Fraction(3, 4)), (0, Fraction(2, 3)))

_FIRST_WITH_NEW_SHARES = 16
"""macOS 15 was followed by 26, which calls itself 16 if Python was built for an older system."""

_PAGE_BYTES = 16384


def metal_working_set(memory_bytes: int, macos: str = "26") -> int:
    """Return Metal's recommended working set in bytes, as macOS sets it by default.

    It is a share of the memory, rounded up to whole pages. All figures in the table above are
    predicted exactly, except that of 24 GB before macOS 26, which is one page larger. ``macos`` is
    a version such as 15.7.
    """
    major = macos.partition(".")[0]
    is_new = major.isdecimal() and int(major) >= _FIRST_WITH_NEW_SHARES
    shares = _SHARES if is_new else _SHARES_BEFORE_26
    share = next(share for least_gb, share in shares if memory_bytes >= least_gb * GB)
    return math.ceil(memory_bytes * share / _PAGE_BYTES) * _PAGE_BYTES
