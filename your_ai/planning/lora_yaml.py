"""Read the YAML of a ``mlx_lm.lora --config`` file, and remember the line of each key."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from your_ai.errors import UsageError

if TYPE_CHECKING:
    import yaml

_MAX_BYTES = 2**20  # a larger file is not a configuration
_MAX_DEPTH = 3  # of keys, as in optimizer_config.adamw.betas
_MAX_SHOWN = 60  # characters of a value in an error

_FLOAT = re.compile(r"[-+]?\d[\d_]*(?:\.[\d_]*)?[eE][-+]?\d+", re.ASCII)
"""A float that YAML 1.1 reads as text because its exponent follows an integer or has no sign.
mlx_lm.lora reads it as a float."""


@dataclass(frozen=True, slots=True)
class Document:
    """The keys and values of the file at ``path``, and the line of each key.

    ``lines`` maps the dotted path of a key to its line, starting at 1.
    """

    path: Path
    values: dict[str, Any]
    lines: Mapping[str, int]

    def error(self, key: str, problem: str) -> UsageError:
        """Return the error for a problem with ``key``, a dotted path."""
        line = self.lines.get(key)
        return UsageError(f"{self.path}{f', line {line}' if line else ''}: {problem}")

    def must_be(self, key: str, kind: str, value: Any) -> UsageError:
        """Return the error for a value of ``key`` that is not of ``kind``."""
        return self.error(key, f"{key} must be {kind}, not {_shown(value)}.")

    def unknown(self, key: str, known: Collection[str], instead: str | None = None) -> UsageError:
        """Return the error for a key that is not in ``known``, with the nearest one."""
        name = key.rpartition(".")[2]
        near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
        instead = instead or (near[0] if near else None)
        hint = f"Did you mean {instead}?" if instead else f"Known: {', '.join(sorted(known))}."
        return self.error(key, f"unknown key {_shown(key)}. {hint}")


def read(path: Path) -> Document:
    """Return the content of a YAML file whose floats are read as mlx_lm.lora reads them.

    Raises:
        UsageError: if it cannot be read, is not valid YAML, or is not a mapping.
    """
    import yaml

    text = _text(path)
    try:
        node, values = _parse(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise _invalid(where, error.problem or error.context or "unknown problem") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _invalid(f"{path}, line {line}", error.reason) from error
    except RecursionError as error:
        raise _invalid(str(path), "nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: such as the date 2026-13-45
        raise _invalid(str(path), " ".join(str(error).split())) from error
    if not isinstance(values, dict):
        raise UsageError(
            f"{path} is not a configuration of mlx_lm.lora: it must be a mapping of keys to "
            "values, such as `batch_size: 4`."
        )
    return Document(path, values, _lines(node, "", {}))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.") from error
    if len(content) > _MAX_BYTES:
        raise UsageError(f"{path} is too large for a configuration of mlx_lm.lora.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not valid UTF-8. Save the file with the encoding UTF-8."
        ) from error


def _parse(text: str) -> tuple[yaml.Node | None, Any]:
    import yaml

    class Loader(yaml.SafeLoader):  # a subclass, since resolvers are added to a class
        pass

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(f"{_FLOAT.pattern}$", re.ASCII), [*"-+0123456789"]
    )
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _lines(node: Any, prefix: str, found: dict[str, int]) -> dict[str, int]:
    import yaml

    if isinstance(node, yaml.MappingNode) and prefix.count(".") < _MAX_DEPTH:
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                name = f"{prefix}{key.value}"
                found[name] = key.start_mark.line + 1
                _lines(value, f"{name}.", found)
    return found


def _invalid(where: str, problem: str) -> UsageError:
    return UsageError(f"{where}: not valid YAML ({problem}).")


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    text = isinstance(value, str | int | float | None)
    shown = json.dumps(value, ensure_ascii=False) if text else str(value)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"
