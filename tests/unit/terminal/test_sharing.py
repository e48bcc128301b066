"""What the terminal says about shared measurements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.support import builders
from your_ai.runs.sharing import select
from your_ai.terminal.sharing import shared

SHA = "0123456789abcdef0123456789abcdef01234567"


def test_what_was_written_and_what_was_not() -> None:
    named = builders.result(model_name="org/tiny", revision=SHA)
    unnamed = builders.result(model_name="/Users/alice/tiny")
    unknown = replace(named, config=replace(named.config, lora_keys=("alice",)))
    selection = select(builders.results(named, unnamed, unnamed, unknown))
    lines = list(shared(selection, Path("mac.json")))
    assert lines == [
        "Measurements of 3 trials written to mac.json",
        "Models named in it: org/tiny",
        "Without the model's name, because it is not known to be on the Hub: 2 trials",
        "Left out, because the settings contain modules or values unknown here: 1 trial",
        'To contribute the file, follow "Measurements" in CONTRIBUTING.md.',
    ]


def test_only_what_applies_is_said() -> None:
    named = builders.result(model_name="org/tiny", revision=SHA)
    assert len(list(shared(select(builders.results(named)), Path("mac.json")))) == 3
