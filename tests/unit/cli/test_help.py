"""The help of every command: groups, defaults, and a description of every option."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner

from your_ai.cli import cli

CONTEXT = click.Context(cli)
COMMANDS = cli.list_commands(CONTEXT)
GROUPS = {
    "benchmark": ["Models", "Training", "Search", "Run", "Output", "Other"],
    "optimize": ["Search", "Training", "Run", "Output", "Other"],
    "recommend": ["Models", "Machine", "Training", "Output", "Other"],
    "train": ["Input", "Training", "Progress", "Run", "Output", "Other"],
}


def options(name: str) -> list[click.Option]:
    command = cli.get_command(CONTEXT, name)
    assert command is not None
    return [each for each in command.params if isinstance(each, click.Option)]


def help_of(name: str, columns: int = 80) -> str:
    shown = CliRunner().invoke(cli, [name, "--help"], terminal_width=columns)
    assert shown.exit_code == 0
    return shown.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_description(name: str) -> None:
    # A bracket in the text would be a default that click does not show by itself.
    assert [o.name for o in options(name) if not o.help or "[" in o.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_values_have_short_names_and_no_ranges(name: str) -> None:
    shown = help_of(name)
    assert "RANGE" not in shown
    assert "INTEGER" not in shown
    assert not re.search(r"x[<>]|[<>]=?x", shown)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns(name: str) -> None:
    assert max(map(len, help_of(name).splitlines())) <= 80


@pytest.mark.parametrize(("name", "headings"), GROUPS.items())
def test_options_are_grouped(name: str, headings: list[str]) -> None:
    shown = help_of(name)
    assert re.findall(r"^(\w+):$", shown, re.M) == headings
    assert all(max(option.opts, key=len) in shown for option in options(name))


@pytest.mark.parametrize("name", GROUPS)
def test_descriptions_of_all_groups_are_aligned(name: str) -> None:
    records = [option.get_help_record(CONTEXT) for option in options(name)]
    starts = {
        line.index(text[:15])
        for head, text in filter(None, records)
        for line in help_of(name, 200).splitlines()
        if line.startswith(f"  {head} ")
    }
    assert len(starts) == 1


@pytest.mark.parametrize(
    ("name", "option", "default"),
    [
        ("benchmark", "--batch-size N", "2"),
        ("benchmark", "--weights", "synthetic"),
        ("benchmark", "--timeout SECONDS", "3600"),
        ("benchmark", "--quantize", "(4, or the model's own; none in full fine-tuning)"),
        ("optimize", "--ranks", "32,64,96,128"),
        ("recommend", "--suite", "default"),
        ("recommend", "--machine CHIP,GB", "(this machine)"),
        ("train", "--learning-rate RATE", "1e-05"),
        ("train", "--lora-rank N", "(as measured)"),
        ("train", "--adapter-path DIR", "adapters"),
    ],
)
def test_defaults_are_shown(name: str, option: str, default: str) -> None:
    (line,) = [
        line for line in help_of(name, 400).splitlines() if line.strip().startswith(f"{option} ")
    ]
    assert line.endswith(f"  [default: {default}]")
