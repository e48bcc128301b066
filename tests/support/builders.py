"""Builders of the product's objects with typical contents. A test changes only what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.support import tiny
from worker.protocol.configuration import ALL_KEYS, Configuration, Optimizer, Weights
from worker.protocol.memory import MemoryFacts, StepMemory, Table, TrainedLayers
from worker.protocol.messages import (
    Device,
    Event,
    Loaded,
    Memory,
    OverBudget,
    Passed,
    Phase,
    PhaseBegan,
    Started,
    Step,
)
from worker.protocol.requests import ModelSource, TrainingRequest, TrialRequest
from your_ai.models.resolve import Model
from your_ai.planning import device
from your_ai.planning.plan import Trial
from your_ai.recommend.recommend import Forecast, Source
from your_ai.runs.assembly import assemble
from your_ai.runs.ceiling_map import CeilingMap
from your_ai.runs.results import Results
from your_ai.runs.run import Run
from your_ai.runs.search_result import ProofOfOptimum
from your_ai.runs.trial_record import result_of, result_without_worker
from your_ai.runs.trial_result import OptimalConfig, TrialResult
from your_ai.search.grid import Axes
from your_ai.search.search import Objective, Search
from your_ai.supervision.classify import classify
from your_ai.supervision.observation import Observation
from your_ai.supervision.outcome import Outcome, OutcomeKind
from your_ai.system.conditions import Conditions
from your_ai.system.machine import Machine
from your_ai.system.macos import ThermalPressure
from your_ai.system.power import PowerSource
from your_ai.units import GB, MB

STARTED_AT = "2026-01-02T03:04:05Z"
CONFIG = {**tiny.LLAMA, "max_position_embeddings": 2048}

CPU = Device(0.5, "cpu", {"device_name": "AMD EPYC", "architecture": "x86_64"}, {"mlx": "0.32.4"})
ON_MAINS = Conditions(PowerSource.MAINS, False, ThermalPressure.NOMINAL, None, None, None, None)
ON_BATTERY = replace(ON_MAINS, power_source=PowerSource.BATTERY)
METAL = Device(0.5, "metal", {"device_name": "Apple M3 Pro"}, {"mlx": "0.32.4"})


PLAIN = Configuration(lora_keys=ALL_KEYS, optimizer=Optimizer.ADAM)
"""The configuration that the command line has by default."""

TRAINING_REQUEST = TrainingRequest(
    model=ModelSource(CONFIG, "/model"),
    configuration=replace(PLAIN, weights=Weights.REAL, batch_size=6, lora_layers=2),
    data="/data",
    adapter_path="/adapters",
    iters=100,
    micro_batches=1,
    learning_rate=1e-5,
    mask_prompt=False,
    seed=0,
    val_batches=25,
    steps_per_eval=200,
    save_every=100,
    limit_bytes=8 * GB,
    budget_bytes=8 * GB,
    adapter_config={},
    resume=False,
)


def _table(bytes_per_token: int) -> Table:
    """Return a table for `_STEP` in which memory is proportional to layers and tokens."""
    return tuple(
        tuple(
            tuple(layers * length * batch * bytes_per_token for batch in (1, 4))
            for length in (16, 1024)
        )
        for layers in (1, 2)
    )


def step_memory(bytes_per_token: int) -> StepMemory:
    """Return the memory of a step of `model`, which is proportional to the tokens."""
    return StepMemory(
        layers=(1, 2),
        seq_lengths=(16, 1024),
        batch_sizes=(1, 4),
        rank=16,
        needed=_table(bytes_per_token),
        needed_per_rank=_table(8),
        unlimited=_table(3 * bytes_per_token),
    )


def model(name: str = "tiny", params: str = "7B", **changed: Any) -> Model:
    """Return a model of two layers with any size label."""
    facts: dict[str, Any] = {
        "model_name": f"org/{name}",
        "config": CONFIG,
        "layers": 2,
        "parameters": 139_584,
        **changed,
    }
    return Model(name=name, params=params, **facts)


def probed(of: Model) -> Model:
    """Return a model with what a probe could say about its memory."""
    trained = TrainedLayers(2, weights=0, bytes=0, weights_per_rank=1000, bytes_per_rank=4000)
    memory = MemoryFacts((trained,), step_memory(10_000), step_memory(30_000))
    return replace(of, weights_bytes=80_000, memory=memory)


def request(**changed: Any) -> TrialRequest:
    """Return a request for 5 relaxed steps with a budget of 8 GB.

    ``changed`` has fields of the request or of its configuration.
    """
    names = Configuration.__dataclass_fields__
    sizes = {"quantization_bits": 4, "lora_layers": 2}
    configuration = sizes | {name: changed[name] for name in changed if name in names}
    fields: dict[str, Any] = {
        "model": ModelSource(CONFIG),
        "configuration": replace(PLAIN, **configuration),
        "steps": 5,
        "budget_bytes": 8 * GB,
        **{name: value for name, value in changed.items() if name not in names},
    }
    return TrialRequest(**fields)


def trial(index: int = 1, name: str = "tiny", params: str = "7B", **changed: Any) -> Trial:
    """Return a trial with `model` and `request`."""
    return Trial(index, model(name, params), request(**changed))


def began(phase: Phase, at: float, device: Device = CPU) -> list[Event]:
    """Return a worker's events up to the beginning of ``phase`` at ``at`` seconds."""
    phases = list(Phase)
    earlier = [PhaseBegan(i / 10, p) for i, p in enumerate(phases[: phases.index(phase)])]
    imported = [device] if earlier else []
    return [Started(0.0, 4711), *earlier, *imported, PhaseBegan(at, phase)]


