"""The published JSON Schema of the results file."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

from tests.support.command import ROOT

PATH = ROOT / "docs/results.schema.json"
SCHEMA = json.loads(PATH.read_text(encoding="utf-8"))


def closed(schema: Any) -> Any:
    """Return the schema with unknown keys forbidden in every object.

    The published schema allows them, because later versions may add keys. Tests use this one to
    find keys that the schema does not describe.
    """
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if "properties" in found and set(found["properties"]) != {"backend"}:
        found.setdefault("additionalProperties", False)
    return found


PUBLISHED, CLOSED = Draft202012Validator(SCHEMA), Draft202012Validator(closed(SCHEMA))
