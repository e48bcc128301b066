"""Which measured configuration a training starts from: pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from your_ai.errors import UsageError
from your_ai.runs.results import NO_RESULTS
from your_ai.units import parameters_of


@dataclass(frozen=True, slots=True)
class Choice:
    """A trial that passed, as the results have it; sizes are bytes.

    ``limit_bytes`` is the MLX memory limit under which its peak stayed inside the budget,
    ``needed_limit_bytes`` the one under which it took no more than the needed memory.
    """

    name: str
    model_name: str
    revision: str | None
    device: str
    backend: str
    bits: int | None
    batch_size: int
    lora_rank: int
    lora_layers: int
    seq_length: int
    grad_checkpoint: bool
    budget_bytes: int
    limit_bytes: int
    needed_limit_bytes: int
    peak_bytes: int
    needed_bytes: int
    tokens_per_second: float


def choose(document: Mapping[str, Any], name: str | None) -> Choice:
    """The model called ``name``, else the recommended one, with its best configuration.

    Raises:
        UsageError: when it is not among the results, or did not pass.
    """
    try:
        return _choice(document, _entry(document, name))
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{NO_RESULTS}: it lacks {error}.") from error


def _entry(document: Mapping[str, Any], name: str | None) -> Mapping[str, Any]:
    wanted = name if name is not None else document["recommended"]
    if wanted is None:
        raise UsageError("No model passed there, so that there is none to train.")
    found = [e for e in document["results"] if wanted in (e["preset"], e["model_name"])]
    if found:
        # Two folders of one name: what was recommended is the larger of those that passed.
        best: Mapping[str, Any] = max(
            found, key=lambda e: (bool(e["success"]), parameters_of(e["params"]))
        )
        return best
    there = ", ".join(f"{e['preset']} ({e['model_name']})" for e in document["results"])
    raise UsageError(f"{wanted} is not among the results; there is: {there or 'none'}.")


def _choice(document: Mapping[str, Any], entry: Mapping[str, Any]) -> Choice:
    trial = _best(entry)
    if not trial["success"]:
        raise UsageError(f"{entry['preset']} did not pass there: {trial['error']}.")
    config = trial["config"]
    return Choice(
        name=entry["preset"],
        model_name=entry["model_name"],
        revision=trial["revision"],
        device=document["device"]["name"],
        backend=document["device"]["backend"],
        bits=config["quantization_bits"],
        batch_size=config["batch_size"],
        lora_rank=config["lora_rank"],
        lora_layers=config["lora_layers"],
        seq_length=config["seq_length"],
        grad_checkpoint=config["grad_checkpoint"],
        budget_bytes=config["budget_bytes"],
        limit_bytes=trial["memory_limit_bytes"],
        needed_limit_bytes=trial["needed_memory_limit_bytes"],
        peak_bytes=trial["peak_memory_bytes"],
        needed_bytes=trial["needed_memory_bytes"],
        tokens_per_second=trial["tokens_per_second"],
    )


def _best(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The trial of the model's best configuration; its own where no search was made."""
    found = entry["optimal_config"]
    if found is None or found["optimal_batch_size"] is None:
        return entry
    best = tuple(found[f"optimal_{axis}"] for axis in ("batch_size", "lora_rank", "lora_layers"))
    passes = (trial for trial in _passes(found["all_results"]) if _axes(trial) == best)
    return next(passes, entry)


def _passes(trials: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    return (trial for trial in trials if trial["success"])


def _axes(trial: Mapping[str, Any]) -> tuple[int, int, int]:
    config = trial["config"]
    return config["batch_size"], config["lora_rank"], config["lora_layers"]
