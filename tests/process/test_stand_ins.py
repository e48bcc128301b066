"""Workers load only what they use, and what they leave out changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.support.trials import PATIENT, tiny_request
from worker.protocol.codec import encode
from worker.protocol.configuration import Configuration, FineTuneType, Optimizer, Weights
from worker.protocol.messages import Passed, ProbeAnswer
from worker.protocol.requests import ModelSource, PlannedModel, ProbeRequest, TrialRequest
from worker.stand_ins import MODULES
from your_ai.supervision.supervisor import supervise
from your_ai.supervision.trial_log import TrialLog

NEEDED = {"mlx", "mlx_lm", "numpy"}
REMEDY = (
    "This makes the start of every worker slower: update worker/stand_ins.py. It replaces what "
    "mlx-lm imports at its top and a trial does not use; `python -X importtime -c 'import "
    "mlx_lm.tuner.trainer'` shows which module imports what."
)

FACTS = """
import json, sys
from dataclasses import asdict
from worker import stand_ins
if "stand-ins" in sys.argv:
    stand_ins.import_mlx_lm()
from tests.matrix.configs import all_configs
from worker.architecture import UnsupportedModelError
from worker.probe import facts
from worker.protocol.configuration import Configuration
from worker.protocol.requests import PlannedModel

def is_loaded(name):
    return getattr(sys.modules.get(name), "__spec__", None) is not None

def found(config):
    try:
        return asdict(facts(PlannedModel(config, Configuration())))
    except UnsupportedModelError as error:
        return str(error)

print(json.dumps({name: found(config) for name, config in all_configs().items()}))
print(json.dumps([name for name in stand_ins.MODULES if is_loaded(name)]))
"""

MAKE_MODELS = """
from pathlib import Path
from make_model import make_model, quantize
quantize(make_model(Path("plain"), hidden=64), Path("quantized"), 4)
"""
ROOT = Path(__file__).resolve().parents[2]


def python(code: str, *arguments: str, cwd: Path | None = None) -> str:
    """Run code, which may import scripts too, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "scripts")])},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model ``plain`` and the same one ``quantized``."""
    folder = tmp_path_factory.mktemp("models")
    python(MAKE_MODELS, cwd=folder)
    return folder


def check_loaded(request: TrialRequest | ProbeRequest, log: TrialLog) -> None:
    """Run a worker, which must succeed with no other packages than the needed ones."""
    file = log.path.with_name("modules.json")
    worker = [sys.executable, "-P", "-u", "-m", "tests.support.fakes.listing_worker", str(file)]
    seen = supervise(encode(request), log=log, limits=PATIENT, command=worker)
    assert isinstance(seen.events[-1], Passed | ProbeAnswer), seen.log_tail
    modules = {*json.loads(file.read_text())}
    packages = {name.partition(".")[0] for name in modules} - {*sys.stdlib_module_names, "worker"}
    extra = sorted({*packages, *modules & {*MODULES}} - NEEDED)
    assert not extra, f"A worker imports {extra} ({seen.log_tail.strip()}). {REMEDY}"
    assert packages == NEEDED


BY_TYPE = [
    (FineTuneType.LORA, Optimizer.ADAM, None),
    (FineTuneType.LORA, Optimizer.ADAFACTOR, 4),
    (FineTuneType.DORA, Optimizer.ADAMW, 4),
    (FineTuneType.FULL, Optimizer.SGD, None),
    (FineTuneType.FULL, Optimizer.MUON, None),
]


@pytest.mark.parametrize(("fine_tune_type", "optimizer", "bits"), BY_TYPE)
def test_a_trial_loads_only_what_it_uses(
    fine_tune_type: FineTuneType, optimizer: Optimizer, bits: int | None, log: TrialLog
) -> None:
    request = tiny_request()
    changed = partial(replace, request.configuration, fine_tune_type=fine_tune_type)
    keys = () if fine_tune_type is FineTuneType.FULL else request.configuration.lora_keys
    configuration = changed(optimizer=optimizer, quantization_bits=bits, lora_keys=keys)
    timed = replace(request, configuration=configuration, lengths=(8,), validation_lengths=(8,))
    check_loaded(timed, log)


@pytest.mark.parametrize("name", ["plain", "quantized"])
def test_a_trial_of_real_weights_loads_only_what_it_uses(
    name: str, models: Path, log: TrialLog
) -> None:
    config = json.loads((models / name / "config.json").read_text())
    configuration = replace(tiny_request().configuration, weights=Weights.REAL)
    source = ModelSource(config, str(models / name))
    check_loaded(replace(tiny_request(), model=source, configuration=configuration), log)


def test_a_probe_loads_only_what_it_uses(log: TrialLog) -> None:
    check_loaded(ProbeRequest({}), log)
    planned = PlannedModel(tiny_request().model.config, Configuration())
    check_loaded(ProbeRequest({"model": planned}), log)


def test_stand_ins_change_nothing_in_any_model_of_mlx_lm() -> None:
    found, loaded = python(FACTS, "stand-ins").splitlines()
    assert json.loads(loaded) == [], f"A model of mlx-lm uses {loaded}. {REMEDY}"
    real, loaded = python(FACTS).splitlines()
    assert json.loads(loaded) == [*MODULES]
    assert json.loads(found) == json.loads(real)
