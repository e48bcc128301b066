"""Tables of a step's memory: they equal traces of their own sizes, and grow with these."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest

from tests.support.step_graphs import builder, compiled, planned
from worker.protocol.memory import StepMemory
from worker.step_graph.allocation import Sizes, peak
from worker.step_graph.backends import BACKENDS
from worker.step_graph.program import program
from worker.step_graph.scheduling import evaluation_order
from worker.step_graph.step_memory import RANK, Grid, TokenLoopError, TracedModel

GRID = Grid((17, 257, 1025), (1, 8))
EXACT = ["llama-4bit", "gemma3", "qwen3_moe", "deepseek_v2"]
GROWING = [*EXACT, "mamba2"]


@cache
def traced_model(name: str) -> TracedModel:
    return TracedModel.of(builder(name), 2)


@cache
def memory(
    name: str, grid: Grid = GRID, backend: str = "cpu", *, grad_checkpoint: bool = True
) -> StepMemory:
    return traced_model(name).memory(BACKENDS[backend], grid, grad_checkpoint=grad_checkpoint)


@pytest.mark.parametrize("grad_checkpoint", [False, True])
@pytest.mark.parametrize("name", EXACT)
def test_the_table_has_the_peak_of_a_step_traced_at_these_sizes(
    name: str, grad_checkpoint: bool
) -> None:
    for layers in (1, 2):
        table = memory(name, Grid((64,), (2,)), grad_checkpoint=grad_checkpoint).needed
        assert table[layers - 1][0][0] == exact(name, layers, grad_checkpoint)


def exact(name: str, layers: int, grad_checkpoint: bool, backend: str = "cpu") -> float:
    """Return the peak of a step with 2 sequences of 64 tokens; the last token is only a target."""
    graph = compiled(
        planned(name, layers, RANK), 2, 63, checkpointed=grad_checkpoint, backend=BACKENDS[backend]
    )
    found = program(graph, evaluation_order(graph))
    arrays = [graph.arrays[each] for each in found.names]
    sizes = Sizes([a.bytes for a in arrays], [0.0] * len(arrays), [a.size for a in arrays])
    tasks, starts = BACKENDS[backend].tasks, BACKENDS[backend].starts
    return max(peak(found, sizes, tasks, start).bytes for start in starts)


@pytest.mark.parametrize("grad_checkpoint", [False, True])
@pytest.mark.parametrize("name", GROWING)
def test_memory_grows_with_batch_and_length(name: str, grad_checkpoint: bool) -> None:
    assert_grows(memory(name, grad_checkpoint=grad_checkpoint))


def assert_grows(found: StepMemory) -> None:
    for table in (found.needed, found.unlimited):
        for rows in table:
            for row in (*rows, *zip(*rows, strict=True)):
                assert all(less < more for less, more in pairwise(row))


@pytest.mark.parametrize("name", GROWING)
def test_more_trained_layers_take_more_memory(name: str) -> None:
    found = memory(name)
    assert found.layers == (1, 2)
    one, two = ([value for row in table for value in row] for table in found.needed)
    assert all(less < more for less, more in zip(one, two, strict=True))
    assert found.rank == RANK


@pytest.mark.parametrize("name", GROWING)
def test_without_a_limit_a_step_takes_at_least_as_much(name: str) -> None:
    found = memory(name)
    for needed, unlimited in zip(found.needed, found.unlimited, strict=True):
        for less, more in zip(needed, unlimited, strict=True):
            assert all(a <= b for a, b in zip(less, more, strict=True))


@pytest.mark.parametrize("name", EXACT)
def test_checkpointing_takes_less_for_long_sequences(name: str) -> None:
    grid = Grid((1025,), (8,))
    again, stored = (memory(name, grid, grad_checkpoint=each).needed[-1] for each in (True, False))
    assert again[0][0] < stored[0][0]


@pytest.mark.parametrize("name", ["llama", "llama-bfloat16"])
def test_long_attention_takes_less_on_a_gpu_that_has_a_kernel(name: str) -> None:
    grid = Grid((4097,), (1,))
    cpu, metal = (memory(name, grid, backend).needed[-1][0][0] for backend in ("cpu", "metal"))
    is_half = name == "llama-bfloat16"
    assert (metal < cpu / 2) is is_half


@pytest.mark.parametrize("backend", ["cpu", "metal"])
@pytest.mark.parametrize("name", ["lfm2", "mamba2", "bailing_hybrid"])
def test_convolutions_and_chunks_take_what_they_do_at_this_length(name: str, backend: str) -> None:
    # Convolutions read two or three tokens more than there are, which are not counted exactly.
    found = memory(name, Grid((64,), (2,)), backend).needed[-1][0][0]
    assert found == pytest.approx(exact(name, 2, True, backend), rel=0.01)


def test_a_model_that_loops_over_tokens_is_not_traced_at_all_lengths() -> None:
    with pytest.raises(TokenLoopError):
        traced_model("mamba")


def test_what_memory_gains_per_rank_is_the_difference_between_two_ranks() -> None:
    for backend in BACKENDS.values():
        (step,) = traced_model("llama").steps[2][0]
        on = step.on(backend, grad_checkpoint=True)
        low, high = on.cell(2, 63, 16), on.cell(2, 63, 17)
        assert high.needed.bytes - low.needed.bytes == pytest.approx(low.needed.per_rank)