def passing_events(
    steps: int = 5, *, needed: int = 6 * 2**30, peak: int = 7 * 2**30, device: Device = CPU
) -> tuple[Event, ...]:
    """Return all events of a passed trial: 3 tight steps of 2 s, ``steps`` relaxed of 1 s."""
    limit = 8 * 2**30
    resident = 4 * 2**30
    return (
        Started(0.0, 4711),
        PhaseBegan(0.1, Phase.IMPORT),
        device,
        PhaseBegan(1.0, Phase.LOAD),
        Memory(1.5, resident, 0),
        Loaded(2.0, 1.0, resident, resident + 1000, 7_000_000_000, 50_000_000),
        PhaseBegan(2.0, Phase.TIGHT, resident),
        *(Step(2.0 + 2 * i, Phase.TIGHT, i, 2.0, 2046, 10.0 - i, needed) for i in (1, 2, 3)),
        PhaseBegan(10.0, Phase.RELAXED, limit),
        *(
            Step(10.0 + i, Phase.RELAXED, i, 1.0, 2046, 7.0 - i / 10, peak)
            for i in range(1, steps + 1)
        ),
        Passed(30.0, needed, resident, peak, limit),
    )


def observed(*events: Event, returncode: int = 0, **changed: Any) -> Observation:
    """Return an observation of a worker that sent these events and then ended."""
    return Observation(events, returncode, 31.0, **changed)


def result(
    of: Trial | None = None,
    seen: Observation | None = None,
    outcome: Outcome | None = None,
    **changed: Any,
) -> TrialResult:
    """Return the result of a trial, by default a passed one. A skipped trial has no worker."""
    of = of or trial()
    if outcome is not None and outcome.kind is OutcomeKind.SKIPPED:
        return replace(result_without_worker(of, outcome, STARTED_AT), **changed)
    seen = seen or observed(*passing_events())
    outcome = outcome or classify(seen, of.request.steps)
    return replace(result_of(of, outcome, STARTED_AT, seen, "x.log"), **changed)


def run(*trials: Trial, **changed: Any) -> Run:
    """Return a run of these trials on a Mac."""
    facts: dict[str, Any] = {
        "command": "benchmark",
        "arguments": {},
        "machine": Machine("macOS", "26.1", "arm64", 12, 36 * 2**30, "3.11.7"),
        "device": device.Device(
            "metal", "Apple M3 Pro", 36 * 2**30, 27 * 2**30, None, {"mlx": "0.32.4"}
        ),
        "trials": trials or (trial(),),
        "search": None,
        "deadline": 3600.0,
        "keep_going": False,
        "started_at": "2026-01-02T03:04:00Z",
        "run_dir": "/runs/1",
        "output": None,
        "version": "1.0",
        **changed,
    }
    return Run(**facts)


def line(of: Trial, needed_mb: float, source: Source, error: float = 0.15) -> Forecast:
    """Return a line of a recommendation. ``error`` is the relative error of an estimate."""
    error = 0.0 if source is Source.MEASURED else error
    least, most = int(needed_mb * (1 - error) * MB), int(needed_mb * (1 + error) * MB)
    return Forecast(of, source, int(needed_mb * MB), least, most, 500 * MB)


def results(*found: TrialResult, **changed: Any) -> Results:
    """Return the results of a run whose trials ended with these results."""
    trials = [trial(n, r.preset, r.params) for n, r in enumerate(found, start=1)]
    ended = (replace(each, index=n) for n, each in enumerate(found, start=1))
    return replace(assemble(run(*trials), ended), **changed)


def ladder(*seen: Observation) -> Results:
    """Return the results of a run of increasingly large models m1, m2, … observed like this."""
    trials = [trial(n, f"m{n}", f"{n}B") for n, _ in enumerate(seen, start=1)]
    return results(*(result(t, each) for t, each in zip(trials, seen, strict=True)))


def searched(entry: TrialResult, *others: TrialResult) -> TrialResult:
    """Return ``entry`` with the record of a search that tried ``others``, too, without optimum."""
    found = OptimalConfig(
        model=entry.model_name,
        created_at=STARTED_AT,
        objective=Objective.CAPACITY,
        exhaustive=False,
        grid=Axes((2,), (64,), (2,)),
        complete=True,
        proven=False,
        certificate=ProofOfOptimum((), ()),
        pareto=(),
        all_results=(entry, *others),
    )
    return replace(entry, optimal_config=found)


def mapped(axes: Axes, fits: Callable[[Configuration], bool], name: str = "tiny") -> TrialResult:
    """Return a model's entry with the map of its longest sequences, which a search found.

    ``fits`` says whether a configuration passes; otherwise it is over the budget.
    """
    over = OverBudget(3.0, Phase.TIGHT, 9 * GB, planned=False)
    first = trial(name=name)
    search = Search(axes.around(first.configuration, 2), 8 * GB, Objective.CEILING)
    state = CeilingMap(search, ())
    while configuration := search.propose(state.tried):
        events = passing_events() if fits(configuration) else (*began(Phase.TIGHT, 2.0), over)
        seen = observed(*events, returncode=0 if fits(configuration) else 1)
        tried = result(first.with_configuration(configuration), seen)
        state = replace(state, results=(*state.results, tried))
    return replace(state.longest, ceiling=state.as_result())
