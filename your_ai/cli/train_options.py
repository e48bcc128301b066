"""The options of ``your_ai train``, named as those of mlx_lm.lora."""

from __future__ import annotations

from functools import partial

import click

from your_ai.cli.configuration import (
    ACCUMULATED,
    BATCH,
    FINE_TUNE_TYPE,
    KEYS,
    LAYERS,
    OPTIMIZER,
    RANK,
    TOKENS,
)
from your_ai.cli.groups import Group, flag, option
from your_ai.cli.options import PATH, QUIET, RUN_DIR
from your_ai.cli.params import FILE, Count

_COUNT = Count(1)
_measured = partial(option, computed="as measured")
GROUPS = [
    Group(
        "Input",
        (
            option(
                "--from source",
                FILE,
                "Results file or run folder.",
                computed="the last run",
                metavar="PATH",
            ),
            option(
                "--data",
                FILE,
                "Folder with train.jsonl and, optionally, valid.jsonl. Required, except with "
                "--resume, or if --config has data.",
                metavar="DIR",
            ),
            option(
                "--config",
                FILE,
                "Configuration file for mlx_lm.lora (YAML). What it sets or leaves to "
                "mlx_lm.lora's defaults is trained; other options override it.",
                metavar="FILE",
            ),
            option(
                "--model name",
                click.STRING,
                "Which of the models in the results to train.",
                computed="the recommended one",
                metavar="NAME",
            ),
        ),
    ),
    Group(
        "Training",
        (
            _measured("--batch-size", BATCH, "Batch size."),
            _measured(
                *("--num-layers lora_layers", LAYERS),
                "Number of layers to train, counted from the last; -1 for all.",
            ),
            _measured("--lora-rank", RANK, "Rank of the adapters."),
            _measured("--lora-keys", KEYS, "What gets adapters: all, attention, or names."),
            _measured("--fine-tune-type", FINE_TUNE_TYPE, "Train adapters, or all weights."),
            _measured("--optimizer", OPTIMIZER, "Optimizer."),
            _measured(
                *("--max-seq-length seq_length", TOKENS), "Truncate sequences to this many tokens."
            ),
            _measured(
                *("--grad-checkpoint/--no-grad-checkpoint", click.BOOL),
                "Recompute activations to save memory.",
            ),
            option("--iters", Count(1, 2**31), "Batches to train on.", 1000),
            option(
                "--learning-rate",
                click.FloatRange(0, 1, min_open=True),
                "Learning rate.",
                1e-5,
                metavar="RATE",
            ),
            _measured("--grad-accumulation-steps", ACCUMULATED, "Batches per optimizer step."),
            flag("--mask-prompt", "Compute the loss on completions only."),
            option("--seed", Count(0, 2**32 - 1), "Seed for the adapters and the data order.", 0),
        ),
    ),
    Group(
        "Progress",
        (
            option("--steps-per-report", _COUNT, "Batches between reports of the loss.", 10),
            option("--steps-per-eval", _COUNT, "Batches between validations.", 200),
            option("--val-batches", Count(-1), "Batches per validation; -1 for all.", 25),
            option("--save-every", _COUNT, "Batches between checkpoints.", 100),
        ),
    ),
    Group(
        "Run",
        (
            option(
                "--restarts",
                Count(0),
                "Maximum number of restarts after an OOM or a crash.",
                4,
            ),
            RUN_DIR,
            flag("--resume", "Resume the training in --run-dir, or the last unfinished one."),
        ),
    ),
    Group(
        "Output",
        (
            option("--adapter-path", PATH, "Folder for the adapters.", "adapters", metavar="DIR"),
            option(
                "--export",
                PATH,
                "Write a configuration file for mlx_lm.lora instead of training.",
                metavar="FILE",
            ),
            QUIET,
        ),
    ),
]
