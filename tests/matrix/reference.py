"""Trains a model as ``mlx_lm.lora`` does, under the memory limit of a trial's tight phase.

``python -m tests.matrix.reference`` reads a trial's request from stdin and prints a `Reference` as
JSON. The steps are mlx-lm's own: its classes, its adapters and its training loop. Only the batches
are the trial's, and the weights: they are synthesized with the same seed, written to a file and
loaded by mlx-lm.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from worker.protocol.codec import decode_request
from worker.protocol.requests import LORA_SCALE, TrialRequest


@dataclass(frozen=True, slots=True)
class Reference:
    """What mlx-lm measures, or the error that it raises."""

    trainable: int = 0
    """Number of trainable parameters."""
    losses: tuple[float, ...] = ()
    """Loss before each step."""
    peak_bytes: int = 0
    """Peak memory under the tight limit."""
    error: str | None = None
    """The error of mlx-lm, with its place in mlx-lm."""


def main() -> None:
    """Train and print the result."""
    request = decode_request(sys.stdin.buffer.readline())
    assert isinstance(request, TrialRequest)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            result = train(request)
        except (Exception, SystemExit) as error:
            if (place := _place(error)) is None:
                raise
            # mlx-lm's olmo prints that a package is missing, and exits.
            reason = printed.getvalue().strip() if isinstance(error, SystemExit) else str(error)
            result = Reference(error=f"{type(error).__name__}: {reason} ({place})")
    print(json.dumps(asdict(result)))


def train(request: TrialRequest) -> Reference:
    """Train ``request.steps`` steps and return what was measured."""
    import mlx.core as mx
    import mlx.optimizers as optim
    from mlx.utils import tree_flatten
    from mlx_lm.tuner import trainer
    from mlx_lm.tuner.utils import linear_to_lora_layers

    configuration = request.configuration
    with tempfile.TemporaryDirectory() as folder:
        model = _load(request, Path(folder))
        model.freeze()
        parameters = {"rank": configuration.lora_rank, "scale": LORA_SCALE, "dropout": 0.0}
        linear_to_lora_layers(model, configuration.lora_layers, parameters)
        arguments = trainer.TrainingArgs(
            batch_size=configuration.batch_size,
            iters=request.steps,
            steps_per_report=1,
            max_seq_length=configuration.seq_length,
            adapter_file=str(Path(folder) / "adapters.safetensors"),
            grad_checkpoint=configuration.grad_checkpoint,
        )
        mx.eval(model.parameters())
        gc.collect()
        mx.set_memory_limit(mx.get_active_memory())
        mx.clear_cache()
        mx.reset_peak_memory()
        losses = _Losses()
        trainer.train(
            model,
            optim.Adam(learning_rate=1e-5),
            [],
            args=arguments,
            iterate_batches=lambda **_: _batches(request, model),
            training_callback=losses,
        )
    trainable = sum(array.size for _, array in tree_flatten(model.trainable_parameters()))
    return Reference(trainable, tuple(losses.losses), losses.peak_bytes)


class _Losses:
    """Keeps the reported losses and, before the adapters are written, the peak memory."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.peak_bytes = 0

    def on_train_loss_report(self, report: dict[str, Any]) -> None:
        import mlx.core as mx

        self.losses.append(report["train_loss"])
        self.peak_bytes = mx.get_peak_memory()


def _load(request: TrialRequest, folder: Path) -> Any:
    """Return the model as mlx-lm loads it, with MLX's random state as after synthesizing it."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import _get_classes, load_model

    from worker import weights

    config = request.model.config
    model_class, arguments_class = _get_classes(config)
    model_class(arguments_class.from_dict(json.loads(json.dumps(config))))  # or raise its error
    mx.random.seed(request.seed)
    model = weights.plan(request.model, request.configuration)
    weights.materialize(model, synthesize=True)
    arrays = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    high, low = (int(half) for half in mx.random.state[0].tolist())  # type: ignore[index]  # typed as one array
    del model, arrays
    model, _ = load_model(folder)
    model.load_weights(str(folder / "model.safetensors"))  # some classes normalize some weights
    mx.random.seed(high << 32 | low)
    return model


def _batches(request: TrialRequest, model: Any) -> Iterator[Any]:
    """Yield the trial's batches. Like the trial, shift where MLX waits for memory."""
    from worker import trainer, trial

    for batch in trainer.full_batches(request, model):
        trial._shift_waits()
        yield batch


def _place(error: BaseException) -> str | None:
    """Return the line of mlx-lm or MLX that failed, ``None`` if the worker's code had called it."""
    frames = traceback.extract_tb(error.__traceback__)
    paths = [(Path(frame.filename), frame.lineno) for frame in frames]
    called = [each for each in paths if {"mlx_lm", "worker"} & {*each[0].parts}]
    path, line = called[-1] if called else paths[-1]
    return None if "worker" in path.parts else f"{path.name}:{line}"


if __name__ == "__main__":
    main()
