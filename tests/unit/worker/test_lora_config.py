"""A file of `mlx_lm.lora --config` means what the installed mlx-lm takes it for."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import mlx.optimizers
import pytest

from worker.protocol.configuration import ALL_KEYS, Optimizer
from your_ai.planning import lora_kinds
from your_ai.planning.lora_config import LoraConfig

ROOT = Path(__file__).resolve().parents[3]

# mlx_lm.lora changes yaml.SafeLoader when it is imported, so ours reads the table before that.
LOADERS = """
import json, pathlib, sys, tempfile, yaml
from your_ai.planning.lora_yaml import read
texts = json.loads(sys.argv[1])
file = pathlib.Path(tempfile.mkdtemp()) / "x"
def ours(text):
    file.write_text(f"x: {text}")
    return repr(read(file).values["x"])
found = [[ours(text)] for text in texts]
plain = [repr(yaml.safe_load(f"x: {text}")["x"]) for text in texts]
import mlx_lm.lora
for text, each in zip(texts, found):
    each.append(repr(yaml.load(f"x: {text}", mlx_lm.lora.yaml_loader)["x"]))
print(json.dumps([found, plain]))
"""
NUMBERS = ["1", "1.0", "1e-5", "1E-5", "1e5", "-1e-5", "+2e3", "1.e5", "1.5e5", "1.5e+5", "1_0e2"]
SCALARS = [
    *NUMBERS,
    *(".5", ".5e-3", ".5e3", "-.5", "1:30.5", "0x1e5", "0o17", "017", "1_000", ".inf", "-.inf"),
    *(
        "1e",
        "e5",
        "1e-",
        "1e5x",
        "1-e5",
        "--1e5",
        "1e5.0",
        "12e03",
        "1.2.3",
        "v1e5",
        "1e 5",
        "'1e5'",
    ),
    *("true", "no", "null", "~", "2024-01-01", "text", "1e-5 # comment", "[1e-5, 2]", "{a: 1e-5}"),
]


def test_scalars_are_read_as_mlx_lm_reads_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADERS, json.dumps(SCALARS)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found, plain = json.loads(done.stdout.splitlines()[-1])
    assert [
        (text, *each) for text, each in zip(SCALARS, found, strict=True) if each[0] != each[1]
    ] == []
    assert [each[0] for each in found][2] == "1e-05"
    assert plain[2] == "'1e-5'"  # without the rule it would be text


def test_the_defaults_are_those_of_mlx_lm() -> None:
    from mlx_lm.lora import CONFIG_DEFAULTS

    expected = {k: v for k, v in CONFIG_DEFAULTS.items() if k not in lora_kinds.IGNORED}
    parameters = expected.pop("lora_parameters")
    assert set(expected.pop("optimizer_config")) == {each.value for each in Optimizer}
    ours = LoraConfig()
    assert {key: getattr(ours, key) for key in expected} == expected
    assert {key: getattr(ours, f"lora_{key}") for key in parameters} == parameters
    assert (ours.lora_keys, ours.optimizer_config) == (ALL_KEYS, ())


def test_the_keys_are_those_of_mlx_lm() -> None:
    from mlx_lm import lora
    from mlx_lm.tuner import datasets

    options = {action.dest for action in lora.build_parser()._actions} - {"help"}
    extra = set(lora_kinds.TOP) - options - set(lora.CONFIG_DEFAULTS)
    assert options | set(lora.CONFIG_DEFAULTS) <= set(lora_kinds.TOP)
    source = inspect.getsource(datasets)
    assert extra == {"hf_dataset", *(key for key in extra if f'"{key}"' in source)}
    assert all(f'"{key}"' in source for key in lora_kinds.HUB_DATA if key != "mask_prompt")


def test_what_mlx_lm_ignores_is_ignored() -> None:
    """A default on the command line that is not None replaces the value in the file."""
    from mlx_lm import lora

    defaults = vars(lora.build_parser().parse_args([]))
    replaced = {key for key, value in defaults.items() if value is not None}
    assert replaced | {"report_to", "project_name", "config"} == set(lora_kinds.IGNORED)


@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_each_optimizer_has_the_arguments_of_mlx(optimizer: Optimizer) -> None:
    names = {"adamw": "AdamW", "sgd": "SGD"}
    made = getattr(mlx.optimizers, names.get(optimizer, optimizer.value.title()))
    arguments = set(inspect.signature(made).parameters) - {"learning_rate"}
    assert arguments == set(lora_kinds.OPTIMIZERS[optimizer])


@pytest.mark.parametrize("name", lora_kinds.SCHEDULES)
def test_each_schedule_has_the_arguments_of_mlx(name: str) -> None:
    parameters = inspect.signature(getattr(mlx.optimizers.schedulers, name)).parameters.values()
    required = [each for each in parameters if each.default is inspect.Parameter.empty]
    assert lora_kinds.SCHEDULES[name] == (len(required), len(parameters))


def test_no_schedule_is_missing() -> None:
    functions = inspect.getmembers(mlx.optimizers.schedulers, inspect.isfunction)
    assert {name for name, _ in functions} - {"join_schedules"} == set(lora_kinds.SCHEDULES)
