"""``--config FILE``: a training in a file for mlx_lm.lora, which is measured or run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from your_ai.cli.groups import Group, option
from your_ai.cli.params import FILE
from your_ai.errors import UsageError
from your_ai.files import check_writable, refuse_to_replace
from your_ai.models import presets
from your_ai.planning.lora_config import LoraConfig, read_config

_HUB_DATA = re.compile(r"[\w.-]+/[\w.-]+")

CONFIG = Group(
    "Training",
    (
        option(
            "--config",
            FILE,
            "Configuration file for mlx_lm.lora (YAML). What it sets or leaves to mlx_lm.lora's "
            "defaults is measured; other options override it.",
            metavar="FILE",
        ),
    ),
)


def config_of(values: Mapping[str, Any]) -> LoraConfig | None:
    """The content of --config, if it was given; raises UsageError if the file is not valid."""
    path: Path | None = values.get("config")
    return None if path is None else read_config(path)


def chosen(
    values: Mapping[str, Any], names: Sequence[str], note: Callable[[str], None]
) -> tuple[LoraConfig | None, list[str]]:
    """The content of --config, and the models: ``names``, or else that of the file.

    What in the file is not measured is noted. Raises UsageError if the file is not valid.
    """
    config = config_of(values)
    if config is None:
        return None, [*names]
    is_from_file = not names and values.get("suite_name") is None
    if is_from_file and "model" not in config.given:
        note(f"{values['config']} has no model; mlx_lm.lora would train {config.model}.")
    for text in _notes(config, values["config"], has_data=bool(values.get("data"))):
        note(text)
    return config, [config.model] if is_from_file else [*names]


def checked_output(values: Mapping[str, Any]) -> Path | None:
    """The file of --output; raises UsageError if it is not writable, or is that of --config."""
    output: Path | None = values["output"]
    if output is not None:
        check_writable(output)
        refuse_to_replace(output, *([values["config"]] if values["config"] else []))
    return output


def defaults_of(config: LoraConfig | None, names: Sequence[str]) -> dict[str, Any]:
    """The training options that apply if they are not given: of the file, or of a suite."""
    return {**presets.training_of(names), **(config.options() if config else {})}


def _notes(config: LoraConfig, file: Path, *, has_data: bool) -> Iterator[str]:
    if unused := config.without_effect():
        yield f"no effect on memory or speed, so not measured: {', '.join(unused)}."
    if config.test:
        yield "the time of evaluating the test set is not included (test)."
    if has_data:
        return
    if renamed := config.renamed_fields:
        yield (
            f"data with renamed fields is not read ({', '.join(renamed)}); every sequence is taken "
            "to have full length."
        )
    elif data_folder(config, file) is None:
        sets = ", ".join(config.hf_dataset) or config.data
        yield f"data on the Hub is not read ({sets}); every sequence is taken to have full length."


def data_folder(config: LoraConfig, file: Path) -> Path | None:
    """The folder with the data, or ``None`` if the data is on the Hub.

    Raises:
        UsageError: if it is neither an existing folder nor the name of a data set.
    """
    if config.hf_dataset:
        return None
    folder = Path(config.data)
    if folder.is_dir():
        return folder
    if folder.exists() or not _HUB_DATA.fullmatch(config.data) or config.data.startswith("."):
        raise UsageError(
            f"{file}: data {config.data!r} is neither an existing folder nor a data set on the Hub "
            "(ORG/NAME). Correct the path."
        )
    return None
