#!/usr/bin/env python3
"""Print the JSON Schema of the results file, generated from the types in `your_ai.runs`.

usage: .venv/bin/python scripts/make-schema.py > docs/results.schema.json
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
from itertools import pairwise
from typing import Any

import msgspec

from your_ai.runs import results, search_result, trial_result

HEAD = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Results of your_ai benchmark, optimize and ceiling",
    "description": "The results of one run. Keys that end in _gb are in GB (2^30 bytes), keys that "
    "end in _bytes are exact sizes. Durations are in seconds. All keys are always present. Later "
    "versions may add keys, but remove none.",
}


def main() -> None:
    """Print the schema."""
    classes = {**vars(search_result), **vars(trial_result), **vars(results)}
    definitions = msgspec.json.schema(results.Results)["$defs"]
    for name, definition in definitions.items():
        if "properties" in definition:
            describe(definition, classes[name])
    # The loss of a diverged training is NaN, which is null in JSON.
    definitions["Step"]["properties"]["loss"]["type"] = ["number", "null"]
    schema = definitions.pop("Results")
    document = {**HEAD, **schema, **HEAD, "$defs": definitions}
    print(json.dumps(document, indent=2, ensure_ascii=False))


def describe(definition: dict[str, Any], cls: type[Any]) -> None:
    """Add descriptions to the properties, sort them as in the class, and require all of them."""
    texts = {name: text for c in reversed(cls.__mro__[:-1]) for name, text in docstrings(c).items()}
    names = [field.name for field in dataclasses.fields(cls)]
    properties = definition["properties"]
    for each in properties.values():
        each.pop("default", None)  # defaults are only for reading files of older versions
    definition["properties"] = {n: {**properties[n], "description": texts[n]} for n in names}
    definition["required"] = names


def docstrings(cls: type[Any]) -> dict[str, str]:
    """Return the docstring below each attribute of a class."""
    found = {}
    (tree,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(tree, ast.ClassDef)
    for field, text in pairwise(tree.body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(doc))):
                found[name] = inspect.cleandoc(doc)
    return found


if __name__ == "__main__":
    main()
