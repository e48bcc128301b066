"""Parsing of option values, and which default applies."""

from __future__ import annotations

from typing import Any

import click
import pytest

from worker.protocol.configuration import FineTuneType, Optimizer, Weights
from your_ai.cli import benchmark
from your_ai.cli.configuration import KEYS, LAYERS, training, trainings
from your_ai.cli.options import given
from your_ai.cli.params import Names, Number
from your_ai.errors import UsageError
from your_ai.planning.plan import TrainingOptions

GIGABYTES = Number("GB", "GB", "24", finite=True)
SECONDS = Number("S", "seconds", "600")
NOTHING = dict.fromkeys(TrainingOptions.__dataclass_fields__)


@pytest.mark.parametrize(("text", "size"), [("24", 24.0), ("0.002", 0.002), ("1e3", 1000.0)])
def test_a_valid_size(text: str, size: float) -> None:
    assert GIGABYTES.convert(text, None, None) == size


@pytest.mark.parametrize("text", ["0", "-1", "abc", "", "nan", "inf", "-inf", "24GB", "0x10"])
def test_an_invalid_size(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"such as 24|not in the range"):
        GIGABYTES.convert(text, None, None)


@pytest.mark.parametrize("text", ["0", "-1", "abc", "", "nan"])
def test_an_invalid_time(text: str) -> None:
    with pytest.raises(click.BadParameter):
        SECONDS.convert(text, None, None)


@pytest.mark.parametrize("text", ["0.5", "3600", "inf"])
def test_a_valid_time(text: str) -> None:
    assert SECONDS.convert(text, None, None) == float(text)


def test_given_options_are_recorded_without_ambiguity() -> None:
    """The name of a model may contain a comma, or be that of a switch's state."""
    typed = "--model a,b --model on --batch-sizes 1,2 --optimize --no-grad-checkpoint --steps 3"
    context = benchmark.command.make_context("benchmark", typed.split())
    assert given(context) == {
        "--model": ("a,b", "on"),
        "--batch-sizes": "1,2",
        "--optimize": True,
        "--grad-checkpoint": False,
        "--steps": "3",
    }


def test_defaults() -> None:
    assert training(NOTHING, {}) == TrainingOptions()
    chosen = TrainingOptions()
    assert (chosen.batch_size, chosen.lora_rank, chosen.lora_layers) == (2, 64, None)
    assert (chosen.seq_length, chosen.grad_checkpoint, chosen.quantize) == (1024, True, None)


def test_options_override_defaults_of_the_suite() -> None:
    values = {**NOTHING, "seq_length": 64, "grad_checkpoint": False}
    options = training(values, {"seq_length": 128, "lora_rank": 8, "quantize": "none"})
    assert options == TrainingOptions(
        seq_length=64, lora_rank=8, quantize="none", grad_checkpoint=False
    )


def test_choices_become_what_they_stand_for() -> None:
    values = {"weights": "real", "fine_tune_type": "dora", "optimizer": "sgd", "group_size": "32"}
    assert training({**NOTHING, **values}, {"quantize": "8", "seq_length": 9}) == (
        TrainingOptions(
            seq_length=9,
            quantize="8",
            weights=Weights.REAL,
            fine_tune_type=FineTuneType.DORA,
            optimizer=Optimizer.SGD,
            group_size=32,
        )
    )


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"fine_tune_type": "full", "lora_rank": 8}, "--lora-rank has no effect"),
        ({"fine_tune_type": "full", "lora_keys": ("all",)}, "--lora-keys has no effect"),
        ({"quantize": "mxfp4", "group_size": "64"}, "mxfp4 always has groups of 32"),
        ({"quantize": "none", "group_size": "64"}, "none has no groups"),
    ],
)
def test_options_without_an_effect_are_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        training({**NOTHING, **values}, {})


@pytest.mark.parametrize("text", ["all", "attention", "b,a", " a , b "])
def test_keys(text: str) -> None:
    expected = (text,) if text in ("all", "attention") else ("a", "b")
    assert KEYS.convert(text, None, None) == expected


@pytest.mark.parametrize("text", ["", ",", "a,", "all,attention", "a,all"])
def test_invalid_keys(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not all, attention, or a list"):
        KEYS.convert(text, None, None)


@pytest.mark.parametrize(("text", "count"), [("-1", -1), ("1", 1), ("16", 16)])
def test_a_number_of_layers(text: str, count: int) -> None:
    assert LAYERS.convert(text, None, None) == count


@pytest.mark.parametrize("text", ["0", "-2", "x"])
def test_an_invalid_number_of_layers(text: str) -> None:
    with pytest.raises(click.BadParameter):
        LAYERS.convert(text, None, None)


def test_names_are_taken_once_in_order() -> None:
    names = Names(("none", "8", "4"))
    assert names.convert(" none ,8,none", None, None) == ("none", "8")
    for text in ("", "none,", "none,9"):
        with pytest.raises(click.BadParameter, match="is not one of 'none', '8', '4'"):
            names.convert(text, None, None)


def test_each_quantization_is_a_training_of_its_own_least_memory_first() -> None:
    values = {**NOTHING, "quantize": ("none", "mxfp8", "4"), "group_size": "32"}
    found = [(each.quantize, each.group_size) for each in trainings(values, {"steps": 3})]
    assert found == [("4", 32), ("mxfp8", None), ("none", None)]


@pytest.mark.parametrize("wanted", [None, "8", ("8",)])
def test_a_single_quantization_is_one_training(wanted: str | tuple[str, ...] | None) -> None:
    (only,) = trainings({**NOTHING, "quantize": wanted}, {})
    assert only.quantize == (wanted and "8")


def test_a_group_size_that_suits_no_quantization_is_refused() -> None:
    values = {**NOTHING, "quantize": ("none", "mxfp8"), "group_size": "32"}
    with pytest.raises(UsageError, match="--group-size has no effect"):
        trainings(values, {})
