"""The state of a ceiling map: the longest sequences of a model that fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from worker.protocol.configuration import Configuration
from your_ai.runs.search_result import Column
from your_ai.runs.searching import SearchState
from your_ai.runs.trial_result import Ceiling, TrialResult


@dataclass(frozen=True, slots=True)
class CeilingMap(SearchState):
    """The search for the longest sequences, and its trials in the order in which they ended."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The longest sequence for each batch size, with gradient checkpointing first."""
        grid = self.search.grid
        kinds = product(grid.grad_checkpoints, grid.batch_sizes)
        members = [
            [c for c in grid.configurations if (c.grad_checkpoint, c.batch_size) == kind]
            for kind in kinds
        ]
        return tuple(map(self._column, members))

    @property
    def longest(self) -> TrialResult:
        """The trial of the longest sequence, or the last if none passed."""
        best = self.search.optimum(self.tried)
        same = (r for r in self.results if best and r.config.configuration == best.configuration)
        return next(same, self.results[-1])

    def as_result(self) -> Ceiling:
        """Return the map in the form of the results file."""
        return Ceiling(
            model=self.results[0].model_name,
            created_at=self.results[-1].ended_at,
            exhaustive=self.search.exhaustive,
            grid=self.search.grid.axes,
            complete=self.is_finished,
            proven=self.is_proven,
            columns=self.columns,
            all_results=self.results,
        )

    def _column(self, members: Sequence[Configuration]) -> Column:
        """Return the column of the map that has these configurations, shortest first."""
        covers = self.search.grid.covers
        passed = [t.configuration for t in self.tried if t.fits]
        failed = [t.configuration for t in self.tried if not t.fits]
        fitting = [c for c in members if any(covers(one, c) for one in passed)]
        failing = [c for c in members if any(covers(c, one) for one in failed)]
        measured = self._measured(fitting[-1]) if fitting else None
        return Column(
            batch_size=members[0].batch_size,
            grad_checkpoint=members[0].grad_checkpoint,
            longest=fitting[-1].seq_length if fitting else None,
            shortest_failure=failing[0].seq_length if failing else None,
            complete=len({*fitting, *failing}) == len(members),
            measured=measured is not None,
            needed_memory_bytes=measured.needed_memory_bytes if measured else None,
            tokens_per_second=measured.tokens_per_second if measured else None,
        )

    def _measured(self, configuration: Configuration) -> TrialResult | None:
        passed = (result for result in self.results if result.success)
        return next((r for r in passed if r.config.configuration == configuration), None)
