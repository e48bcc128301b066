"""The file of `mlx_lm.lora --config`: what it means, and what is wrong with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.protocol.configuration import FineTuneType, Optimizer
from your_ai.errors import UsageError
from your_ai.planning.lora_config import LoraConfig, Schedule, differences, read_config

LORA = "lora_parameters: {rank: 4, scale: 2.0, dropout: 0.1}\n"


def config(folder: Path, text: str | bytes) -> LoraConfig:
    path = folder / "lora.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_config(path)


def test_every_key_is_read(tmp_path: Path) -> None:
    found = config(
        tmp_path,
        """
model: some/model
train: true
fine_tune_type: dora
optimizer: AdamW
optimizer_config:
  adamw: {weight_decay: 5e-2, betas: [0.9, 0.98]}
  sgd: {whatever: 1}
data: folder
num_layers: -1
batch_size: 2
max_seq_length: 512
grad_checkpoint: true
grad_accumulation_steps: 3
learning_rate: 1e-4
lora_parameters: {rank: 16, scale: 10, dropout: 0.25, keys: [mlp.up_proj, self_attn.q_proj]}
lr_schedule: {name: cosine_decay, warmup: 10, warmup_init: 1e-7, arguments: [1e-5, 1000, 1e-7]}
hf_dataset: [{path: a, prompt_feature: p}, {path: b}]
prompt_feature: input
report_to: wandb
seed: null
""",
    )
    assert found.optimizer_config == ("betas=[0.9, 0.98]", "weight_decay=0.05")
    assert found.lr_schedule == Schedule("cosine_decay", (1e-5, 1000, 1e-7), 10, 1e-7)
    assert (found.learning_rate, found.seed, found.iters) == (1e-4, 0, 1000)
    assert (found.hf_dataset, found.prompt_feature) == (("a", "b"), "input")
    assert (found.data, found.model, found.lora_scale) == ("folder", "some/model", 10)
    assert found.options() == {
        "batch_size": 2,
        "lora_rank": 16,
        "lora_layers": -1,
        "seq_length": 512,
        "grad_checkpoint": True,
        "fine_tune_type": FineTuneType.DORA,
        "lora_keys": ("mlp.up_proj", "self_attn.q_proj"),
        "lora_dropout": 0.25,
        "optimizer": Optimizer.ADAMW,
        "optimizer_config": ("betas=[0.9, 0.98]", "weight_decay=0.05"),
        "grad_accumulation_steps": 3,
        "default_quantize": "none",
    }
    assert found.without_effect() == ["learning_rate", "lr_schedule", "report_to"]
    assert "seed" not in found.given


def test_keys_of_lora_parameters_may_be_missing(tmp_path: Path) -> None:
    assert config(tmp_path, LORA).options()["lora_keys"] == ("all",)
    assert config(tmp_path, LORA.replace("}", ", keys: null}")).lora_keys == ("all",)


def test_full_fine_tuning_ignores_lora_parameters(tmp_path: Path) -> None:
    found = config(tmp_path, "fine_tune_type: full\nlora_parameters: {rank: 4}")
    assert (found.fine_tune_type, found.lora_rank) == (FineTuneType.FULL, 4)


@pytest.mark.parametrize("layers", [-1, 0])
def test_no_number_of_layers_means_all(layers: int, tmp_path: Path) -> None:
    assert config(tmp_path, f"num_layers: {layers}").options()["lora_layers"] == -1


def test_the_differences_are_listed_key_by_key(tmp_path: Path) -> None:
    before = config(tmp_path, f"{LORA}batch_size: 4\nreport_to: wandb")
    assert differences(before, config(tmp_path, LORA)) == []  # 4 is the default
    now = config(tmp_path, LORA.replace("4", "8").replace("}", ", keys: [a, b]}") + "test: true")
    assert differences(before, now) == [
        "test true (was false)",
        "lora_parameters.rank 8 (was 4)",
        "lora_parameters.keys a, b (was all)",
    ]


def test_each_field_has_a_default_and_is_hashable() -> None:
    assert hash(LoraConfig()) == hash(LoraConfig())
    assert all(field.default is not dataclasses.MISSING for field in dataclasses.fields(LoraConfig))


BAD: list[tuple[str, str]] = [
    ("", "lora.yaml is not a configuration of mlx_lm.lora: it must be a mapping"),
    ("- model: x", "must be a mapping"),
    ("just text", "must be a mapping"),
    ("a: 1\nb: [1, 2", "lora.yaml, line 2: not valid YAML (expected ',' or ']'"),
    ("a: 1\n\tb: 2", "lora.yaml, line 2: not valid YAML"),
    ("a: 1\n--- \nb: 2", "not valid YAML"),
    ("a: *nothing", "lora.yaml, line 1: not valid YAML (found undefined alias"),
    ("a: !!python/name:os.system x", "lora.yaml, line 1: not valid YAML"),
    ("seed: 1\nmodel: \x01", "lora.yaml, line 2: not valid YAML (special characters"),
    ("seed: 2026-13-45", "not valid YAML (month must be in 1..12"),
    ("seed: " + "9" * 5000, "not valid YAML (Exceeds the limit"),
    ("a: " + "[" * 20_000, "not valid YAML (nested too deeply)"),
    ("? [a]\n: b", "lora.yaml, line 1: not valid YAML (found unhashable key)"),
    ("#" * 2**20 + "##", "lora.yaml is too large"),
    ("seed: 0\nbatchsize: 4", 'line 2: unknown key "batchsize". Did you mean batch_size?'),
    ("batch-size: 4", "Did you mean batch_size?"),
    ("lora_layers: 4", "Did you mean num_layers?"),
    ("use_dora: true", "Did you mean fine_tune_type: dora?"),
    ("rank: 4", "Did you mean lora_parameters.rank?"),
    ("zzz: 4", "Known: adapter_path, batch_size, "),
    ("1: 4", 'unknown key "1". Known: '),
    ("on: 4", 'unknown key "True". Known: '),
    ("batch_size: four", 'batch_size must be a whole number from 1 to 1024, not "four".'),
    ("batch_size: 0", "from 1 to 1024, not 0."),
    ("batch_size: true", "from 1 to 1024, not true."),
    ("iters: 1e3", "iters must be a whole number from 1 to 2147483648, not 1000.0."),
    ("model: 7", "model must be text that is not empty, not 7."),
    ("model: [x]", "model must be text that is not empty, not a list."),
    ("data: 2024-01-01", "data must be text that is not empty, not 2024-01-01."),
    ("grad_checkpoint: 'false'", 'grad_checkpoint must be true or false, not "false".'),
    ("learning_rate: .nan", "learning_rate must be a number above 0, not NaN."),
    ("learning_rate: 1e-5 # ok\nseed: -1", "line 2: seed must be a whole number from 0"),
    ("max_seq_length: 4", "max_seq_length must be a whole number from 8"),
    ("fine_tune_type: LoRA", 'fine_tune_type must be one of lora, dora, full, not "LoRA".'),
    ("optimizer: lion", "optimizer must be one of adam, adamw, muon, sgd, adafactor"),
    ("optimizer_config: {adm: {}}", 'unknown key "optimizer_config.adm". Did you mean adam?'),
    ("optimizer_config: {adam: }", "optimizer_config.adam must be a mapping, not null."),
    ("optimizer_config: {adam: {weight_decay: 1}}", 'unknown key "optimizer_config.adam.weight'),
    ("optimizer_config: {adam: {learning_rate: 1}}", "unknown key "),
    ("optimizer_config: {adam: {betas: [0.9]}}", "must be two numbers from 0 to less than 1"),
    (
        "optimizer: sgd\noptimizer_config:\n  sgd:\n    nesterov: true",
        "line 4: nesterov requires a momentum",
    ),
    ("lora_parameters: 8", "lora_parameters must be a mapping, not 8."),
    ("seed: 1\nlora_parameters:\n  rank: 8\n  alpha: 16", "line 4: mlx_lm.lora has no alpha"),
    ("lora_parameters: {rank: 8}", "must have rank, scale and dropout, but lacks scale, dropout."),
    (LORA.replace("rank", "r"), 'unknown key "lora_parameters.r".'),
    (LORA.replace("0.1", "1"), "lora_parameters.dropout must be a number from 0 to less than 1"),
    (LORA.replace("}", ", keys: q_proj}"), "must be a list of names of modules, such as self_attn"),
    (LORA.replace("}", ", keys: []}"), "must be a list of names of modules"),
    (LORA.replace("}", ", keys: [all]}"), "all is not the name of a module."),
    ("lr_schedule: {name: cosine}", "must be one of cosine_decay, exponential_decay, linear_"),
    ("lr_schedule: {name: [x]}", "lr_schedule.name must be one of"),
    ("lr_schedule: {name: cosine_decay}", "lr_schedule must have arguments."),
    ("lr_schedule: {name: step_decay, arguments: [1]}", "step_decay has 3 arguments, not 1."),
    ("lr_schedule: {name: step_decay, arguments: [a]}", "must be a list of numbers"),
    ("hf_dataset: x", 'hf_dataset must be a mapping or a list, not "x".'),
    ("hf_dataset: [x]", 'hf_dataset must be a mapping, or a list of mappings, not "x".'),
    ("hf_dataset: {train_split: train}", "hf_dataset must have path."),
    ("hf_dataset: {path: x, split: y}", 'unknown key "hf_dataset.split".'),
]


@pytest.mark.parametrize(("text", "complaint"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_file_is_one_line(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        config(tmp_path, text)
    message = str(raised.value)
    assert complaint in message
    assert message.startswith(str(tmp_path / "lora.yaml"))
    assert len(message.splitlines()) == 1
    assert len(message) < 700


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot read .*none\.yaml: No such file"):
        read_config(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="Is a directory"):
        read_config(tmp_path)
    with pytest.raises(UsageError, match="not valid UTF-8"):
        config(tmp_path, b"model: \xff")


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    assert config(tmp_path, b"\xef\xbb\xbfseed: 3").seed == 3


def test_many_aliases_do_not_fill_the_error(tmp_path: Path) -> None:
    lines = [
        "z0: &z0 [x]",
        *(f"z{i}: &z{i} [{', '.join([f'*z{i - 1}'] * 9)}]" for i in range(1, 9)),
    ]
    with pytest.raises(UsageError, match='unknown key "z0"'):
        config(tmp_path, "\n".join(lines))


def test_reading_leaves_yaml_as_it_is(tmp_path: Path) -> None:
    before: Any = {
        key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    config(tmp_path, "learning_rate: 1e-5")
    assert before == yaml.SafeLoader.yaml_implicit_resolvers
