"""``train --config FILE``: what a file for mlx_lm.lora sets becomes the default of the options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from worker.protocol.configuration import Configuration
from your_ai.cli.config_file import config_of, data_folder
from your_ai.errors import UsageError
from your_ai.planning import describe
from your_ai.planning.lora_config import LoraConfig
from your_ai.terminal.output import say
from your_ai.training.export import SAME_NAMES


def options_with_config(context: click.Context) -> dict[str, Any]:
    """The options, with those that were not given as in --config; ``content`` is its content.

    Raises:
        UsageError: if the file is not valid, or sets what `your_ai train` cannot do.
    """
    values, config = dict(context.params), config_of(context.params)
    if config is None:
        return {**values, "content": None}
    file = values["config"]
    _check(config, file, has_rate=_is_given(context, "learning_rate"))
    for name in (*SAME_NAMES, "steps_per_report"):
        if not _is_given(context, name):
            values[name] = getattr(config, name)
    if not _is_given(context, "adapter_path"):
        values["adapter_path"] = Path(config.adapter_path)
    if values["name"] is None and "model" in config.given:
        is_folder = Path(config.model).is_dir()
        values["name"] = str(Path(config.model).resolve()) if is_folder else config.model
    if values["data"] is None:
        values["data"] = _data(config, file)
    return {**values, "content": config}


def note_differences(
    config: LoraConfig | None, chosen: Configuration, before: Configuration
) -> None:
    """Note what differs between the training in --config, if any, and the measured one."""
    if config is None:
        return
    found = describe.differences(chosen, is_own_quantization=True, plain=before)
    if found:
        say(f"Note: unlike what was measured: {', '.join(found)}.", err=True)


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _data(config: LoraConfig, file: Path) -> Path:
    folder = data_folder(config, file)
    if folder is None:
        sets = ", ".join(config.hf_dataset) or config.data
        raise UsageError(
            f"{file}: your_ai train does not read data from the Hub ({sets}). Save it as "
            "train.jsonl and pass its folder with --data."
        )
    return folder


def _check(config: LoraConfig, file: Path, *, has_rate: bool) -> None:
    """Raise UsageError for what `your_ai train` cannot do, and note what it leaves out."""
    if has_rate and config.lr_schedule is not None:
        raise UsageError(
            f"--learning-rate has no effect, because {file} has an lr_schedule. Remove one of them."
        )
    if config.resume_adapter_file is not None:
        raise UsageError(
            f"{file}: your_ai train cannot start from adapters (resume_adapter_file). Remove the "
            "key, or use mlx_lm.lora."
        )
    for name, default in config.renamed_fields.items():
        raise UsageError(
            f"{file}: your_ai train does not rename the fields of the data ({name}). Rename "
            f"{getattr(config, name)!r} to {default!r} in the data."
        )
    if config.test:
        say(f"Note: {file}: the test set is not evaluated (test).", err=True)
