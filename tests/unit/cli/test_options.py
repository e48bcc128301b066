"""Parsing of option values, and which default applies."""

from __future__ import annotations

import click
import pytest

from worker.protocol.configuration import Weights
from your_ai.cli import benchmark
from your_ai.cli.options import given, training
from your_ai.cli.params import Number
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
    assert TrainingOptions() == TrainingOptions(2, 64, None, 1024, 5, None, Weights.SYNTHETIC, True)


def test_options_override_defaults_of_the_suite() -> None:
    values = {**NOTHING, "seq_length": 64, "grad_checkpoint": False}
    options = training(values, {"seq_length": 128, "lora_rank": 8, "quantize": 0})
    assert options == TrainingOptions(seq_length=64, lora_rank=8, quantize=0, grad_checkpoint=False)


@pytest.mark.parametrize(("word", "bits"), [("4", 4), ("8", 8), ("none", 0)])
def test_quantization(word: str, bits: int) -> None:
    assert training({**NOTHING, "quantize": word}, {"quantize": 4}).quantize == bits
