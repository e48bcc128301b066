"""Steps and validation are timed at the lengths that the request asks for."""

from __future__ import annotations

import os
from dataclasses import replace

import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from tests.support.prepared import REQUEST, prepared_model
from worker import timing
from worker.events import EventPipe
from worker.protocol.codec import decode_event
from worker.protocol.messages import Event, Phase, PhaseBegan, Timed
from worker.protocol.requests import TrialRequest
from worker.trainer import Trainer


def timed(request: TrialRequest, model: nn.Module) -> list[Event]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        try:
            timing.time_lengths(Trainer(model, request), request, EventPipe(writing), 2**30)
        finally:
            os.close(writing)
        return [decode_event(line) for line in pipe]


def sums(model: nn.Module) -> list[float]:
    return [array.sum().item() for _, array in tree_flatten(model.trainable_parameters())]


def test_lengths_take_turns_and_the_first_of_each_is_marked() -> None:
    model = prepared_model()
    request = replace(REQUEST, lengths=(9, 17), validation_lengths=(33,))
    began, *events = timed(request, model)
    assert isinstance(began, PhaseBegan)
    assert began.phase is Phase.LENGTHS
    found = [event for event in events if isinstance(event, Timed)]
    steps = [event for event in found if not event.is_validation]
    rounds = len(steps) // 2
    assert 1 + timing.STEPS <= rounds <= 1 + timing.MAX_STEPS
    assert [event.seq_length for event in steps] == [9, 17] * rounds
    assert [event.is_first for event in steps] == [True] * 2 + [False] * 2 * (rounds - 1)
    assert {event.seq_length for event in found if event.is_validation} == {33}
    assert all(event.seconds > 0 and event.peak_bytes > 0 for event in found)


def test_every_variant_of_the_step_is_warmed_up() -> None:
    accumulating = replace(REQUEST.configuration, grad_accumulation_steps=4)
    request = replace(REQUEST, configuration=accumulating, lengths=(9,))
    events = [event for event in timed(request, prepared_model()) if isinstance(event, Timed)]
    assert [event.is_first for event in events[:3]] == [True, True, False]


@pytest.mark.parametrize(("lengths", "changes"), [((9,), True), ((), False)])
def test_steps_train_and_validation_does_not(lengths: tuple[int, ...], changes: bool) -> None:
    model = prepared_model()
    before = sums(model)
    timed(replace(REQUEST, lengths=lengths, validation_lengths=(9,)), model)
    assert (sums(model) != before) is changes
    assert model.training


def test_slow_steps_are_timed_only_as_often_as_necessary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_ENOUGH_SECONDS", 0.0)
    events = timed(replace(REQUEST, lengths=(9,)), prepared_model())
    assert sum(isinstance(event, Timed) for event in events) == 1 + timing.STEPS


def test_nothing_is_timed_without_data() -> None:
    assert timed(REQUEST, prepared_model()) == []
