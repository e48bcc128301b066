"""The header of a run in its journal, and what must not change on resume."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, replace
from typing import Any

import pytest

from tests.support import builders, trainings
from worker.protocol.requests import ModelSource
from your_ai.errors import UsageError
from your_ai.planning.lora_config import LoraConfig, Schedule
from your_ai.planning.plan import Trial
from your_ai.runs import journal
from your_ai.runs.run import Argument, Run, check_same, read_header, version_changes
from your_ai.search.grid import Axes
from your_ai.search.search import Objective, SearchOptions

SEARCH = SearchOptions(Axes((1, 2), (8,), (4,)), Objective.TOKENS, exhaustive=True)
ODD = Trial(
    2,
    builders.model("b\udcff", config={**builders.CONFIG, "limit": math.inf}),
    builders.request(model=ModelSource({"a": [1, {"b": None}]}, "/x"), quantization_bits=8),
)


@pytest.mark.parametrize(
    "run",
    [
        builders.run(),
        builders.run(gpu_uuid="GPU-1", cooldown=60.0),
        builders.run(config=LoraConfig(lr_schedule=Schedule("cosine_decay", (1e-5, 100)))),
        builders.run(arguments={"--model": ("a,b", "c"), "--ranks": "8,16", "--quick": True}),
        builders.run(builders.trial(), ODD, search=SEARCH, deadline=math.inf, output="out.json"),
    ],
)
def test_a_run_survives_the_journal(run: Run) -> None:
    line = journal.decode(journal.encode(journal.Record("began", {"run": asdict(run)})))
    assert line is not None
    assert read_header(line.fields, Run) == run


@pytest.mark.parametrize("field", ["gpu_uuid", "cooldown", "config"])
def test_a_run_without_a_new_field_can_be_read(field: str) -> None:
    fields = asdict(builders.run())
    del fields[field]
    assert read_header({"run": fields}, Run) == builders.run()


@pytest.mark.parametrize("change", [{"trials": 5}, {"machine": {}}, {"deadline": "soon"}])
def test_a_run_of_another_version_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="another version of your_ai"):
        read_header({"run": {**asdict(builders.run()), **change}}, Run)


RUN = builders.run(arguments={"--max-memory": "24.0", "--model": ("llama-8b",)})


@pytest.mark.parametrize("given", [{}, {"--max-memory": "24.0"}, RUN.arguments])
def test_a_run_can_be_resumed_with_the_same_options_or_none(given: dict[str, Argument]) -> None:
    check_same(RUN, given, RUN.device, RUN.version)


@pytest.mark.parametrize(
    ("given", "difference"),
    [
        ({"--max-memory": "16.0"}, "--max-memory 16.0 (was 24.0)"),
        ({"--model": ("llama-8b",), "--steps": "9"}, "--steps 9 (was not given)"),
        ({"--model": ("llama-8b", "a b")}, "--model llama-8b 'a b' (was llama-8b)"),
        ({"--model": ("llama-8b",), "--keep-going": True}, "--keep-going on (was not given)"),
    ],
)
def test_a_changed_option_is_refused(given: dict[str, Argument], difference: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_same(RUN, given, RUN.device, RUN.version)
    assert f"Cannot resume /runs/1 with different settings or versions: {difference}." in str(
        refused.value
    )


CONFIG = LoraConfig(batch_size=2, given=("batch_size",))


def test_only_the_content_of_the_config_must_be_the_same() -> None:
    run = builders.run(arguments={"--config": "a.yaml"}, config=CONFIG)
    same = replace(CONFIG, iters=1000, given=())
    check_same(run, {"--config": "b.yaml"}, run.device, run.version, same)
    check_same(run, {}, run.device, run.version)
    changed = replace(CONFIG, batch_size=8, lora_keys=("a", "b"))
    with pytest.raises(UsageError) as refused:
        check_same(run, {"--config": "a.yaml"}, run.device, run.version, changed)
    assert ": batch_size 8 (was 2), lora_parameters.keys a, b (was all)." in str(refused.value)


def test_a_config_cannot_be_added() -> None:
    with pytest.raises(UsageError, match=r"--config a\.yaml \(was not given\)"):
        check_same(RUN, {"--config": "a.yaml"}, RUN.device, RUN.version, CONFIG)


@pytest.mark.parametrize(
    ("changed", "version", "difference"),
    [
        ({"name": "Apple M4"}, "1.0", "device Apple M4 (was Apple M3 Pro)"),
        ({"backend": "cpu"}, "1.0", "backend cpu (was metal)"),
        ({"versions": {"mlx": "0.33.0"}}, "1.0", "mlx 0.33.0 (was 0.32.4)"),
        ({}, "2.0", "your_ai 2.0 (was 1.0)"),
    ],
)
def test_another_device_or_version_is_refused(
    changed: dict[str, Any], version: str, difference: str
) -> None:
    with pytest.raises(UsageError) as refused:
        check_same(RUN, {}, replace(RUN.device, **changed), version)
    assert difference in str(refused.value)


def test_the_free_memory_of_a_gpu_may_change() -> None:
    check_same(RUN, {}, replace(RUN.device, free_bytes=1), RUN.version)


@pytest.mark.parametrize(
    ("mlx", "version", "difference"),
    [
        ("0.32.5", "1.0", None),
        ("0.32.4", "1.0.1", None),
        ("0.33.0", "1.0", "mlx 0.33.0 (was 0.32.4)"),
        ("0.32.4", "1.1", "your_ai 1.1 (was 1.0)"),
    ],
)
def test_a_training_may_be_resumed_after_a_patch_release(
    mlx: str, version: str, difference: str | None
) -> None:
    header = trainings.training()
    device = replace(header.device, versions={"mlx": mlx})
    changes = version_changes(header, {"mlx": mlx, "your_ai": version})
    assert len(changes) == 1
    if difference is None:
        check_same(header, {}, device, version)
    else:
        assert changes == [difference]
        with pytest.raises(UsageError, match=re.escape(difference)):
            check_same(header, {}, device, version)
