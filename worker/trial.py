"""One trial, from spec to final event."""

from __future__ import annotations

import time
import traceback
from typing import NoReturn

from worker.events import EventPipe
from worker.protocol.messages import Failed, Loaded, Passed, Phase, TrialRequest, Weights


def run(request: TrialRequest, events: EventPipe) -> NoReturn:
    """Run the trial and leave with its final event; any exception becomes one."""
    events.enter(Phase.IMPORT)
    try:
        final = _measure(request, events)
    except Exception as error:  # noqa: BLE001 - the parent classifies it; this only reports
        traceback.print_exc()
        events.finish(Failed(events.now(), events.phase, type(error).__name__, str(error)))
    events.finish(final)


def _measure(request: TrialRequest, events: EventPipe) -> Passed:
    # Imported here, so that the phase and the lifeline cover the seconds that they take.
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import get_total_parameters

    from worker import device, lora, measure, weights
    from worker.memory import MemoryWatch

    events.send(device.describe(events.now()))
    watch = MemoryWatch(events, request.budget_bytes)
    watch.start()

    events.enter(Phase.LOAD)
    began = time.perf_counter()
    mx.random.seed(request.seed)
    model = weights.plan(request.model, request.configuration)
    watch.require(weights.planned_bytes(model), planned=True)
    weights.materialize(
        model,
        synthesize=request.configuration.weights is Weights.SYNTHETIC,
        after_each=lambda: watch.require(mx.get_active_memory()),
    )
    parameters = get_total_parameters(model)
    lora.add_adapters(model, request.configuration)
    mx.eval(model.parameters())
    trainer = lora.Trainer(model, request, lora.vocabulary_size(request.model.config))
    trainable = sum(v.size for _, v in tree_flatten(model.trainable_parameters()))
    seconds = time.perf_counter() - began
    resident, peak = mx.get_active_memory(), mx.get_peak_memory()
    events.send(Loaded(events.now(), seconds, resident, peak, parameters, trainable))
    # Beyond Metal's working set macOS swaps or refuses, and the relaxed phase fills its limit.
    ceiling = mx.device_info().get("max_recommended_working_set_size")
    return measure.measure(trainer, request, watch, events, int(ceiling) if ceiling else None)
