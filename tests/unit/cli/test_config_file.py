"""--config of benchmark, optimize and recommend: models, defaults and notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from your_ai.cli import benchmark, optimize, recommend, train
from your_ai.cli.config_file import chosen, defaults_of
from your_ai.cli.configuration import training
from your_ai.cli.data_option import DataSource, source_of
from your_ai.cli.train_config import options_with_config
from your_ai.errors import UsageError
from your_ai.planning import lora_kinds
from your_ai.planning.duration import Schedule
from your_ai.planning.lora_config import LoraConfig, read_config
from your_ai.planning.plan import TrainingOptions

FILE = "model: org/model\nbatch_size: 3\ndata: org/data\nreport_to: wandb\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lora.yaml").write_text(FILE)
    return Path("lora.yaml")


def taken(file: Path, *names: str, **values: Any) -> tuple[list[str], list[str]]:
    noted: list[str] = []
    _, models = chosen({"config": file, "suite_name": None, **values}, names, noted.append)
    return models, noted


def test_the_model_of_the_file_is_used_unless_another_is_given(file: Path) -> None:
    assert taken(file)[0] == ["org/model"]
    assert taken(file, "a", "b")[0] == ["a", "b"]
    assert taken(file, suite_name="smoke")[0] == []
    assert chosen({"config": None}, ["a"], print) == (None, ["a"])


def test_what_is_not_measured_is_noted_once(file: Path) -> None:
    _, noted = taken(file)
    assert noted == [
        "no effect on memory or speed, so not measured: report_to.",
        "data on the Hub is not read (org/data); every sequence is taken to have full length.",
    ]
    file.write_text("train: true\nhf_dataset: {path: a/b}")
    models, noted = taken(file)
    assert models == ["Qwen/Qwen3-0.6b"]
    assert noted[0] == "lora.yaml has no model; mlx_lm.lora would train Qwen/Qwen3-0.6b."
    assert noted[1].startswith("data on the Hub is not read (a/b);")
    assert len(taken(file, "a")[1]) == 1


def folder_of(values: dict[str, Any], config: LoraConfig) -> Path | None:
    found = source_of(values, config)
    assert found is not None
    return found.folder


def test_data_with_other_fields_is_not_read(file: Path) -> None:
    Path("data").mkdir()
    file.write_text("model: m\ndata: data\ntext_feature: body")
    assert taken(file)[1] == [
        "data with renamed fields is not read (text_feature); every sequence is taken to "
        "have full length."
    ]
    config = read_config(file)
    values = {"config": file, "data": None, "iters": None}
    assert folder_of(values, config) is None
    assert folder_of({**values, "data": Path("mine")}, config) == Path("mine")


def test_the_schedule_is_that_of_the_file(file: Path) -> None:
    Path("data").mkdir()
    file.write_text("data: data\niters: 7\nsteps_per_eval: 3\nval_batches: -1\nmask_prompt: true")
    values = {"config": file, "data": None, "iters": None}
    config = read_config(file)
    found = source_of(values, config)
    assert found == DataSource(Path("data"), Schedule(7, 3, -1), mask_prompt=True)
    shorter = source_of({**values, "iters": 9}, config)
    assert shorter is not None
    assert shorter.schedule == Schedule(9, 3, -1)
    assert source_of({**values, "config": None}, None) is None


def test_data_in_a_folder_needs_no_note(file: Path) -> None:
    Path("data").mkdir()
    file.write_text("model: m\ndata: data")
    assert taken(file)[1] == []


@pytest.mark.parametrize("data", ["data", "./org/data", "/no/data", "a/b/c", "lora.yaml"])
def test_data_that_is_missing_is_refused(data: str, file: Path) -> None:
    file.write_text(f"data: {data}")
    with pytest.raises(UsageError, match=f"lora.yaml: data '{data}' is neither an existing folder"):
        taken(file)


def test_options_override_the_file_and_the_file_overrides_the_suite(file: Path) -> None:
    nothing: dict[str, Any] = dict.fromkeys(TrainingOptions.__dataclass_fields__)
    config, _ = chosen({"config": file, "suite_name": None}, [], lambda _: None)
    defaults = defaults_of(config, ["smoke-tiny"])
    assert training(nothing, defaults).seq_length == 2048
    options = training({**nothing, "batch_size": 1}, defaults)
    assert (options.batch_size, options.lora_rank, options.default_quantize) == (1, 8, "none")
    assert training({**nothing, "quantize": "4"}, defaults).quantize == "4"
    assert defaults_of(None, ["smoke-tiny"])["seq_length"] < 2048


def options_of(*arguments: str) -> dict[str, Any]:
    context = train.command.make_context("train", [*arguments])
    return options_with_config(context)


TRAINED = """
model: org/model
data: data
iters: 7
seed: 5
adapter_path: theirs
mask_prompt: true
steps_per_report: 3
lora_parameters: {rank: 4, scale: 10.0, dropout: 0.0}
"""


def test_the_file_sets_the_options_of_train_that_are_not_given(file: Path) -> None:
    Path("data").mkdir()
    file.write_text(TRAINED)
    values = options_of("--config", "lora.yaml", "--iters", "1000", "--save-every", "4")
    assert (values["iters"], values["save_every"], values["seed"]) == (1000, 4, 5)
    assert (values["name"], values["data"]) == ("org/model", Path("data"))
    assert (values["adapter_path"], values["mask_prompt"]) == (Path("theirs"), True)
    assert (values["steps_per_report"], values["val_batches"]) == (3, 25)
    assert values["content"].lora_scale == 10.0
    given = options_of("--config", "lora.yaml", "--model", "x", "--adapter-path", "mine")
    assert (given["name"], given["adapter_path"]) == ("x", Path("mine"))


def test_without_a_file_the_options_are_as_given() -> None:
    values = options_of("--iters", "3")
    assert (values["iters"], values["seed"], values["content"]) == (3, 0, None)


def test_a_folder_is_found_in_the_results_by_its_path(file: Path) -> None:
    Path("data").mkdir()
    Path("model").mkdir()
    file.write_text("model: model\ndata: data")
    assert options_of("--config", "lora.yaml")["name"] == str(Path("model").resolve())


@pytest.mark.parametrize(
    ("text", "arguments", "complaint"),
    [
        ("data: org/data", [], "does not read data from the Hub (org/data)"),
        ("hf_dataset: [{path: a}, {path: b}]", [], "does not read data from the Hub (a, b)"),
        ("resume_adapter_file: a", ["--data", "data"], "cannot start from adapters"),
        ("text_feature: body", ["--data", "data"], "Rename 'body' to 'text' in the data."),
        (
            "lr_schedule: {name: cosine_decay, arguments: [1e-5, 9]}",
            ["--data", "data", "--learning-rate", "1e-4"],
            "--learning-rate has no effect, because lora.yaml has an lr_schedule.",
        ),
    ],
)
def test_what_train_cannot_do_is_refused(
    text: str, arguments: list[str], complaint: str, file: Path
) -> None:
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        options_of("--config", "lora.yaml", *arguments)
    assert complaint in str(refused.value)


def test_the_file_has_the_limits_of_the_options() -> None:
    names = {
        "batch_size": "batch_size",
        "num_layers": "lora_layers",
        "max_seq_length": "seq_length",
        "grad_accumulation_steps": "grad_accumulation_steps",
        "iters": "iters",
        "seed": "seed",
    }
    options = {parameter.name: parameter for parameter in train.command.params}
    for key, name in names.items():
        kind = options[name].type
        assert isinstance(kind, click.IntRange)
        accepts = lora_kinds.TOP[key].accepts
        assert isinstance(kind.max, int)
        assert (accepts(kind.min), accepts(kind.max)) == (True, True)
        assert (accepts(kind.min - 1 if kind.min else -2), accepts(kind.max + 1)) == (False, False)


@pytest.mark.parametrize("command", [benchmark.command, optimize.command, recommend.command])
def test_the_commands_have_the_option(command: click.Command) -> None:
    assert "config" in {parameter.name for parameter in command.params}


def test_train_uses_the_training_of_the_file_but_the_measured_weights() -> None:
    options = LoraConfig().training()
    assert "default_quantize" not in options
    assert "quantize" not in options
