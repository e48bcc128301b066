"""Models from the Hub, end to end: the real command with a fake Hub."""

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
from tests.support.fakes.hub import Hub, Repository, refusing_endpoint, serve
from your_ai.models import presets

TOKEN = "hf_planted0123456789"
TINY = ["--model", "org/tiny"]
REAL = ["--weights", "real"]
WEIGHTS = "model.safetensors"
SHORT = ["--seq-length", "64"]

# A sitecustomize module: every Python process runs it at startup and records its environment.
RECORD_PROCESS = """
import json, os, pathlib, sys
tokens = [name for name, value in os.environ.items() if "hf_planted" in value]
record = {"command": sys.orig_argv, "tokens": tokens}
pathlib.Path(os.environ["PROCESS_RECORDS"], f"{os.getpid()}.json").write_text(json.dumps(record))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("tiny")
    add_weights(folder)
    config = json.dumps(CONFIG).encode()
    # No training needs these files, so they must not be downloaded.
    unneeded = {"README.md": b"# tiny", "model.py": b"raise SystemExit", "model.bin": b"pickled"}
    return {"config.json": config, WEIGHTS: (folder / WEIGHTS).read_bytes(), **unneeded}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    """A fake Hub that has ``org/tiny``."""
    with serve(tiny=Repository(files)) as served:
        yield served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The working folder of the command. Its parent has the home and the test's own files."""
    made = tmp_path / "cwd"
    made.mkdir()
    return made


def settings(endpoint: str, **changed: str) -> dict[str, str]:
    """Return environment variables that select the Hub at ``endpoint`` and set a token."""
    return {
        "HF_ENDPOINT": endpoint,
        "HF_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1,localhost",
        **changed,
    }


def run(folder: Path, endpoint: str, *arguments: str, **changed: str) -> Finished:
    """Run ``your_ai benchmark`` with the Hub at ``endpoint``."""
    return benchmark(folder, *arguments, *PLAIN, env=settings(endpoint, **changed))


def recommend(folder: Path, endpoint: str, *arguments: str, **changed: str) -> Finished:
    """Run ``your_ai recommend``, which downloads only the model's config."""
    options = [*TINY, *SHORT, *arguments]
    return your_ai_command(folder, "recommend", *options, env=settings(endpoint, **changed))


def home(folder: Path) -> Path:
    return folder.parent / f"{folder.name}-home"


def check_failed(entry: dict[str, Any], reason: str) -> None:
    """Assert that the trial failed with this reason before a worker was started."""
    assert (entry["outcome"], entry["success"]) == ("error", False)
    assert reason in entry["error"]
    assert "\n" not in entry["error"]
    assert entry["peak_memory_gb"] is None
    assert entry["log"] is None
    assert entry["exit_status"] is None


def test_only_the_parent_downloads_real_weights(
    hub: Hub, folder: Path, files: dict[str, bytes]
) -> None:
    """All files are from one commit, although the main branch changes during the download."""
    hub.next_commits["org/tiny"] = [other(files)]
    records = folder.parent / "records"
    records.mkdir()
    (folder.parent / "first").mkdir()
    (folder.parent / "first" / "sitecustomize.py").write_text(RECORD_PROCESS)
    path = f"{folder.parent / 'first'}:{ROOT}"
    done = run(folder, hub.endpoint, *TINY, *REAL, PYTHONPATH=path, PROCESS_RECORDS=str(records))
    assert done.code == 0, done.stdout + done.stderr
    assert done.stderr == ""
    check_figures(done.only)
    assert done.only["model_name"] == "org/tiny"
    assert done.only["config"]["weights"] == "real"
    assert done.only["load"]["parameters"] == 139_584

    # Only the command sent requests. Its token went to the Hub, but not to the CDN.
    assert {request.client[1:4] for request in hub.requests} == {("-m", "your_ai", "benchmark")}
    for request in hub.requests:
        of_cdn = request.path.startswith("/cdn/")
        assert request.authorization == (None if of_cdn else f"Bearer {TOKEN}"), request
    fetched = [each for each in hub.requested if each.startswith("GET") and "/api/" not in each]
    commit = hub.repositories["org/tiny"][0].commit
    config, weights = f"/org/tiny/resolve/{commit}/config.json", f"/cdn/{commit}/org/tiny/{WEIGHTS}"
    assert fetched == [f"GET {config}", f"GET {weights}"]
    assert done.only["revision"] == commit
    assert len(hub.repositories["org/tiny"]) == 2

    processes = [json.loads(file.read_bytes()) for file in records.iterdir()]
    workers = [each for each in processes if "worker" in each["command"]]
    assert len(workers) == 2  # the probe and the trial
    for each in processes:
        assert each["tokens"] == ([] if each in workers else ["HF_TOKEN"]), each["command"]
    for file in [*folder.rglob("*"), *home(folder).rglob("*")]:
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
    assert TOKEN not in done.stdout + done.stderr

    # Everything is cached now, so an unreachable Hub causes only a note.
    assert "Note:" not in done.stdout
    with refusing_endpoint() as unreachable:
        done = run_again(folder, unreachable, *TINY, *REAL)
    assert done.code == 0, done.stdout + done.stderr
    check_figures(done.only)
    assert done.only["revision"] == commit
    assert (
        f"Note: Using the cached revision {commit[:8]} of org/tiny, which may be outdated. "
        "Cannot get org/tiny from the Hub ("
    ) in done.stdout


