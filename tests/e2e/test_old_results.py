"""Commands can read the results files of version 0.1."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import Finished, make_model, your_ai_command

SUPPORT = Path(__file__).parents[1] / "support"


def your_ai(folder: Path, *arguments: str) -> Finished:
    done = your_ai_command(folder, *arguments)
    assert "Traceback" not in done.stderr
    return done


def prepare(folder: Path, name: str) -> None:
    """Copy an old file to ``folder/old.json``, and add the model that fits and training data."""
    content = (SUPPORT / name).read_text(encoding="utf-8")
    (folder / "old.json").write_text(content.replace("/models/", f"{folder}/"))
    make_model(folder / "fits", hidden_size=128, intermediate_size=256)
    (folder / "data").mkdir()
    lines = [json.dumps({"text": "one two three"})] * 4
    (folder / "data/train.jsonl").write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("name", "recommended", "shown", "trials"),
    [
        ("results-0.1.json", "smoke-medium", "Over budget", 7),
        ("results-0.1-failures.json", "fits", "Crash", 6),
    ],
)
def test_report_compare_and_train_read_old_results(
    name: str, recommended: str, shown: str, trials: int, tmp_path: Path
) -> None:
    prepare(tmp_path, name)
    reported = your_ai(tmp_path, "report", "old.json")
    assert (reported.code, reported.stderr) == (0, "")
    assert f"Recommended: {recommended} (largest model that fits)\n" in reported.stdout
    assert shown in reported.stdout

    compared = your_ai(tmp_path, "compare", "old.json", "old.json")
    assert (compared.code, compared.stderr) == (0, "")
    assert compared.stdout.endswith(f"({trials} compared trials).\n")

    arguments = ["train", "--from", "old.json", "--data", "data", "--export", "lora.yaml"]
    trained = your_ai(tmp_path, *arguments)
    if recommended == "fits":
        assert (trained.code, trained.stderr) == (0, "")
        exported = (tmp_path / "lora.yaml").read_text()
        for line in (
            f"model: {tmp_path}/fits",
            "batch_size: 2",
            "num_layers: 2",
            "  rank: 4",
            "optimizer: adamw",
        ):
            assert f"\n{line}\n" in exported
        names = ("k", "o", "q", "v")
        keys = "".join(f"  - self_attn.{name}_proj\n" for name in names)
        assert exported.endswith(f"  keys:\n{keys}")
    else:
        assert (trained.code, trained.stdout) == (2, "")
        assert trained.stderr.startswith("Error: smoke-medium has only synthetic weights")
        assert trained.stderr.count("\n") == 1
