"""``scripts/chaos``: tries to break your_ai, and counts the failures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from tests.chaos.checkpoints import checkpoints
from tests.chaos.damage import damage
from tests.chaos.deaths import deaths
from tests.chaos.disk import disk
from tests.chaos.guard import guard
from tests.chaos.hangs import hangs
from tests.chaos.kills import kills
from tests.chaos.masking import masking
from tests.chaos.report import Report
from tests.chaos.soak import soak
from tests.chaos.training import training

PARTS: dict[str, tuple[Callable[[int], Report], int]] = {
    "kills": (kills, 500),
    "damage": (damage, 1),
    "deaths": (deaths, 100),
    "disk": (disk, 1),
    "soak": (soak, 1000),
    "training": (training, 20),
    "guard": (guard, 100),
    "hangs": (hangs, 100),
    "masking": (masking, 100),
    "checkpoints": (checkpoints, 100),
}
"""Function and default number of each part. The number is a count of repetitions, except that
``damage`` and ``disk`` test every Nth position."""


def main() -> None:
    """Run the given parts, print their tables, and exit with 1 if there were failures."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="|".join(PARTS))
    defaults = ", ".join(f"{name} {number}" for name, (_part, number) in PARTS.items())
    parser.add_argument(
        "--number",
        type=int,
        help="number of repetitions; for damage and disk, test every Nth position "
        f"[default: {defaults}]",
    )
    arguments = parser.parse_args()
    reports = []
    for name in arguments.parts or PARTS:
        part, default = PARTS[name]
        reports.append(part(arguments.number or default))
        print(reports[-1], flush=True)
    sys.exit(any(report.failures for report in reports))


if __name__ == "__main__":
    main()
