"""``--data DIR``: measure for the lengths that the user's data really has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from your_ai.cli.groups import Group, option
from your_ai.cli.params import FILE, Count
from your_ai.errors import UsageError, YourAIError
from your_ai.models import tokenizer
from your_ai.models.resolve import Model
from your_ai.planning.duration import Schedule
from your_ai.planning.plan import TrainingOptions
from your_ai.planning.training_data import TrainingData, training_data
from your_ai.search.search import SearchOptions
from your_ai.supervision.lengths import DataLengths, tokenized_lengths
from your_ai.terminal import data_wording
from your_ai.terminal.screen import Screen
from your_ai.training.dataset import check_dataset

MAX_SEQ_LENGTH = 2048
"""mlx_lm.lora's default."""

DATA = Group(
    "Training",
    (
        option(
            "--data",
            FILE,
            "Folder with train.jsonl and valid.jsonl. Measures the longest sequences that they "
            "have, at most --seq-length, and how long a training takes.",
            metavar="DIR",
        ),
        option(
            "--iters",
            Count(1, 10**9),
            "Iterations of the training on --data whose time is predicted.",
            fallback=Schedule().iters,
        ),
    ),
)


def read_data(
    models: Iterable[Model],
    folder: Path,
    options: TrainingOptions,
    search: SearchOptions | None,
    schedule: Schedule,
    screen: Screen,
    *,
    mask_prompt: bool = False,
) -> dict[str, TrainingData]:
    """Return the data in ``folder`` as each model's tokenizer sees it, by the model's id or path.

    The longest sequence is ``options.seq_length``. A model whose tokenizer is not available is
    missing in the result, and the user is told.

    Raises:
        UsageError: if the data is missing or invalid.
    """
    found = check_dataset(folder, options.batch_size, mask_prompt=mask_prompt, for_mlx_lm=True)
    total = found.sequences + found.validation
    sizes = {options.batch_size, *(search.grid.batch_sizes if search else ())}
    known: dict[str, TrainingData] = {}
    for model in models:
        try:
            place = tokenizer.folder_of(model)
        except YourAIError as error:
            screen.note(data_wording.no_tokenizer(model.name, str(error), options.seq_length))
            continue
        lengths = _tokenized(model, place, folder, total, screen)
        known[model.model_name] = data = training_data(
            str(folder.absolute()),
            lengths.train,
            lengths.valid,
            lengths.seconds_per_sample,
            batch_sizes=sizes,
            max_seq_length=options.seq_length,
            schedule=schedule,
        )
        screen.print(*data_wording.distribution(data.lengths, screen.width))
    return known


def schedule_of(values: Mapping[str, Any], schedule: Schedule | None = None) -> Schedule:
    """Return ``schedule`` (default: mlx_lm.lora's) with the value of --iters, if it was given.

    Raises:
        UsageError: if --iters is given without --data.
    """
    schedule, iters = schedule or Schedule(), values["iters"]
    if iters is None:
        return schedule
    if values["data"] is None:
        raise UsageError("--iters requires --data.")
    return replace(schedule, iters=iters)


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


def with_default_length(defaults: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Return the ``defaults`` of options with the longest sequence that data may have."""
    return {**defaults} if folder is None else {"seq_length": MAX_SEQ_LENGTH, **defaults}
