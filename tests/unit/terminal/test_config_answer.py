"""The answer of `benchmark --config`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support import builders
from tests.support.builders import observed, passing_events, trial
from worker.protocol.messages import Event, OverBudget, Phase, PhaseBegan, Step
from your_ai.planning.lora_config import LoraConfig
from your_ai.runs.assembly import assemble
from your_ai.runs.expected_training import ExpectedTraining
from your_ai.runs.run import Run
from your_ai.runs.trial_result import TrialResult
from your_ai.terminal import wording
from your_ai.terminal.config_answer import answer
from your_ai.units import GB


def run(**changed: Any) -> Run:
    return builders.run(arguments={"--config": "lora.yaml"}, config=LoraConfig(), **changed)


def shown(found: TrialResult) -> list[str]:
    return [*answer(run(), assemble(run(), [found]))]


def test_a_training_that_fits() -> None:
    assert shown(builders.result()) == [
        "lora.yaml with tiny (7B):",
        "    mlx_lm.lora, without a memory limit: peak 7.0 GB, within the budget of 8.0 GB",
        "    your_ai train: runs in 6.0 GB or more, 2,046 tokens/s",
    ]


def test_the_time_is_shown_if_it_is_known() -> None:
    training = ExpectedTraining(
        iters=1000,
        batches_per_epoch=25,
        seconds=3000.0,
        seconds_at_needed_memory=3600.0,
        validations=6,
        validation_seconds=60.0,
        seconds_per_iteration=3.0,
        peak_memory_bytes=7 * GB,
    )
    lines = shown(replace(builders.result(), expected_training=training))
    assert lines[1].endswith(", within the budget of 8.0 GB; about 50 min for 1,000 iterations")
    assert lines[2].endswith(", 2,046 tokens/s; about 50 min to 1 h 00 min")


def test_without_a_limit_the_peak_is_larger_if_the_limit_had_to_be_lowered() -> None:
    events = [*passing_events()]
    at = next(i for i, each in enumerate(events) if isinstance(each, PhaseBegan) and each.at == 10)
    over = Step(9.5, Phase.RELAXED, 1, 1.0, 2046, 7.0, 11 * GB)
    first: list[Event] = [PhaseBegan(9.0, Phase.RELAXED, 8 * GB), over]
    lines = shown(builders.result(seen=observed(*events[:at], *first, *events[at:])))
    assert lines[1:] == [
        "    mlx_lm.lora, without a memory limit: peak of more than 11.0 GB, which exceeds the "
        "budget (8.0 GB)",
        "    your_ai train: runs in 6.0 GB or more, 2,046 tokens/s",
    ]


def test_without_a_limit_the_peak_may_be_larger_if_it_reached_the_limit() -> None:
    found = replace(builders.result(), memory_limit_bytes=7 * GB)
    assert shown(found)[1].endswith(": peak of more than 7.0 GB (measured with a limit of 7.0 GB)")


def test_a_training_that_does_not_fit() -> None:
    seen = observed(
        *builders.began(Phase.TIGHT, 2.0), OverBudget(3.0, Phase.TIGHT, 9 * GB, planned=False)
    )
    lines = shown(builders.result(seen=seen))
    assert [": does not fit (" in line for line in lines] == [False, True, True]


def test_without_a_config_there_is_no_answer() -> None:
    assert [*answer(builders.run(), assemble(builders.run(), [builders.result()]))] == []


def test_the_head_names_what_differs_from_the_file() -> None:
    same = LoraConfig().configuration()
    as_in_file = trial(**{n: getattr(same, n) for n in type(same).__dataclass_fields__})
    of_file = as_in_file.with_configuration(replace(as_in_file.configuration, lora_layers=2))
    assert len(wording.training(run(trials=(of_file,)))) == 1
    c = replace(of_file.configuration, batch_size=1, quantization_bits=4, grad_checkpoint=True)
    assert wording.training(run(trials=(of_file.with_configuration(c),)))[1] == (
        "Unlike lora.yaml: batch size 1 (4), gradient checkpointing (off), "
        "4-bit weights (the model's own)"
    )
