"""Describes the device and models for the parent, which never imports MLX."""

from __future__ import annotations

import os
from typing import NoReturn

from worker import device
from worker.events import EventPipe
from worker.protocol.messages import ModelFacts, ProbeAnswer
from worker.protocol.requests import ProbeRequest


def run(request: ProbeRequest, events: EventPipe) -> NoReturn:
    """Send one `ProbeAnswer` and exit. Imports mlx-lm only if there are models to build."""
    models: dict[str, ModelFacts] = {}
    problems: dict[str, str] = {}
    if request.configs:
        from worker import architecture

        for name, config in request.configs.items():
            try:
                models[name] = architecture.facts(config)
            except architecture.UnsupportedModelError as error:
                problems[name] = str(error)
    events.send(ProbeAnswer(device.describe(events.now()), models, problems))
    os._exit(0)
