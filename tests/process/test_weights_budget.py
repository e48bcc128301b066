"""Memory that is known in advance is compared with the budget before it is allocated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.matrix.check import CONFIGURATION
from tests.matrix.configs import all_configs
from tests.support.trials import PATIENT, tiny_request
from worker import probe
from worker.protocol.codec import encode
from worker.protocol.configuration import ALL_KEYS, FineTuneType, QuantizationMode
from worker.protocol.messages import Loaded, OverBudget, Phase
from worker.protocol.requests import ModelSource, PlannedModel, TrialRequest
from your_ai.supervision.supervisor import supervise
from your_ai.supervision.trial_log import TrialLog

REQUEST = tiny_request(steps=1)


@pytest.mark.parametrize(
    "quantization",
    [
        {"quantization_bits": None},
        {"quantization_bits": 4},
        {
            "quantization_bits": 8,
            "quantization_mode": QuantizationMode.MXFP8,
            "group_size": 32,
        },
    ],
    ids=str,
)
def test_a_worker_loads_weights_that_just_fit_and_no_larger_ones(
    quantization: dict[str, Any], log: TrialLog
) -> None:
    configuration = replace(REQUEST.configuration, **quantization)
    planned = PlannedModel(REQUEST.model.config, configuration)
    weights_bytes = probe.facts(planned).weights_bytes
    too_small, enough = (
        _final(replace(REQUEST, configuration=configuration, budget_bytes=budget), log)
        for budget in (weights_bytes - 1, weights_bytes)
    )
    assert too_small.planned
    assert (too_small.phase, too_small.measured_bytes) == (Phase.LOAD, weights_bytes)
    assert not enough.planned
    assert enough.measured_bytes > weights_bytes


@pytest.mark.parametrize(
    ("name", "kind"),
    [("gpt_oss", "lora"), ("gpt_oss-mxfp4", "lora"), ("llama", "dora"), ("llama", "full")],
)
def test_a_worker_counts_the_parameters_that_a_probe_counts(
    name: str, kind: str, log: TrialLog
) -> None:
    is_full = kind == "full"
    configuration = replace(
        CONFIGURATION,
        fine_tune_type=FineTuneType(kind),
        lora_rank=0 if is_full else 4,
        lora_keys=() if is_full else ALL_KEYS,
    )
    config = all_configs()[name]
    facts = probe.facts(PlannedModel(config, configuration))
    request = TrialRequest(ModelSource(config), configuration, 1, 2**40)
    seen = supervise(encode(request), log=log, limits=PATIENT)
    loaded = seen.first_of(Loaded)
    assert loaded is not None, log.tail()
    assert loaded.parameters == facts.parameters
    assert loaded.trainable_parameters == facts.trainable_parameters


def _final(request: TrialRequest, log: TrialLog) -> OverBudget:
    """Run a trial that ends over budget; return its final event."""
    final = supervise(encode(request), log=log, limits=PATIENT).final
    assert isinstance(final, OverBudget), log.tail()
    return final
