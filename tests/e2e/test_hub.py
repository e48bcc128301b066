"""Models of the hub, end to end: the real command and a hub that is a server of the test's own."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.disks import small_disk
from tests.e2e.command import CONFIG, PLAIN, ROOT, Finished, add_weights, benchmark
from tests.e2e.test_bad_input import check_refused
from tests.e2e.test_benchmark import check_figures
from tests.fakes.hub import Hub, Repository, refusing, serve, silent

TOKEN = "hf_planted0123456789"
TINY = ["--model", "org/tiny"]
REAL = ["--weights", "real"]
WEIGHTS = "model.safetensors"

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


def run(folder: Path, endpoint: str, *arguments: str, **changed: str) -> Finished:
    """The command with that hub, and a token for it."""
    env = {
        "HF_ENDPOINT": endpoint,
        "HF_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1,localhost",
        **changed,
    }
    return benchmark(folder, *arguments, *PLAIN, env=env)


def home(folder: Path) -> Path:
    return folder.parent / f"{folder.name}-home"


def check_failed(entry: dict[str, Any], said: str) -> None:
    """An error before there was a worker, told in one line: neither a pass nor an OOM."""
    assert (entry["outcome"], entry["success"]) == ("error", False)
    assert said in entry["error"]
    assert "\n" not in entry["error"]
    assert entry["peak_memory_gb"] is None
    assert entry["log"] is None
    assert "exit_status" not in entry


def test_real_weights_are_fetched_by_the_command_and_by_no_worker(hub: Hub, folder: Path) -> None:
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

    told = [json.loads(file.read_bytes()) for file in tell_tales.iterdir()]
    workers = [one for one in told if "worker" in one["command"]]
    assert len(workers) == 3  # two probes and the trial
    for one in told:
        assert one["tokens"] == ([] if one in workers else ["HF_TOKEN"]), one["command"]
    for file in [*folder.rglob("*"), *home(folder).rglob("*")]:
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
    assert TOKEN not in done.stdout + done.stderr

    # All of it is cached now: it is asked for no file again, and a hub that is gone is missed by
    # nobody, but that is said.
    before = len(hub.requests)
    done = run_again(folder, hub.endpoint, *TINY, *REAL)
    assert done.code == 0, done.stdout + done.stderr
    assert {request.path for request in hub.requests[before:]} == {"/api/models/org/tiny"}
    assert "Note:" not in done.stdout
    with refusing() as gone:
        done = run_again(folder, gone, *TINY, *REAL)
    assert done.code == 0, done.stdout + done.stderr
    check_figures(done.only)
    assert done.only["revision"] == commit
    assert (
        f"Note: org/tiny is taken from the cache, at revision {commit[:8]}, which may be outdated: "
        "Cannot get org/tiny from the hub ("
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

    offline = run_again(folder, hub.endpoint, *TINY, HF_HUB_OFFLINE="1")
    assert offline.code == 0, offline.stdout + offline.stderr
    assert "Note: org/tiny is taken from the cache, at revision " in offline.stdout


def test_what_was_never_cached_cannot_be_had_offline(folder: Path) -> None:
    with refusing() as gone:
        done = run(folder, gone, *TINY, HF_HUB_OFFLINE="1")
    check_refused(done, "Cannot get org/tiny from the hub (", [], code=3)


def other(files: dict[str, bytes]) -> Repository:
    """A later commit of the same model: nothing of it can be trained."""
    return Repository({**files, "config.json": b"{}", WEIGHTS: b"later"})


def test_a_branch_that_moves_in_the_middle_is_not_followed(
    hub: Hub, folder: Path, files: dict[str, bytes]
) -> None:
    (first,) = hub.repositories["org/tiny"]
    hub.moves["org/tiny"] = [other(files)]
    done = run(folder, hub.endpoint, *TINY, *REAL)
    assert done.code == 0, done.stdout + done.stderr
    assert len(hub.repositories["org/tiny"]) == 2
    assert done.only["revision"] == first.commit
    check_figures(done.only)


def test_a_cache_that_is_outdated_is_not_used(
    hub: Hub, folder: Path, files: dict[str, bytes]
) -> None:
    assert run(folder, hub.endpoint, *TINY).code == 0
    hub.repositories["org/tiny"].append(other(files))
    done = run_again(folder, hub.endpoint, *TINY)
    check_refused(done, "The config.json of org/tiny names no model_type", [])


def test_a_disk_that_is_too_small_is_told_of_before_a_byte_is_fetched(
    folder: Path, files: dict[str, bytes]
) -> None:
    large = {**files, "model-2.safetensors": b"x" * 2**20}
    with (
        serve(tiny=Repository(large)) as hub,
        small_disk(folder.parent / "disk", "size=512k") as disk,
    ):
        done = run(folder, hub.endpoint, *TINY, *REAL, HF_HOME=str(disk))
    assert done.code == 1, done.stdout + done.stderr
    assert re.search(
        r"org/tiny takes 1\.\d MB of disk, and 0\.\d MB is free in .*disk/hub; free some, or set ",
        done.only["error"],
    )
    assert not any("/cdn/" in asked for asked in hub.asked)


def test_a_disk_that_is_full_in_the_middle_is_told_of(
    folder: Path, files: dict[str, bytes]
) -> None:
    """The hub says less than it sends."""
    with (
        serve(tiny=Repository(files, understated=frozenset({WEIGHTS}))) as hub,
        small_disk(folder.parent / "disk", "size=192k") as disk,
    ):
        done = run(folder, hub.endpoint, *TINY, *REAL, HF_HOME=str(disk))
    assert done.code == 1, done.stdout + done.stderr
    check_failed(done.only, "No space left on device")
    assert hub.asked.count(next(a for a in hub.asked if a.startswith("GET /cdn/"))) == 1


def test_a_hub_that_asks_to_wait_is_given_that_time(hub: Hub, folder: Path) -> None:
    hub.faults["GET", "/api/"] = [429]
    hub.with_faults["Retry-After"] = "4"
    began = time.monotonic()
    done = run(folder, hub.endpoint, *TINY)
    assert done.code == 0, done.stdout + done.stderr
    assert time.monotonic() - began > 4
    assert hub.asked.count("GET /api/models/org/tiny") == 2


def test_a_hub_that_asks_to_wait_for_an_hour_is_told_of(hub: Hub, folder: Path) -> None:
    hub.faults["GET", "/api/"] = [429]
    hub.with_faults["Retry-After"] = "3600"
    check_refused(run(folder, hub.endpoint, *TINY), "(429 Too Many Requests", [], code=3)


def test_weights_that_the_hub_cannot_send_now_are_not_taken_from_half_a_cache(
    hub: Hub, folder: Path
) -> None:
    """With the config cached, huggingface_hub returns the folder that has only that."""
    hub.faults["GET", "/api/models/org/tiny/revision/"] = [503] * 3
    done = run(folder, hub.endpoint, *TINY, *REAL)
    assert done.code == 1, done.stdout + done.stderr
    check_failed(done.only, "Cannot get org/tiny from the hub (Server error '503")
    assert not any("/cdn/" in asked for asked in hub.asked)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", "/org/tiny/resolve/{commit}/config.json"),
        ("GET", "/api/models/org/tiny"),
        ("GET", f"/cdn/{{commit}}/org/tiny/{WEIGHTS}"),
    ],
)
def test_a_hub_that_fails_twice_is_asked_again(
    hub: Hub, folder: Path, method: str, path: str
) -> None:
    path = path.format(commit=hub.repositories["org/tiny"][0].commit)
    hub.faults[method, path] = [500, 503]
    done = run(folder, hub.endpoint, *TINY, *REAL)
    assert done.code == 0, done.stdout + done.stderr
    assert hub.faults[method, path] == []
    assert hub.asked.count(f"{method} {path}") >= 3
    assert done.stderr == ""
    check_figures(done.only)


REFUSED = {
    "missing": (404, "RepoNotFound", "The hub has no model org/tiny, or it is private; check"),
    "hidden": (401, "RepoNotFound", "The hub has no model org/tiny, or it is private; check"),
    "gated": (403, "GatedRepo", "is gated: accept its terms on the hub, then run `hf auth login`"),
    "expired": (401, "", "check the token in HF_TOKEN, or run `hf auth login`"),
    "forbidden": (403, "", "check the token in HF_TOKEN, or run `hf auth login`"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_model_that_cannot_be_had_is_refused(
    folder: Path, files: dict[str, bytes], kind: str
) -> None:
    status, code, complaint = REFUSED[kind]
    with serve(tiny=Repository(files, refused=(status, code))) as hub:
        check_refused(run(folder, hub.endpoint, *TINY, *REAL), complaint, [])
        assert len(hub.requests) == 1  # asking again would not help


def test_a_repository_without_a_config_is_refused(folder: Path) -> None:
    with serve(tiny=Repository({"README.md": b"# data"})) as hub:
        done = run(folder, hub.endpoint, *TINY)
    check_refused(done, "org/tiny has no config.json on the hub; name another model", [])


def test_a_hub_that_refuses_connections_is_told_of_soon(folder: Path) -> None:
    began = time.monotonic()
    with refusing() as endpoint:
        done = run(folder, endpoint, *TINY)
    assert time.monotonic() - began < 10
    check_refused(done, "Connection refused); check the network", [], code=3)


def test_a_hub_that_does_not_answer_is_told_of_once_the_time_is_up(folder: Path) -> None:
    began = time.monotonic()
    with silent() as endpoint:
        done = run(folder, endpoint, *TINY, HF_HUB_ETAG_TIMEOUT="1")
    assert time.monotonic() - began < 12
    check_refused(done, "Cannot get org/tiny from the hub (timed out); check the net", [], code=3)


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
    check_failed(entries["org/lost"], f"org/lost has no {WEIGHTS} on the hub; name another model")
    check_failed(entries["org/bare"], "holds no model*.safetensors")
    check_figures(entries["org/tiny"])
    assert done.document["recommended"] == "org/tiny"
    assert "✗ Error (org/lost has no " in done.stdout
    assert "OOM" not in done.stdout


@pytest.mark.slow
def test_weights_that_end_too_soon_are_not_trained(folder: Path, files: dict[str, bytes]) -> None:
    """Half the bytes, then the end of the connection, each time: slow, as it is tried 18 times."""
    with serve(tiny=Repository(files, truncated=frozenset({WEIGHTS}))) as hub:
        done = run(folder, hub.endpoint, *TINY, *REAL)
    assert done.code == 1, done.stdout + done.stderr
    check_failed(done.only, "Cannot get org/tiny from the hub (peer closed connection")
    assert done.stderr == ""
    assert not [file for file in home(folder).rglob("*.incomplete") if file.is_file()]


@pytest.mark.slow
def test_a_hub_that_stalls_in_the_middle_does_not_hang_the_run(
    folder: Path, files: dict[str, bytes]
) -> None:
    with serve(tiny=Repository(files, stalled=frozenset({WEIGHTS}))) as hub:
        done = run(folder, hub.endpoint, *TINY, *REAL, HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert done.code == 1, done.stdout + done.stderr
    check_failed(done.only, "Cannot get org/tiny from the hub (")
