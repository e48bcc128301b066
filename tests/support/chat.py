"""Chat templates for the tokenizer of scripts/make_model.py, and their number of tokens.

The tokenizer has one token per word, so the expected numbers follow from the words alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.command import ROOT


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template. ``closed`` turns end with a token. ``thought`` words follow a prompt."""

    closed: bool
    thought: int = 0

    @property
    def jinja(self) -> str:
        """The text for a tokenizer's ``chat_template``."""
        end = " </s>" if self.closed else ""
        turns = "{% for m in messages %}{{ m.role }} {{ m.content }}" + end + " {% endfor %}"
        words = " ".join(["assistant", *["w7"] * self.thought])
        return turns + "{% if add_generation_prompt %}" + words + "{% endif %}"

    def has_completion(self, row: Mapping[str, Any], limit: int) -> bool:
        """Return whether masking the prompt leaves a token within ``limit`` tokens."""
        messages = _messages(row)
        if len(messages) < 2:  # mlx-lm cannot mask it
            return False
        prompt = self._length(messages[:-1])
        if messages[-1]["role"] == "assistant":
            prompt += 1 + self.thought
        return max(prompt, 1) < min(self._length(messages), limit)

    def _length(self, messages: Sequence[Mapping[str, str]]) -> int:
        return sum(1 + len(m["content"].split()) + self.closed for m in messages)


CLOSED, OPEN, THINKING = Template(closed=True), Template(closed=False), Template(True, thought=3)


MAKE = "from pathlib import Path; from make_model import make_model; make_model(Path('{}'), {})"


def make_chat_model(folder: Path, options: str = "hidden=32, layers=1") -> Path:
    """Make a model with scripts/make_model.py in the new ``folder``. Return the folder."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    subprocess.run([sys.executable, "-c", MAKE.format(folder, options)], env=env, check=True)
    return folder


def add_template(model: Path, template: Template) -> None:
    """Add the template to the tokenizer in ``model``."""
    path = model / "tokenizer_config.json"
    settings = {**json.loads(path.read_bytes()), "chat_template": template.jinja}
    path.write_text(json.dumps(settings))


def pair(prompt: int, completion: int) -> dict[str, Any]:
    """Return a row with a prompt and a completion of so many words."""
    return {"prompt": words(prompt), "completion": words(completion)}


def chat(*counts: int, last: str = "assistant") -> dict[str, Any]:
    """Return a row with messages of so many words; ``last`` is the role of the last one."""
    roles = ["user" if index % 2 == 0 else "assistant" for index in range(len(counts) - 1)]
    turns = zip([*roles, last], counts, strict=True)
    return {"messages": [{"role": role, "content": words(count)} for role, count in turns]}


def words(count: int) -> str:
    """Return so many words that the tokenizer knows."""
    return " ".join(f"w{2 + index % 500}" for index in range(count))


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows as JSON lines."""
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _messages(row: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    if "messages" in row:
        found: Sequence[Mapping[str, str]] = row["messages"]
        return found
    return [
        {"role": "user", "content": row["prompt"]},
        {"role": "assistant", "content": row["completion"]},
    ]
