"""What every part of the chaos reports: figures, and what must not have happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Report:
    """``figures`` are what was counted or measured, ``failures`` what must not have happened."""

    title: str
    figures: Mapping[str, object]
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rows = [f"| {name} | {value} |" for name, value in self.figures.items()]
        failed = [f"- FAILED: {failure}" for failure in self.failures]
        return "\n".join(
            [f"\n### {self.title}\n", "| what | figure |", "| --- | --- |", *rows, "", *failed]
        )


def counted(kinds: Iterable[str]) -> str:
    """``3 import, 2 load``: each kind with how often it came, the most frequent first."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).most_common())
