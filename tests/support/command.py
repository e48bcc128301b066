"""Runs the real command as a user would, in a separate folder, and reads its results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import your_ai
from tests.support import tiny

ROOT = Path(your_ai.__file__).resolve().parent.parent
YOUR_AI = [sys.executable, "-m", "your_ai"]
COMMAND = [*YOUR_AI, "benchmark"]
# On a CPU, MLX compiles new kernels with g++ for up to 20 s; later runs use the cached ones.
TIMEOUT = 110

# The smallest useful training: these tests do not depend on its size.
SMALL = ["--seq-length", "64", "--lora-rank", "4", "--steps", "2"]
PLAIN = [*SMALL, "--quantize", "none"]

CONFIG = {**tiny.LLAMA, "max_position_embeddings": 256}


def environment(home: Path, **changed: str) -> dict[str, str]:
    """Return an environment that hides the user's runs and models and disables the network."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONIOENCODING": "utf-8",
        **changed,
    }


@dataclass(frozen=True)
class Finished:
    """A finished command: exit code, output, and the folder in which it ran."""

    code: int
    stdout: str
    stderr: str
    folder: Path

    @property
    def document(self) -> dict[str, Any]:
        """The content of ``run/results.json``."""
        content: dict[str, Any] = json.loads((self.folder / "run" / "results.json").read_bytes())
        return content

    @property
    def only(self) -> dict[str, Any]:
        """The only entry in the results."""
        (entry,) = self.document["results"]
        assert isinstance(entry, dict)
        return entry


def at_a_terminal(*arguments: str, ignoring: signal.Signals | None = None) -> list[str]:
    """Return a ``your_ai`` command that reacts to Ctrl-C, as one started at a terminal does.

    Tests may run in the background, where SIGINT is ignored and child processes inherit that.
    ``ignoring`` is a signal to ignore, as nohup ignores SIGHUP.
    """
    code = "import os, signal, sys; "
    code += "[signal.signal(s, signal.SIG_DFL) for s in (signal.SIGINT, signal.SIGHUP)]; "
    if ignoring is not None:
        code += f"signal.signal({int(ignoring)}, signal.SIG_IGN); "
    code += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    return [sys.executable, "-c", code, "-m", "your_ai", *arguments]


def benchmark(
    folder: Path, *arguments: str | Path, env: Mapping[str, str] | None = None
) -> Finished:
    """Run ``your_ai benchmark`` in ``folder`` with the run directory ``run``."""
    return command(folder, "--run-dir", "run", *arguments, env=env)


def command(folder: Path, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Finished:
    """Run ``your_ai benchmark`` in ``folder`` without adding arguments."""
    return your_ai_command(folder, "benchmark", *arguments, env=env)


def your_ai_command(
    folder: Path,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    home: Path | None = None,
) -> Finished:
    """Run ``your_ai`` in ``folder``. The default home is a folder next to it."""
    home = home or folder.parent / f"{folder.name}-home"
    done = subprocess.run(
        [*YOUR_AI, *map(str, arguments)],
        cwd=folder,
        env={**environment(home), **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr, folder)


def make_model(folder: Path, **changed: Any) -> Path:
    """Write a tiny model's config to ``folder``, with changed keys; ``None`` removes a key."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in {**CONFIG, **changed}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def add_weights(folder: Path, **changed: Any) -> None:
    """Add real bf16 weights, made by mlx-lm's llama class."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models import llama

    model = llama.Model(llama.ModelArgs.from_dict({**CONFIG, **changed}))
    model.set_dtype(mx.bfloat16)
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
