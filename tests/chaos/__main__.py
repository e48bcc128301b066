"""``scripts/chaos``: tries to break the product, and says how often that went wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from tests.chaos.damage import damage
from tests.chaos.deaths import deaths
from tests.chaos.disk import disk
from tests.chaos.kills import kills
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
}
"""Each with its usual number: how often, or for ``damage`` and ``disk`` every Nth place."""


def main() -> None:
    """Run the parts that are named, print their tables, and end with 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="|".join(PARTS))
    usual = ", ".join(f"{name} {number}" for name, (_part, number) in PARTS.items())
    parser.add_argument(
        "--number",
        type=int,
        help=f"how often, or every Nth place is damaged or full ({usual})",
    )
    arguments = parser.parse_args()
    reports = []
    for name in arguments.parts or PARTS:
        part, usual_number = PARTS[name]
        reports.append(part(arguments.number or usual_number))
        print(reports[-1], flush=True)
    sys.exit(any(report.failures for report in reports))


if __name__ == "__main__":
    main()
