"""Trials of small models measure what mlx-lm's own training does. See scripts/bench-matrix.py."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import mlx_lm
import pytest

from tests.matrix.check import Comparison, Trial, compare
from tests.matrix.configs import all_configs
from tests.matrix.reference import Reference

REPRESENTATIVES = {
    "llama": "dense",
    "qwen2": "tied embeddings",
    "qwen3_moe": "mixture of experts",
    "deepseek_v3": "multi-head latent attention",
    "mamba2": "state space",
    "nemotron_h": "hybrid",
    "qwen3_next": "linear attention",
    "gemma4": "per-layer embeddings",
    "mistral3": "vision-language wrapper",
    "llama-mxfp4": "microscaling",
    "gpt_oss-mxfp4": "microscaling experts",
    "llama-bfloat16": "bfloat16",
}


@pytest.mark.alone  # on a busy CPU, MLX waits for memory elsewhere
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_a_trial_measures_what_mlx_lm_measures(name: str) -> None:
    compared = compare(all_configs()[name])
    if compared.problems():  # where MLX waits for memory is partly chance, so take the median
        compared = compare(all_configs()[name], rounds=3)
    assert compared.refused is None
    assert compared.problems() == []


def test_every_type_of_mlx_lm_has_a_config() -> None:
    modules = (Path(mlx_lm.__file__).parent / "models").glob("*.py")
    defined = re.compile(r"^class Model\(|^from .* import .*\bModel\b", re.MULTILINE)
    types = {module.stem for module in modules if defined.search(module.read_text())}
    assert len(types) > 100
    assert types == {name for name in all_configs() if name in types}


SAME = Comparison((Trial(8, (5.0, 4.0), 100),), (Reference(8, (5.0, 4.0), 100),))


@pytest.mark.parametrize(
    ("trial", "problem"),
    [
        (Trial(9, (5.0, 4.0), 100), "9 trainable parameters, mlx-lm 8"),
        (Trial(8, (5.0, 4.1), 100), "the losses differ by 1.0e-01"),
        (Trial(8, (float("nan"), 4.0), 100), "the losses differ by nan"),
        (Trial(8, (5.0, 4.0), 103), "the tight peak is 1.030 of mlx-lm's"),
        (Trial(8, (5.0, 4.0), 97), "the tight peak is 0.970 of mlx-lm's"),
        (Trial(error="error: no"), "error: no"),
    ],
)
def test_a_difference_is_a_problem(trial: Trial, problem: str) -> None:
    assert SAME.problems() == []
    assert replace(SAME, trials=(trial,)).problems() == [problem]
