"""``--data DIR``: measure for the lengths that the user's data really has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from your_ai.cli.config_file import data_folder
from your_ai.cli.groups import Group, Option, option
from your_ai.cli.params import FILE, Count
from your_ai.errors import UsageError, YourAIError
from your_ai.models import tokenizer
from your_ai.models.resolve import Model
from your_ai.planning.describe import PLAIN
from your_ai.planning.duration import Schedule
from your_ai.planning.lora_config import LoraConfig
from your_ai.planning.plan import TrainingOptions
from your_ai.planning.training_data import (
    TrainingData,
    of_full_length,
    searched_data,
    training_data,
)
from your_ai.runs.searching import lengths_for
from your_ai.search.grid import middle_length
from your_ai.search.search import SearchOptions
from your_ai.supervision.lengths import DataLengths, tokenized_lengths
from your_ai.terminal import data_wording
from your_ai.terminal.screen import Screen
from your_ai.training.dataset import check_dataset


def _folder(effect: str) -> Option:
    text = f"Folder with train.jsonl and valid.jsonl. {effect}"
    return option("--data", FILE, text, metavar="DIR")


MAPPED_DATA = Group("Training", (_folder("The map says which of its samples fit."),))
DATA = Group(
    "Training",
    (
        _folder(
            "Measures the longest sequences that they have, at most --seq-length, and how long a "
            "training takes. If lengths are searched, says how many samples are cut.",
        ),
        option(
            "--iters",
            Count(1, 10**9),
            "Iterations of the training on --data or in --config whose time is predicted.",
            fallback=Schedule().iters,
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class DataSource:
    """The folder with the data of a training, ``None`` if it is not on this machine."""

    folder: Path | None
    schedule: Schedule
    mask_prompt: bool = False


def source_of(values: Mapping[str, Any], config: LoraConfig | None) -> DataSource | None:
    """Return the data of --data or --config; ``None`` if neither was given.

    Raises:
        UsageError: if --iters is given without them, or the data of --config does not exist.
    """
    folder, iters = values["data"], values.get("iters")
    if config is None:
        if folder is None and iters is not None:
            raise UsageError("--iters requires --data or --config.")
        return None if folder is None else DataSource(folder, Schedule(iters or Schedule().iters))
    if folder is None and not config.renamed_fields:
        folder = data_folder(config, values["config"])
    schedule = Schedule(iters or config.iters, config.steps_per_eval, config.val_batches)
    return DataSource(folder, schedule, config.mask_prompt)


def read_data(
    models: Iterable[Model],
    source: DataSource | None,
    options: TrainingOptions,
    search: SearchOptions | None,
    screen: Screen,
) -> dict[str, TrainingData]:
    """Return the data as each model's tokenizer sees it, by the model's id or path.

    The longest sequence is ``options.seq_length``. If the data or a model's tokenizer is not
    available, every sequence is taken to be that long, and the user is told.

    Raises:
        UsageError: if the data is missing or invalid.
    """
    if source is None:
        return {}
    total = 0
    if source.folder is not None:
        mask = source.mask_prompt
        found = check_dataset(source.folder, options.batch_size, mask_prompt=mask, for_mlx_lm=True)
        total = found.sequences + found.validation
    return {m.model_name: _data(m, source, total, options, search, screen) for m in models}


def _data(
    model: Model,
    source: DataSource,
    total: int,
    options: TrainingOptions,
    search: SearchOptions | None,
    screen: Screen,
) -> TrainingData:
    """Return the data as the model's tokenizer sees it; ``total`` is the number of samples."""
    folder = source.folder
    longest = None if search is not None and search.varies_length else options.seq_length
    lengths = None if folder is None else _lengths(model, folder, total, longest, screen)
    data = _measured(model, source, lengths, options, search)
    if data.lengths is not None:
        screen.print(*data_wording.distribution(data.lengths, screen.width))
    return data


def _measured(
    model: Model,
    source: DataSource,
    lengths: DataLengths | None,
    options: TrainingOptions,
    search: SearchOptions | None,
) -> TrainingData:
    """Return the data with what is measured of it; ``lengths`` is ``None`` if it is not known."""
    folder = None if source.folder is None else str(source.folder.absolute())
    if search is not None and search.varies_length:
        train = lengths.train if lengths else ()
        searched = {*lengths_for(model, search), options.seq_length}
        return searched_data(folder, train, sorted(searched), source.schedule)
    sizes = {options.batch_size, *(search.axes.batch_sizes if search else ())}
    if folder is None or lengths is None:
        return of_full_length(sizes, options.seq_length, source.schedule)
    return training_data(
        folder,
        *(lengths.train, lengths.valid, lengths.seconds_per_sample),
        batch_sizes=sizes,
        max_seq_length=options.seq_length,
        schedule=source.schedule,
    )


def _lengths(
    model: Model, folder: Path, total: int, longest: int | None, screen: Screen
) -> DataLengths | None:
    """Tokenize the data; ``None`` if there is no tokenizer, and the user is told.

    ``longest`` is the length of sequences then; ``None`` if lengths are searched.
    """
    try:
        place = tokenizer.folder_of(model)
    except YourAIError as error:
        screen.note(data_wording.no_tokenizer(model.name, str(error), longest))
        return None
    return _tokenized(model, place, folder, total, screen)


def _tokenized(model: Model, place: Path, folder: Path, total: int, screen: Screen) -> DataLengths:
    def on_progress(done: int) -> None:
        screen.working(data_wording.tokenized(done, total))

    screen.begin(f"Tokenizing {folder} with the tokenizer of {model.name} ... ")
    on_progress(0)
    try:
        lengths = tokenized_lengths(place, model.config, folder, on_progress)
    except BaseException:
        screen.end("failed")
        raise
    screen.end(data_wording.samples(lengths.train, lengths.valid))
    return lengths


def with_length(
    defaults: Mapping[str, Any],
    source: DataSource | None,
    models: Iterable[Model],
    search: SearchOptions | None,
) -> dict[str, Any]:
    """Return the ``defaults`` of options with the longest sequence that data may have.

    If lengths are searched, it is one in their middle, which all models allow.
    """
    if search is not None and search.varies_length:
        middle = min(middle_length(lengths_for(model, search)) for model in models)
        return {**defaults, "seq_length": middle}
    return {**defaults} if source is None else {"seq_length": PLAIN.seq_length, **defaults}
