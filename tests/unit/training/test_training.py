"""A training's choice, its smaller and smaller settings, what it expects, and its progress."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.support import builders
from tests.support.builders import TRAINING_REQUEST, model, passing_events, results_document, spec
from worker.protocol.messages import Phase, Step
from your_ai.errors import UsageError
from your_ai.planning.plan import Trial
from your_ai.training.dataset import Data
from your_ai.training.export import as_yaml, lora_config
from your_ai.training.job import Expected, Setting, Training, expect, from_fields, to_fields
from your_ai.training.progress import FAILED, REPORTED, STARTED, Progress, document, report_on
from your_ai.training.request import check_device
from your_ai.training.source import Choice, choose
from your_ai.units import GB, MB

RUN = builders.run()
TRAINING = Training(
    id="an id",
    command="train",
    arguments={"--from": "r.json"},
    name="tiny",
    model_name="org/tiny",
    bits=4,
    data=Data(100, 8, "00ff"),
    spec=TRAINING_REQUEST,
    needed_limit_bytes=4 * GB,
    expected=Expected(7 * GB, 1.0, 100.0, is_measured=True),
    restarts=4,
    steps_per_report=10,
    machine=RUN.machine,
    device=RUN.device,
    started_at="2026-01-02T03:04:00Z",
    run_dir="/runs/1",
    version="1.0",
)


def passed() -> dict[str, Any]:
    return results_document(builders.observed(*passing_events()))


CHOICE = choose(passed(), None)


def test_the_recommended_model_is_chosen() -> None:
    assert isinstance(CHOICE, Choice)
    assert (CHOICE.name, CHOICE.model_name) == ("m1", "org/m1")
    assert (CHOICE.peak_bytes, CHOICE.needed_bytes) == (7 * GB, 6 * GB)
    assert (CHOICE.limit_bytes, CHOICE.needed_limit_bytes) == (8 * GB, 4 * GB)


@pytest.mark.parametrize("name", ["m1", "org/m1"])
def test_a_model_can_be_named_as_the_results_do(name: str) -> None:
    assert choose(passed(), name) == CHOICE


def test_the_best_configuration_is_taken() -> None:
    found = passed()
    (entry,) = found["results"]
    larger = {**entry, "config": {**entry["config"], "batch_size": 4}, "peak_memory_bytes": 5}
    entry["optimal_config"] = {
        "optimal_batch_size": 4,
        "optimal_lora_rank": 64,
        "optimal_lora_layers": 2,
        "all_results": [dict(entry), larger],
    }
    assert (choose(found, None).batch_size, choose(found, None).peak_bytes) == (4, 5)


def test_one_that_did_not_pass_is_refused() -> None:
    found = passed()
    found["results"][0] |= {"success": False, "error": "needs at least 9 GB"}
    with pytest.raises(UsageError, match="m1 did not pass there: needs at least 9 GB"):
        choose(found, "m1")


def test_what_another_device_measured_does_not_hold() -> None:
    device = replace(RUN.device, name=CHOICE.device, backend=CHOICE.backend)
    check_device(CHOICE, device)
    with pytest.raises(UsageError, match=r"were measured on .*, and this is Apple M9 "):
        check_device(CHOICE, replace(device, name="Apple M9"))
    with pytest.raises(UsageError, match=r"a budget of 8\.0 GB, and .* has 4\.0 GB here"):
        check_device(CHOICE, replace(device, memory_bytes=4 * GB))


def test_of_two_folders_of_one_name_the_recommended_one_is_taken() -> None:
    found = passed()
    (entry,) = found["results"]
    entry |= {"preset": "model", "model_name": "/b/model", "params": "2B"}
    failed = {**entry, "model_name": "/a/model", "success": False, "error": "too large"}
    smaller = {**entry, "model_name": "/c/model", "params": "1B"}
    found |= {"recommended": "model", "results": [failed, smaller, entry]}
    assert choose(found, None).model_name == "/b/model"
    assert choose(found, "/c/model").model_name == "/c/model"


def test_a_search_that_found_nothing_is_refused() -> None:
    found = passed()
    (entry,) = found["results"]
    trials = [{**entry, "success": False}]
    nothing = {f"optimal_{axis}": None for axis in ("batch_size", "lora_rank", "lora_layers")}
    entry |= {"success": False, "error": "none of the grid passed"}
    entry["optimal_config"] = {**nothing, "all_results": trials}
    with pytest.raises(UsageError, match="m1 did not pass there: none of the grid passed"):
        choose(found, "m1")


def test_what_is_no_results_document_is_refused() -> None:
    with pytest.raises(UsageError, match="no results file"):
        choose({"recommended": "m", "results": [{}]}, None)


def test_settings_get_smaller_and_keep_the_batch() -> None:
    settings, setting = [], TRAINING.smaller(TRAINING.first)
    while setting is not None:
        settings.append(setting)
        setting = TRAINING.smaller(setting)
    assert settings == [
        Setting(2, 8 * GB),
        Setting(6, 8 * GB),
        Setting(6, 4 * GB),
    ]
    assert all(TRAINING_REQUEST.batch_size % each.parts == 0 for each in settings)


@pytest.mark.parametrize(("size", "parts"), [(8, [2, 4, 8]), (5, [5]), (9, [3, 9]), (1, [])])
def test_a_batch_is_halved_where_that_goes(size: int, parts: list[int]) -> None:
    training = replace(
        TRAINING, spec=replace(TRAINING_REQUEST, batch_size=size), needed_limit_bytes=8 * GB
    )
    found, setting = [], training.smaller(training.first)
    while setting is not None:
        found.append(setting.parts)
        setting = training.smaller(setting)
    assert found == parts


def test_the_request_has_the_setting() -> None:
    request = TRAINING.with_setting(Setting(3, 5 * GB), restart=True)
    assert (request.parts, request.limit_bytes, request.restart) == (3, 5 * GB, True)
    assert replace(request, parts=1, limit_bytes=8 * GB, restart=False) == TRAINING_REQUEST


def test_a_training_comes_back_from_its_journal() -> None:
    fields = json.loads(json.dumps(to_fields(TRAINING)))
    assert from_fields(fields) == TRAINING
    with pytest.raises(UsageError, match="another version"):
        from_fields({**fields, "restarts": "many"})


def trial(**changed: Any) -> Trial:
    return Trial(1, model("m1"), spec(**changed))


def test_the_same_training_is_expected_to_take_what_was_measured() -> None:
    assert expect(CHOICE, trial(), 10) == Expected(7 * GB, 2048 / 2046, 20480 / 2046, True)


def test_another_is_estimated_from_that() -> None:
    more = expect(CHOICE, trial(batch_size=16), 10)
    assert not more.is_measured
    assert more.peak_bytes > 7 * GB
    assert more.seconds_per_iteration == pytest.approx(8 * 2048 / 2046)
    assert expect(CHOICE, trial(batch_size=1), 10).peak_bytes == 7 * GB


def step(index: int, loss: float = 2.0) -> Step:
    return Step(1.0, Phase.TRAIN, index, 0.5, 100, loss, index * MB)


def reported(progress: Progress, *indices: int, loss: float = 2.0) -> Progress:
    steps = [step(index, loss) for index in indices]
    report = report_on(steps)
    fields = {name: getattr(report, name) for name in report.__dataclass_fields__}
    return progress.after(REPORTED, fields)


def test_what_is_trained_on_again_counts_once() -> None:
    progress = Progress(TRAINING.first)
    for indices in ((1, 2), (3, 4), (5, 6)):
        progress = reported(progress, *indices)
    progress = reported(progress, 3, 4, loss=1.0)
    assert [report.iteration for report in progress.reports.values()] == [2, 4]
    found = document(TRAINING, progress, "pass", "")
    assert found["losses"] == [[2, 2.0], [4, 1.0]]
    assert (found["iterations"], found["samples"]) == (4, 24)
    assert found["measured"]["peak_bytes"] == 4 * MB
    assert found["measured"]["tokens_per_second"] == 200


def test_a_training_that_never_came_to_a_step() -> None:
    found = document(TRAINING, Progress(TRAINING.first), "error", "why")
    assert (found["error"], found["iterations"], found["losses"]) == ("why", 0, [])
    assert found["measured"]["seconds_per_iteration"] is None


def test_the_last_setting_is_gone_on_with() -> None:
    progress = Progress(TRAINING.first).after(STARTED, {"parts": 3, "limit_bytes": 9, "at": ""})
    assert (progress.setting, progress.attempts) == (Setting(3, 9), 1)
    failed = {"parts": 3, "limit_bytes": 9, "outcome": "oom", "following": None}
    assert progress.after(FAILED, failed).setting == Setting(3, 9)
    smaller = {"parts": 6, "limit_bytes": 9}
    progress = progress.after(FAILED, {**failed, "following": smaller})
    assert progress.setting == Setting(6, 9)
    assert progress.failures == ({"parts": 3, "limit_bytes": 9, "outcome": "oom"},)


def test_the_yaml_is_what_was_meant() -> None:
    import yaml  # type: ignore[import-untyped]  # its stubs are another package

    config = lora_config(TRAINING_REQUEST, "org/tiny", 10, ["self_attn.q_proj"])
    text = as_yaml(config, ["a note"])
    assert text.startswith("# a note\n")
    read = yaml.safe_load(text)
    read["learning_rate"] = float(read["learning_rate"])  # mlx-lm has a resolver of its own
    assert read == config
