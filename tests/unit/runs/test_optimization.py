"""The state of a search, and how the results and the console show it."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from tests.support import builders
from worker.protocol.configuration import Configuration
from worker.protocol.messages import OverBudget, Phase, Step
from your_ai.planning.plan import Trial
from your_ai.runs.optimization import Optimization
from your_ai.runs.search_result import Point
from your_ai.runs.searching import search_for
from your_ai.runs.trial_record import result_without_worker
from your_ai.runs.trial_result import TrialResult
from your_ai.search.grid import Axes
from your_ai.search.search import Objective, Search, SearchOptions
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.terminal.benchmark import Console
from your_ai.terminal.screen import PlainScreen

GB = 2**30
AXES = Axes((1, 2, 4), (8, 16), (1, 2))
GRID = AXES.around(builders.trial().configuration, 2)
AT = "2026-11-23T10:00:00Z"


def at(batch: int, rank: int, layers: int) -> Configuration:
    return replace(GRID.base, batch_size=batch, lora_rank=rank, lora_layers=layers)


def trial_at(batch: int, rank: int, layers: int) -> Trial:
    return builders.trial().with_configuration(at(batch, rank, layers))


def record(
    batch: int, rank: int, layers: int, needed_gb: float | None, seconds: float = 1.0
) -> TrialResult:
    """Return a pass with that needed memory and time per step; over budget if it is ``None``."""
    trial = trial_at(batch, rank, layers)
    if needed_gb is None:
        over = OverBudget(3.0, Phase.TIGHT, 9 * GB, False)
        seen = builders.observed(*builders.began(Phase.TIGHT, 2.0), over)
    else:
        events = builders.passing_events(needed=int(needed_gb * GB), peak=int(needed_gb * GB))
        slower = (replace(e, seconds=seconds) if isinstance(e, Step) else e for e in events)
        seen = builders.observed(*slower)
    return builders.result(trial, seen, ended_at=AT)


def interrupted(batch: int, rank: int, layers: int) -> TrialResult:
    outcome = Outcome(OutcomeKind.INTERRUPTED, "interrupted")
    return result_without_worker(trial_at(batch, rank, layers), outcome, AT)


def found(*results: TrialResult, objective: Objective = Objective.CAPACITY) -> Optimization:
    return Optimization(Search(GRID, 8 * GB, objective), results)


NEARLY = found(
    record(1, 8, 1, 5.0),
    record(4, 16, 2, None),
    record(4, 8, 2, 7.5, seconds=0.5),
    record(2, 16, 2, None),
)
"""4/8/2 has the same capacity as 2/16/2, which is preferred for its rank but failed, and as 4/16/1,
which has not been tried yet."""


def test_the_best_is_the_pass_with_the_largest_capacity() -> None:
    assert NEARLY.best is NEARLY.results[2]
    assert NEARLY.certificate.optimum == at(4, 8, 2)


def test_a_configuration_of_equal_capacity_and_more_rank_is_settled_too() -> None:
    assert NEARLY.certificate.unsettled == (at(4, 16, 1),)
    assert not NEARLY.is_finished
    done = found(*NEARLY.results, record(4, 16, 1, None))
    assert done.is_finished
    assert done.certificate.failures == (at(4, 16, 1), at(2, 16, 2))
    assert [r.config.configuration for r in done.decisive] == [
        at(2, 16, 2),
        at(4, 16, 1),
    ]


def failed(batch: int, rank: int, layers: int, kind: OutcomeKind, *, ran: bool) -> TrialResult:
    """Return a trial that failed for a reason other than memory; ``ran`` says if a worker ran."""
    trial, outcome = trial_at(batch, rank, layers), Outcome(kind, "why")
    if not ran:
        return result_without_worker(trial, outcome, AT)
    seen = builders.observed(*builders.began(Phase.LOAD, 1.0), returncode=1)
    return builders.result(trial, seen, outcome)


@pytest.mark.parametrize("objective", Objective)
def test_a_trial_without_a_worker_proves_nothing(objective: Objective) -> None:
    """Its weights were missing. If that counted, the smallest trial would rule out all others."""
    never = found(failed(1, 8, 1, OutcomeKind.ERROR, ran=False), objective=objective)
    assert (never.tried, never.is_finished, never.is_proven) == ([], False, False)


def test_a_crash_ends_the_search_but_is_no_proof(capsys: pytest.CaptureFixture[str]) -> None:
    """Larger configurations are not tried, to protect the machine. The output says so."""
    crash = failed(2, 8, 1, OutcomeKind.CRASH, ran=True)
    done = found(record(1, 16, 2, 5.0), record(1, 8, 1, 4.0), crash)
    assert done.is_finished
    assert not done.is_proven
    written = done.as_result()
    assert (written.complete, written.proven) == (True, False)
    assert [failure.outcome for failure in written.certificate.failures] == ["crash"]
    Console(PlainScreen(), builders.run()).end_search(done, ["Results written to out.json"])
    assert capsys.readouterr().out.splitlines()[4:7] == [
        "Optimal: batch=1, rank=16, layers=2, needs 5.0 GB, 2,046 tokens/s, in 3 trials, "
        "not proven",
        "Not proven: memory may not be the cause of these failures:",
        "    batch=2, rank=8, layers=1: ✗ Crash (why)",
    ]


def test_a_crash_that_decides_nothing_leaves_the_proof_intact() -> None:
    done = found(
        record(1, 16, 2, 5.0),
        record(2, 8, 1, None),
        failed(4, 16, 2, OutcomeKind.CRASH, ran=True),
    )
    assert done.is_proven


def test_the_fastest_is_searched_only_within_the_grid() -> None:
    """The first trial of a model may have a rank outside the grid, and then settles nothing."""
    ladder = found(record(2, 4, 1, 5.0), objective=Objective.TOKENS)
    assert ladder.search.propose(ladder.tried) == at(1, 8, 1)
    later = found(*ladder.results, record(1, 8, 1, 4.0), objective=Objective.TOKENS)
    assert later.search.propose(later.tried) == at(2, 8, 1)


def test_an_interrupted_trial_proves_nothing() -> None:
    stopped = found(record(1, 8, 1, 5.0), interrupted(1, 8, 2))
    assert len(stopped.tried) == 1
    assert not stopped.certificate.failures
    assert not stopped.is_finished


def test_the_pareto_set_has_the_unbeaten_passes() -> None:
    least = record(1, 8, 1, 5.0, seconds=1.0)
    beaten = record(1, 8, 2, 5.5, seconds=2.0)
    better_all_round = record(1, 16, 2, 5.2, seconds=1.5)
    fastest = record(2, 8, 1, 6.0, seconds=0.5)
    front = found(least, beaten, fastest, better_all_round, record(4, 16, 2, None)).pareto
    assert [r.config.configuration for r in front] == [
        least.config.configuration,
        better_all_round.config.configuration,
        fastest.config.configuration,
    ]


def test_two_equal_trials_are_both_in_the_pareto_set() -> None:
    assert len(found(record(1, 16, 1, 5.0), record(2, 8, 1, 5.0)).pareto) == 2


def test_the_optimal_config_has_the_seed_keys_first() -> None:
    written = NEARLY.as_result()
    assert [field.name for field in fields(written)][:8] == [
        "model",
        "optimal_batch_size",
        "optimal_lora_rank",
        "optimal_lora_layers",
        "peak_memory_gb",
        "throughput_score",
        "created_at",
        "needed_memory_gb",
    ]
    assert (written.model, written.created_at) == ("org/tiny", AT)
    assert written.best is NEARLY.results[2]
    assert (written.throughput_score, written.peak_memory_gb) == (64, 7.5)
    assert written.complete is False
    assert written.all_results is NEARLY.results
    (failure,) = written.certificate.failures
    assert (failure.batch_size, failure.lora_rank, failure.lora_layers) == (2, 16, 2)
    assert (failure.outcome, failure.certainty) == ("over-budget", "certain")
    assert written.certificate.unsettled == (Point.of(at(4, 16, 1)),)


def test_figures_are_null_without_a_pass() -> None:
    written = found(record(1, 8, 1, None)).as_result()
    assert {field.name for field in fields(written) if getattr(written, field.name) is None} == {
        "optimal_batch_size",
        "optimal_lora_rank",
        "optimal_lora_layers",
        "optimal_seq_length",
        "optimal_quantization",
        "optimal_grad_checkpoint",
        "peak_memory_gb",
        "throughput_score",
        "needed_memory_gb",
        "needed_memory_bytes",
        "tokens_per_second",
    }
    assert len(written.all_results) == 1
    assert written.best is None
    assert written.complete is True


def test_a_search_uses_the_models_layers_and_estimate() -> None:
    options = SearchOptions(Axes((1, 2), (8,), (1, 8, 16)), Objective.CAPACITY, False)
    trial = builders.trial()
    trial = replace(trial, model=builders.probed(trial.model))
    search = search_for(trial, options, "cuda")
    assert search.grid.lora_layers == (1, 2)
    assert search.expected is not None
    small, large = (search.expected(at(b, 8, 2)) for b in (1, 2))
    assert small is not None
    assert large is not None
    assert small.resident_bytes == large.resident_bytes
    assert small.needed_bytes < large.needed_bytes


def test_a_model_without_an_estimate_is_searched() -> None:
    options = SearchOptions(AXES, Objective.CAPACITY, False)
    search = search_for(builders.trial(), options, "cuda")
    assert search.expected is not None
    assert search.expected(search.grid.smallest) is None
    assert search.propose([]) is not None


def test_the_console_output_of_a_search(capsys: pytest.CaptureFixture[str]) -> None:
    done = found(*NEARLY.results, record(4, 16, 1, None))
    options = SearchOptions(AXES, Objective.CAPACITY, False)
    console = Console(PlainScreen(), builders.run(search=options))
    console.begin_search(builders.trial(), 0)
    for number, each in enumerate(done.results, start=1):
        c = each.config
        console.candidate_began(trial_at(c.batch_size, c.lora_rank, c.lora_layers), number)
        console.candidate_ended(each)
    console.end_search(done, ["Results written to out.json"])
    assert capsys.readouterr().out.splitlines()[3:] == [
        "System Memory: 36.00 GB (budget 8.0 GB, training on Apple M3 Pro (metal))",
        "Searching 12 configurations of tiny (7B)",
        "for the largest batch × rank × layers that fits...",
        "Training: LoRA on all modules, sequences of 1024 tokens, 4-bit weights, adam, with "
        "gradient checkpointing",
        "",
        "[1] batch=1 rank=8  layers=1 ... ✓ Pass (5.0 GB, needs 5.0 GB, 2,046 tokens/s)",
        "[2] batch=4 rank=16 layers=2 ... ✗ Over budget (needs at least 9.0 GB)",
        "[3] batch=4 rank=8  layers=2 ... ✓ Pass (7.5 GB, needs 7.5 GB, 4,092 tokens/s)",
        "[4] batch=2 rank=16 layers=2 ... ✗ Over budget (needs at least 9.0 GB)",
        "[5] batch=4 rank=16 layers=1 ... ✗ Over budget (needs at least 9.0 GB)",
        "",
        "━" * 60,
        "Results",
        "━" * 60,
        "Optimal: batch=4, rank=8, layers=2, needs 7.5 GB, 4,092 tokens/s, in 5 trials",
        "Proven optimal: every better configuration needs at least as much memory as one of these "
        "failures:",
        "    batch=2, rank=16, layers=2: ✗ Over budget (needs at least 9.0 GB)",
        "    batch=4, rank=16, layers=1: ✗ Over budget (needs at least 9.0 GB)",
        "━" * 60,
        "Results written to out.json",
    ]


def test_a_search_in_a_benchmark_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(PlainScreen(), builders.run())
    console.optimizing()
    assert capsys.readouterr().out == "    Optimizing configuration ... "
    console.optimized(found(*NEARLY.results, record(4, 16, 1, None)))
    console.optimized(NEARLY)
    console.optimized(found(record(1, 8, 1, None)))
    console.optimized(found(interrupted(1, 8, 1)))
    console.optimized(found(record(2, 4, 1, 5.0), record(1, 8, 1, None)))
    assert capsys.readouterr().out.splitlines() == [
        "✓ (batch=4, rank=8, layers=2, needs 7.5 GB, 4,092 tokens/s, in 5 trials)",
        "✓ (batch=4, rank=8, layers=2, needs 7.5 GB, 4,092 tokens/s, in 4 trials, not proven)",
        "– (no configuration passed (1 trial))",
        "– (unknown (no trial finished))",
        "– (no configuration passed (2 trials))",
    ]


def test_the_console_mentions_no_better_one_if_nothing_passed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Console(PlainScreen(), builders.run()).end_search(
        found(record(1, 8, 1, None)), ["Results written to out.json"]
    )
    assert capsys.readouterr().out.splitlines()[4:7] == [
        "Optimal: no configuration passed (1 trial)",
        "Proven: every configuration needs at least as much memory as one of these failures:",
        "    batch=1, rank=8, layers=1: ✗ Over budget (needs at least 9.0 GB)",
    ]