def run_again(folder: Path, endpoint: str, *arguments: str, **changed: str) -> Finished:
    """Run ``your_ai benchmark`` again with the same cache, but in a new folder."""
    again = folder.parent / f"again-{len(list(folder.parent.iterdir()))}"
    again.mkdir()
    return run(again, endpoint, *arguments, HF_HOME=str(home(folder) / "hf"), **changed)


def test_synthetic_weights_download_only_the_config_and_only_once(hub: Hub, folder: Path) -> None:
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
    with refusing_endpoint() as gone:
        done = run(folder, gone, *TINY, HF_HUB_OFFLINE="1")
    check_refused(done, "Cannot get org/tiny from the Hub (", [], code=3)


def test_real_weights_that_are_too_large_are_not_downloaded(hub: Hub, folder: Path) -> None:
    done = run(folder, hub.endpoint, *TINY, *REAL, "--max-memory", "0.0001")
    assert (done.code, done.only["outcome"], done.only["certainty"]) == (1, "over-budget", "high")
    assert (done.only["config"]["weights"], done.only["log"]) == ("real", None)
    assert not [path for path in hub.requested if WEIGHTS in path]


def other(files: dict[str, bytes]) -> Repository:
    """Return a later commit of the same model, which cannot be trained."""
    return Repository({**files, "config.json": b"{}", WEIGHTS: b"later"})


def test_an_outdated_cache_is_not_used(hub: Hub, folder: Path, files: dict[str, bytes]) -> None:
    assert recommend(folder, hub.endpoint).code == 0
    hub.repositories["org/tiny"].append(other(files))
    done = recommend(folder, hub.endpoint)
    check_refused(done, "The config.json of org/tiny has no model_type", [])


def test_real_weights_of_a_preset_are_from_one_commit(
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
        request = f"GET /api/models/{preset.model_name}"
        assert hub.requested[:2] == [request, f"{request}/revision/{repository.commit}"]
    offline = run_again(folder, "http://127.0.0.1:9", *preset_only, HF_HUB_OFFLINE="1")
    assert "Note: Using the cached revision " in offline.stdout
    check_failed(offline.only, f"Cannot get {preset.model_name} from the Hub (HF_HUB_OFFLINE is s")
    assert offline.only["revision"] == repository.commit


def test_a_preset_that_cannot_be_downloaded_is_a_failed_trial(folder: Path) -> None:
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
def test_a_model_without_access_is_a_usage_error(
    folder: Path, files: dict[str, bytes], kind: str
) -> None:
    status, code, problem = REFUSED[kind]
    with serve(tiny=Repository(files, error=(status, code))) as hub:
        check_refused(recommend(folder, hub.endpoint), problem, [])
        assert len(hub.requests) == 1  # there is no retry


def test_a_repository_without_a_config_is_a_usage_error(folder: Path) -> None:
    with serve(tiny=Repository({"README.md": b"# data"})) as hub:
        done = recommend(folder, hub.endpoint)
    check_refused(done, "org/tiny has no config.json on the Hub. Choose another model", [])


def test_a_run_continues_after_models_without_weights_on_the_hub(
    folder: Path, files: dict[str, bytes]
) -> None:
    bare = {"config.json": files["config.json"]}
    lost = Repository(files, missing=frozenset({WEIGHTS}))
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
    """Run a command whose stderr is a terminal. Return what it wrote to stdout and stderr."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 200))  # wide enough for progress bars
    clean = environment(home(folder), **settings(endpoint))
    clean.pop("HF_HUB_DISABLE_PROGRESS_BARS", None)  # set if this process used the Hub client
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
        with contextlib.suppress(OSError):  # on Linux a closed terminal raises EIO
            while more := os.read(ours, 4096):
                shown += more
        os.close(ours)
        assert process.stdout is not None
        return process.stdout.read(), shown.decode()


def test_progress_is_shown_only_at_a_terminal_and_without_quiet(
    folder: Path, files: dict[str, bytes]
) -> None:
    """The weights are damaged, so that no trial follows the download."""
    command = ["benchmark", *TINY, *REAL, *PLAIN]
    with serve(tiny=Repository({**files, WEIGHTS: b"damaged"})) as hub:
        out, shown = at_a_terminal(folder, hub.endpoint, *command)
        for bar in ("config.json: 100%", f"{WEIGHTS}: 100%", "7.00/7.00"):
            assert bar in shown, shown
        assert "100%" not in out
        assert "its header is invalid" in out
    for count, quiet in enumerate((command, ["recommend", *TINY, *SHORT]), start=1):
        # Change the files, because the first ones are cached.
        changed = {"config.json": files["config.json"] + b" " * count, WEIGHTS: bytes(count)}
        with serve(tiny=Repository(changed)) as hub:
            assert at_a_terminal(folder, hub.endpoint, *quiet, "--quiet") == ("", "")
            fetched = [
                each for each in hub.requested if each.startswith(("GET /org/", "GET /cdn/"))
            ]
            assert len(fetched) == (2 if quiet is command else 1)
