"""Models of the hub, end to end: the real command and a hub that is a server of the test's own."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checks import check_figures, check_refused
from tests.support.command import (
    CONFIG,
    PLAIN,
    ROOT,
    YOUR_AI,
    Finished,
    add_weights,
    benchmark,
    environment,
    your_ai_command,
)
from tests.support.fakes.hub import Hub, Repository, refusing, serve
from your_ai.models import presets

TOKEN = "hf_planted0123456789"
TINY = ["--model", "org/tiny"]
REAL = ["--weights", "real"]
WEIGHTS = "model.safetensors"
SHORT = ["--seq-length", "64"]

# Python runs this when it starts, whatever it is started for.
TELL_TALE = """
import json, os, pathlib, sys
tokens = [name for name, value in os.environ.items() if "hf_planted" in value]
told = {"command": sys.orig_argv, "tokens": tokens}
pathlib.Path(os.environ["TELL_TALES"], f"{os.getpid()}.json").write_text(json.dumps(told))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("tiny")
    add_weights(folder)
    config = json.dumps(CONFIG).encode()
    # What no training needs: it must not be fetched.
    surplus = {"README.md": b"# tiny", "model.py": b"raise SystemExit", "model.bin": b"pickled"}
    return {"config.json": config, WEIGHTS: (folder / WEIGHTS).read_bytes(), **surplus}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    """A hub that has ``org/tiny``."""
    with serve(tiny=Repository(files)) as served:
        yield served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the command is run; beside it lie its home and what the test itself keeps."""
    made = tmp_path / "cwd"
    made.mkdir()
    return made


def settings(endpoint: str, **changed: str) -> dict[str, str]:
    """That hub, and a token for it."""
    return {
        "HF_ENDPOINT": endpoint,
        "HF_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1,localhost",
        **changed,
    }


def run(folder: Path, endpoint: str, *arguments: str, **changed: str) -> Finished:
    """The command with that hub."""
    return benchmark(folder, *arguments, *PLAIN, env=settings(endpoint, **changed))


def recommend(folder: Path, endpoint: str, *arguments: str, **changed: str) -> Finished:
    """The command that wants a model's config and nothing else."""
    options = [*TINY, *SHORT, *arguments]
    return your_ai_command(folder, "recommend", *options, env=settings(endpoint, **changed))


def home(folder: Path) -> Path:
    return folder.parent / f"{folder.name}-home"


def check_failed(entry: dict[str, Any], said: str) -> None:
    """An error before there was a worker, told in one line: neither a pass nor an OOM."""
    assert (entry["outcome"], entry["success"]) == ("error", False)
    assert said in entry["error"]
    assert "\n" not in entry["error"]
    assert entry["peak_memory_gb"] is None
    assert entry["log"] is None
    assert entry["exit_status"] is None


def test_real_weights_are_fetched_by_the_command_and_by_no_worker(
    hub: Hub, folder: Path, files: dict[str, bytes]
) -> None:
    """All of them of one commit, although the branch moves in the middle."""
    hub.moves["org/tiny"] = [other(files)]
    tell_tales = folder.parent / "told"
    tell_tales.mkdir()
    (folder.parent / "first").mkdir()
    (folder.parent / "first" / "sitecustomize.py").write_text(TELL_TALE)
    path = f"{folder.parent / 'first'}:{ROOT}"
    done = run(folder, hub.endpoint, *TINY, *REAL, PYTHONPATH=path, TELL_TALES=str(tell_tales))
    assert done.code == 0, done.stdout + done.stderr
    assert done.stderr == ""
    check_figures(done.only)
    assert done.only["model_name"] == "org/tiny"
    assert done.only["config"]["weights"] == "real"
    assert done.only["load"]["parameters"] == 139_584

    # One process asked, the command; its token went to the hub alone, and the hub's CDN has none.
    assert {request.client[1:4] for request in hub.requests} == {("-m", "your_ai", "benchmark")}
    for request in hub.requests:
        of_cdn = request.path.startswith("/cdn/")
        assert request.authorization == (None if of_cdn else f"Bearer {TOKEN}"), request
    fetched = [asked for asked in hub.asked if asked.startswith("GET") and "/api/" not in asked]
    commit = hub.repositories["org/tiny"][0].commit
    config, weights = f"/org/tiny/resolve/{commit}/config.json", f"/cdn/{commit}/org/tiny/{WEIGHTS}"
    assert fetched == [f"GET {config}", f"GET {weights}"]
    assert done.only["revision"] == commit
    assert len(hub.repositories["org/tiny"]) == 2

    told = [json.loads(file.read_bytes()) for file in tell_tales.iterdir()]
    workers = [one for one in told if "worker" in one["command"]]
    assert len(workers) == 3  # two probes and the trial
    for one in told:
        assert one["tokens"] == ([] if one in workers else ["HF_TOKEN"]), one["command"]
    for file in [*folder.rglob("*"), *home(folder).rglob("*")]:
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
    assert TOKEN not in done.stdout + done.stderr

    # All of it is cached now: a hub that is gone is missed by nobody, but that is said.
    assert "Note:" not in done.stdout
    with refusing() as gone:
        done = run_again(folder, gone, *TINY, *REAL)
    assert done.code == 0, done.stdout + done.stderr
    check_figures(done.only)
    assert done.only["revision"] == commit
    assert (
        f"Note: Using the cached revision {commit[:8]} of org/tiny, which may be outdated. "
        "Cannot get org/tiny from the Hub ("
    ) in done.stdout


