"""The memory that a traced step predicts is what trials need."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.matrix.check import CONFIGURATION, run_trial
from tests.matrix.configs import all_configs
from tests.support.step_graphs import CPU, builder
from worker import weights
from worker.protocol.requests import ModelSource, TrialRequest
from worker.step_graph.traced_step import TracedStep

TOLERANCE = 0.15
BATCH_SIZE, SEQ_LENGTH = 2, 64

ARCHITECTURES = ["llama", "qwen3_moe", "falcon_h1", "deepseek_v3"]
"""Dense, with experts, with state-space layers, and with latent attention."""


@pytest.mark.alone  # on a busy CPU, MLX waits for memory elsewhere
@pytest.mark.parametrize("grad_checkpoint", [False, True])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_trials_need_the_memory_that_is_predicted(name: str, grad_checkpoint: bool) -> None:
    source = ModelSource(all_configs()[name])
    configuration = replace(
        CONFIGURATION,
        batch_size=BATCH_SIZE,
        seq_length=SEQ_LENGTH,
        grad_checkpoint=grad_checkpoint,
    )
    trial = run_trial(TrialRequest(source, configuration, 1, 2**40))
    assert trial.error is None
    model = weights.plan(source, configuration)
    traced = TracedStep.of(builder(name), len(model.layers), is_short=True)
    step = traced.on(CPU, grad_checkpoint=grad_checkpoint)
    cell = step.cell(BATCH_SIZE, SEQ_LENGTH - 1, CONFIGURATION.lora_rank)
    predicted = weights.total_bytes(model) + cell.needed.bytes
    assert predicted == pytest.approx(trial.peak_bytes, rel=TOLERANCE)
