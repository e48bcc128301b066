"""Find the tokenizer of a model. Its weights are never downloaded for that."""

from __future__ import annotations

from pathlib import Path

from your_ai.errors import UsageError
from your_ai.models import hub, presets, weight_files
from your_ai.models.resolve import Model


def folder_of(model: Model) -> Path:
    """Return the folder with the tokenizer of a model, downloaded from the Hub if necessary.

    Raises:
        UsageError: if the model has no tokenizer, or the Hub refuses it.
        MachineError: if the Hub cannot be reached.
    """
    if model.path is not None:
        folder = Path(model.path)
    elif presets.is_synthetic(model.model_name):
        raise UsageError(f"{model.name} has synthetic weights only, and no tokenizer.")
    else:
        sha = model.revision or hub.revision(model.model_name).sha
        folder = hub.tokenizer(model.model_name, sha)
    if not weight_files.has_tokenizer(folder):
        raise UsageError(f"{model.name} has no tokenizer in {folder}.")
    return folder