def run_again(folder: Path, endpoint: str, *arguments: str, **changed: str) -> Finished:
    """The command once more, elsewhere, with what is cached."""
    again = folder.parent / f"again-{len(list(folder.parent.iterdir()))}"
    again.mkdir()
    return run(again, endpoint, *arguments, HF_HOME=str(home(folder) / "hf"), **changed)


def test_synthesized_weights_need_the_config_alone_and_that_once(hub: Hub, folder: Path) -> None:
    done = run(folder, hub.endpoint, *TINY)
    assert done.code == 0, done.stdout + done.stderr
    check_figures(done.only)
    assert done.only["config"]["weights"] == "synthetic"
    commit = hub.repositories["org/tiny"][0].commit
    paths = {request.path for request in hub.requests}
    assert paths == {"/api/models/org/tiny", f"/org/tiny/resolve/{commit}/config.json"}
    assert done.only["revision"] == commit

    offline = recommend(folder, hub.endpoint, HF_HUB_OFFLINE="1")
    assert offline.code == 0, offline.stdout + offline.stderr
    note = f"Note: Using the cached revision {commit[:8]} of org/tiny, which may be outdated"
    assert offline.stderr.startswith(note)
    assert offline.stderr.count("\n") == 1
    assert {request.path for request in hub.requests} == paths


def test_what_was_never_cached_cannot_be_had_offline(folder: Path) -> None:
    with refusing() as gone:
        done = run(folder, gone, *TINY, HF_HUB_OFFLINE="1")
    check_refused(done, "Cannot get org/tiny from the Hub (", [], code=3)


def other(files: dict[str, bytes]) -> Repository:
    """A later commit of the same model: nothing of it can be trained."""
    return Repository({**files, "config.json": b"{}", WEIGHTS: b"later"})


def test_a_cache_that_is_outdated_is_not_used(
    hub: Hub, folder: Path, files: dict[str, bytes]
) -> None:
    assert recommend(folder, hub.endpoint).code == 0
    hub.repositories["org/tiny"].append(other(files))
    done = recommend(folder, hub.endpoint)
    check_refused(done, "The config.json of org/tiny has no model_type", [])


def test_a_presets_real_weights_are_of_one_commit_too(
    folder: Path, files: dict[str, bytes]
) -> None:
    preset = presets.all_presets()["llama-8b"]
    preset_only = ["--model", "llama-8b", *REAL]
    repository = Repository({"config.json": files["config.json"]})
    with serve() as hub:
        hub.repositories[preset.model_name] = [repository]
        done = run(folder, hub.endpoint, *preset_only)
        assert done.code == 1, done.stdout + done.stderr
        check_failed(done.only, "contains no model*.safetensors")
        assert done.only["revision"] == repository.commit
        asked = f"GET /api/models/{preset.model_name}"
        assert hub.asked[:2] == [asked, f"{asked}/revision/{repository.commit}"]
    offline = run_again(folder, "http://127.0.0.1:9", *preset_only, HF_HUB_OFFLINE="1")
    assert "Note: Using the cached revision " in offline.stdout
    check_failed(offline.only, f"Cannot get {preset.model_name} from the Hub (HF_HUB_OFFLINE is s")
    assert offline.only["revision"] == repository.commit


