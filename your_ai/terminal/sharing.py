"""What the terminal says about shared measurements: pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from your_ai.runs.sharing import Selection
from your_ai.terminal.wording import counted


def shared(selection: Selection, target: Path) -> Iterator[str]:
    """What was written to ``target``, what was not, and where to send it."""
    document = selection.document
    yield f"Measurements of {counted(len(document.trials), 'trial')} written to {target}"
    if names := selection.model_names:
        yield f"Models named in it: {', '.join(names)}"
    if selection.unnamed:
        unnamed = counted(selection.unnamed, "trial")
        yield f"Without the model's name, because it is not known to be on the Hub: {unnamed}"
    if selection.left_out:
        left_out = counted(selection.left_out, "trial")
        yield f"Left out, because the settings contain modules or values unknown here: {left_out}"
    yield 'To contribute the file, follow "Measurements" in CONTRIBUTING.md.'
