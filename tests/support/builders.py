"""Real objects of the product with unremarkable contents, of which a test changes one thing."""

from __future__ import annotations

from typing import Any

import orjson

from tests.support import tiny
from worker.protocol.messages import (
    Device,
    Event,
    Loaded,
    Memory,
    ModelSource,
    Passed,
    Phase,
    PhaseBegan,
    Quantization,
    Started,
    Step,
    TrainingRequest,
    TrialRequest,
)
from your_ai.models.resolve import Model
from your_ai.planning import device
from your_ai.planning.plan import Trial
from your_ai.runs import journal
from your_ai.runs.results import Entry, document
from your_ai.runs.run import Run
from your_ai.runs.trial_record import Ended, TrialRecord, recall, to_json
from your_ai.supervision.observation import Observation
from your_ai.supervision.outcome import classify
from your_ai.system.machine import Machine
from your_ai.units import GB

CONFIG = {**tiny.LLAMA, "max_position_embeddings": 2048}

CPU = Device(0.5, "cpu", {"device_name": "AMD EPYC", "architecture": "x86_64"}, {"mlx": "0.32.4"})
METAL = Device(0.5, "metal", {"device_name": "Apple M3 Pro"}, {"mlx": "0.32.4"})


TRAINING_SPEC = TrainingRequest(
    model=ModelSource(CONFIG, "/model"),
    quantization=None,
    data="/data",
    adapter_path="/adapters",
    iters=100,
    batch_size=6,
    parts=1,
    grad_accumulation_steps=1,
    learning_rate=1e-5,
    lora_rank=64,
    lora_layers=2,
    max_seq_length=1024,
    grad_checkpoint=True,
    mask_prompt=False,
    seed=0,
    val_batches=25,
    steps_per_eval=200,
    save_every=100,
    limit_bytes=8 * GB,
    budget_bytes=8 * GB,
    adapter_config={},
    restart=False,
)


def model(name: str = "tiny", params: str = "7B", **changed: Any) -> Model:
    """A model of two layers, however large its label says that it is."""
    facts: dict[str, Any] = {"model_name": f"org/{name}", "config": CONFIG, "layers": 2, **changed}
    return Model(name=name, params=params, **facts)


def spec(**changed: Any) -> TrialRequest:
    """A trial of five counted steps under a budget of 8 GB."""
    fields: dict[str, Any] = {
        "model": ModelSource(CONFIG),
        "weights": "synthetic",
        "quantization": Quantization(4),
        "batch_size": 2,
        "lora_rank": 64,
        "lora_layers": 2,
        "seq_length": 1024,
        "steps": 5,
        "grad_checkpoint": True,
        "budget_bytes": 8 * 2**30,
        **changed,
    }
    return TrialRequest(**fields)


def trial(index: int = 1, name: str = "tiny", params: str = "7B") -> Trial:
    """A trial of `model`, with `spec`."""
    return Trial(index, model(name, params), spec())


def began(phase: Phase, at: float) -> list[Event]:
    """What a worker reports up to the beginning of ``phase``, which begins ``at``."""
    phases = list(Phase)
    earlier = [PhaseBegan(i / 10, p) for i, p in enumerate(phases[: phases.index(phase)])]
    return [Started(0.0, 4711), *earlier, PhaseBegan(at, phase)]


def passing_events(
    steps: int = 5, *, needed: int = 6 * 2**30, peak: int = 7 * 2**30, device: Device = CPU
) -> tuple[Event, ...]:
    """All that a worker reports of a pass: 3 tight steps of 2 s, counted ones of 1 s."""
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
    """An observation of a worker that reported these events and then ended."""
    return Observation(events, returncode, 31.0, **changed)


_LINES: dict[tuple[int, int], bytes] = {}


def kept(ended: Ended) -> TrialRecord:
    """What a run remembers of it; `read` has the rest, by way of a line of a journal."""
    entry = to_json(ended)
    line = journal.encode(journal.Record("ended", {"entry": entry}))
    place = (len(_LINES), len(line))
    _LINES[place] = line
    return recall(ended.trial, entry, place)


def read(record: TrialRecord) -> dict[str, Any]:
    """The whole entry of a record that `kept` returned."""
    line = journal.decode(_LINES[record.place])
    assert line is not None
    entry: dict[str, Any] = line.fields["entry"]
    return entry


def run(*trials: Trial, **changed: Any) -> Run:
    """A run of these trials on a Mac."""
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


def results_document(*seen: Observation) -> dict[str, Any]:
    """The results of a run of these trials."""
    trials = [Trial(n, model(f"m{n}", f"{n}B"), spec()) for n, _ in enumerate(seen, start=1)]
    records = [
        kept(Ended(trial, classify(each, 5), "2026-01-02T03:04:05Z", each, "x.log"))
        for trial, each in zip(trials, seen, strict=True)
    ]
    entries = [Entry(record) for record in records]
    pieces = document(run(*trials), entries, read)
    found: dict[str, Any] = orjson.loads(b"".join(pieces))
    return found