def test_a_preset_that_cannot_be_had_stops_no_run(folder: Path) -> None:
    done = run(folder, "http://127.0.0.1:9", "--model", "llama-8b", *REAL, HF_HUB_OFFLINE="1")
    assert done.code == 1, done.stdout + done.stderr
    check_failed(done.only, "from the Hub (HF_HUB_OFFLINE is set); unset it, or use a local folder")
    assert done.only["revision"] is None


REFUSED = {
    "missing": (404, "RepoNotFound", "The Hub has no model org/tiny, or it is private. Check"),
    "hidden": (401, "RepoNotFound", "The Hub has no model org/tiny, or it is private. Check"),
    "gated": (403, "GatedRepo", "is gated. Accept its terms on the Hub, then run `hf auth login`"),
    "expired": (401, "", "Check HF_TOKEN, or run `hf auth login`"),
    "forbidden": (403, "", "Check HF_TOKEN, or run `hf auth login`"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_model_that_cannot_be_had_is_refused(
    folder: Path, files: dict[str, bytes], kind: str
) -> None:
    status, code, complaint = REFUSED[kind]
    with serve(tiny=Repository(files, refused=(status, code))) as hub:
        check_refused(recommend(folder, hub.endpoint), complaint, [])
        assert len(hub.requests) == 1  # asking again would not help


def test_a_repository_without_a_config_is_refused(folder: Path) -> None:
    with serve(tiny=Repository({"README.md": b"# data"})) as hub:
        done = recommend(folder, hub.endpoint)
    check_refused(done, "org/tiny has no config.json on the Hub. Choose another model", [])


def test_a_ladder_goes_on_after_models_whose_weights_the_hub_lacks(
    folder: Path, files: dict[str, bytes]
) -> None:
    bare = {"config.json": files["config.json"]}
    lost = Repository(files, lost=frozenset({WEIGHTS}))
    with serve(tiny=Repository(files), lost=lost, bare=Repository(bare)) as hub:
        others = ["--model", "org/lost", "--model", "org/bare"]
        done = run(folder, hub.endpoint, *others, *TINY, *REAL)
    assert done.code == 0, done.stdout + done.stderr
    assert done.stderr == ""
    entries = {entry["model_name"]: entry for entry in done.document["results"]}
    check_failed(entries["org/lost"], f"org/lost has no {WEIGHTS} on the Hub. Choose another model")
    check_failed(entries["org/bare"], "contains no model*.safetensors")
    check_figures(entries["org/tiny"])
    assert done.document["recommended"] == "org/tiny"
    assert "✗ Error (org/lost has no " in done.stdout
    assert "OOM" not in done.stdout


def at_a_terminal(folder: Path, endpoint: str, *arguments: str) -> tuple[str, str]:
    """What a command writes to its output, and what to a terminal that is its error output."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 200))  # in none there is no room for a bar
    clean = environment(home(folder), **settings(endpoint))
    clean.pop("HF_HUB_DISABLE_PROGRESS_BARS", None)  # ours, where this process used the client
    with subprocess.Popen(
        [*YOUR_AI, *arguments],
        cwd=folder,
        env=clean,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how the end of a terminal is told (Linux)
            while more := os.read(ours, 4096):
                shown += more
        os.close(ours)
        assert process.stdout is not None
        return process.stdout.read(), shown.decode()


def test_progress_is_shown_at_a_terminal_and_nowhere_else(
    folder: Path, files: dict[str, bytes]
) -> None:
    """Of weights that no worker would get to see: they are damaged."""
    command = ["benchmark", *TINY, *REAL, *PLAIN]
    with serve(tiny=Repository({**files, WEIGHTS: b"damaged"})) as hub:
        out, shown = at_a_terminal(folder, hub.endpoint, *command)
        for bar in ("config.json: 100%", f"{WEIGHTS}: 100%", "7.00/7.00"):
            assert bar in shown, shown
        assert "100%" not in out
        assert "its header is invalid" in out
    for count, quiet in enumerate((command, ["recommend", *TINY, *SHORT]), start=1):
        # Nothing that is cached already.
        changed = {"config.json": files["config.json"] + b" " * count, WEIGHTS: bytes(count)}
        with serve(tiny=Repository(changed)) as hub:
            assert at_a_terminal(folder, hub.endpoint, *quiet, "--quiet") == ("", "")
            fetched = [asked for asked in hub.asked if asked.startswith(("GET /org/", "GET /cdn/"))]
            assert len(fetched) == (2 if quiet is command else 1)
