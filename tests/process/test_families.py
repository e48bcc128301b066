"""Real trials of tiny models that need more than tests/process/test_matrix.py shows."""

from __future__ import annotations

from typing import Any

from tests.support import families
from tests.support.trials import NO_BUDGET, PATIENT
from worker.protocol.codec import encode
from worker.protocol.configuration import Configuration
from worker.protocol.requests import ModelSource, TrialRequest
from your_ai.supervision.classify import classify
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.supervision.supervisor import supervise
from your_ai.supervision.trial_log import TrialLog

STEPS = 2


def trial_of(config: dict[str, Any], log: TrialLog) -> Outcome:
    """Run a short trial in a real worker."""
    configuration = Configuration(
        batch_size=1,
        lora_rank=4,
        lora_layers=2,
        seq_length=16,
        grad_checkpoint=False,
    )
    request = TrialRequest(ModelSource(config), configuration, STEPS, NO_BUDGET)
    return classify(supervise(encode(request), log=log, limits=PATIENT), STEPS)


def test_unquantized_experts_on_a_cpu_need_float32(log: TrialLog) -> None:
    outcome = trial_of({**families.config("jamba"), "dtype": "bfloat16"}, log)
    assert outcome.kind is OutcomeKind.ERROR
    assert "measure it with --quantize 4, or set" in str(outcome.advice)
    assert "[GatherMM::eval]" in outcome.evidence


def test_a_config_whose_defaults_mlx_lm_fills_in_passes(log: TrialLog) -> None:
    """mlx-lm writes a vocabulary of 262,144 tokens into this config, whose model has 512."""
    config = {"model_type": "gemma4", "text_config": families.GEMMA4_TEXT, "dtype": "float32"}
    outcome = trial_of(config, log)
    assert outcome.kind is OutcomeKind.PASS, outcome
