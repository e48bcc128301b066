"""The report of each part of ``scripts/chaos``: figures and failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Report:
    """Figures to print as a table, and failures to print below it."""

    title: str
    figures: Mapping[str, object]
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rows = [f"| {name} | {value} |" for name, value in self.figures.items()]
        failed = [f"- FAILED: {failure}" for failure in self.failures]
        return "\n".join(
            [f"\n### {self.title}\n", "| figure | value |", "| --- | --- |", *rows, "", *failed]
        )


def counted(kinds: Iterable[str]) -> str:
    """Return how often each kind occurs, most frequent first, such as ``3 import, 2 load``."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).most_common())
