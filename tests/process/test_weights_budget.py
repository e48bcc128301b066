"""Memory that is known in advance is compared with the budget before it is allocated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.trials import PATIENT, tiny_request
from worker import probe
from worker.protocol.codec import encode
from worker.protocol.configuration import QuantizationMode
from worker.protocol.messages import OverBudget, Phase
from worker.protocol.requests import PlannedModel, TrialRequest
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


def _final(request: TrialRequest, log: TrialLog) -> OverBudget:
    """Run a trial that ends over budget; return its final event."""
    final = supervise(encode(request), log=log, limits=PATIENT).final
    assert isinstance(final, OverBudget), log.tail()
    return final
