"""The client in a separate process, and a Hub that fails, played by a real server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.command import CONFIG, PLAIN, add_weights, at_a_terminal, environment
from tests.support.disks import small_disk
from tests.support.fakes.hub import (
    RESET,
    STALLED,
    TRUNCATED,
    Hub,
    Repository,
    refusing_endpoint,
    serve,
    silent_endpoint,
)
from tests.support.trials import wait_for

WEIGHTS = "model.safetensors"
API, FILES = "/api/models/org/tiny", "/api/models/org/tiny/revision/"
CONFIG_FILE, CDN = "/org/tiny/resolve/", "/cdn/"

FETCH = """
import sys
from your_ai.models import hub, hub_http
from your_ai.errors import YourAIError
hub_http.BACKOFF_SECONDS = 0.01
try:
    found = hub.revision("org/tiny")
    print(found.sha, found.note, sep="\\n")
    hub.config_file("org/tiny", found.sha)
    print(hub.download("org/tiny", found.sha))
except YourAIError as error:
    print(error)
    sys.exit(error.exit_code)
"""

TOKENIZER = """
from your_ai.models import hub, resolve, tokenizer
print(tokenizer.folder_of(resolve.find("org/tiny")))
"""


@dataclass(frozen=True)
class Fetched:
    """The output and the cache of a client that downloads ``org/tiny``."""

    code: int
    lines: list[str]
    cache: Path

    @property
    def folder(self) -> Path:
        """The folder with the model, which is printed last."""
        assert self.code == 0, self.lines
        return Path(self.lines[-1])

    @property
    def error(self) -> str:
        """The error message."""
        assert self.code != 0, self.lines
        assert len(self.lines) in (1, 3), "the error is one line"
        return self.lines[-1]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("tiny")
    add_weights(folder)
    return {"config.json": json.dumps(CONFIG).encode(), WEIGHTS: (folder / WEIGHTS).read_bytes()}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    with serve(tiny=Repository(files)) as served:
        yield served


def settings(endpoint: str, **changed: str) -> dict[str, str]:
    """Return the environment for a Hub, with short timeouts."""
    return {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
        "HF_HUB_ETAG_TIMEOUT": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        **changed,
    }


def fetch(home: Path, endpoint: str = "", code: str = FETCH, **changed: str) -> Fetched:
    """Download the model in a new process, because the client reads its settings only once."""
    changed = settings(endpoint or "http://127.0.0.1:9", **changed)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment(home, **changed),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return Fetched(done.returncode, done.stdout.splitlines(), home / "hf")


def check_whole(fetched: Fetched, files: dict[str, bytes]) -> None:
    downloaded = {file.name: file.read_bytes() for file in fetched.folder.iterdir()}
    assert downloaded == {name: files[name] for name in ("config.json", WEIGHTS)}
    check_nothing_half(fetched)


def check_nothing_half(fetched: Fetched) -> None:
    assert not [*fetched.cache.rglob("*.incomplete")]


FAILING: dict[str, tuple[str, str, int | str]] = {
    "500 from the API": ("GET", API, 500),
    "599, which only some proxy sends": ("GET", API, 599),
    "503 for a file's head": ("HEAD", CONFIG_FILE, 503),
    "500 for a file": ("GET", CDN, 500),
    "a connection reset in a file": ("GET", CDN, RESET),
    "a file cut short": ("GET", CDN, TRUNCATED),
    "a file that stalls": ("GET", CDN, STALLED),
    "a list of files that stalls": ("GET", FILES, STALLED),
}


@pytest.mark.parametrize("kind", FAILING)
def test_a_failed_request_is_retried(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, kind: str
) -> None:
    method, path, fault = FAILING[kind]
    hub.faults[method, path] = [fault]
    check_whole(fetch(tmp_path, hub.endpoint), files)
    assert hub.faults[method, path] == []


def test_repeated_connection_resets_are_reported(hub: Hub, tmp_path: Path) -> None:
    hub.faults["GET", CDN] = [RESET] * 10
    fetched = fetch(tmp_path, hub.endpoint)
    assert re.search(r"Cannot get org/tiny from the Hub \(.*reset by peer\); check", fetched.error)
    assert fetched.code == 3
    check_nothing_half(fetched)
    assert sum(each.startswith("GET /cdn/") for each in hub.requested) == 3


def test_a_refused_connection_is_reported(tmp_path: Path) -> None:
    with refusing_endpoint() as endpoint:
        fetched = fetch(tmp_path, endpoint)
    assert "Cannot get org/tiny from the Hub (" in fetched.error
    assert "Connection refused); check the network" in fetched.error
    assert fetched.code == 3


def test_a_timeout_is_reported(tmp_path: Path) -> None:
    with silent_endpoint() as endpoint:
        fetched = fetch(tmp_path, endpoint)
    assert "Cannot get org/tiny from the Hub (timed out); check the network" in fetched.error
    assert fetched.code == 3


def test_an_incomplete_cache_is_not_used_if_the_download_fails(hub: Hub, tmp_path: Path) -> None:
    """With the config cached, snapshot_download would return the folder that has only that."""
    hub.faults["GET", FILES] = [503] * 3
    fetched = fetch(tmp_path, hub.endpoint)
    assert "Cannot get org/tiny from the Hub (Server error '503" in fetched.error
    assert [*fetched.cache.rglob("config.json")]
    assert not any("/cdn/" in each for each in hub.requested)


def test_retry_after_is_respected(hub: Hub, files: dict[str, bytes], tmp_path: Path) -> None:
    hub.fault_headers["Retry-After"] = "2"
    hub.faults["GET", CDN] = [429]
    check_whole(fetch(tmp_path, hub.endpoint), files)
    first, second = [r.at for r in hub.requests if r.path.startswith(CDN)][:2]
    assert second - first >= 2  # without the header it would be 1 s


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", API, {"Retry-After": "3600"}),
        ("HEAD", CONFIG_FILE, {"RateLimit": '"api";r=0;t=3600'}),
        ("GET", CDN, {"Retry-After": "3600"}),
        ("GET", CDN, {"RateLimit": '"api";r=0;t=301', "Retry-After": "301"}),
    ],
)
def test_a_retry_after_beyond_the_limit_is_ignored(
    hub: Hub,
    files: dict[str, bytes],
    tmp_path: Path,
    method: str,
    path: str,
    headers: dict[str, str],
) -> None:
    hub.fault_headers.update(headers)
    hub.faults[method, path] = [429]
    check_whole(fetch(tmp_path, hub.endpoint), files)
    assert hub.faults[method, path] == []


def test_a_rate_limit_is_reported(hub: Hub, tmp_path: Path) -> None:
    hub.faults["GET", API] = [429] * 3
    fetched = fetch(tmp_path, hub.endpoint)
    assert re.search(r"\(.*429 Too Many Requests.*\); try again in five minutes, or", fetched.error)
    assert fetched.code == 3


def test_a_cached_model_is_not_downloaded_again(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    """If the Hub is unreachable, there is only a note."""
    first = fetch(tmp_path, hub.endpoint)
    check_whole(first, files)
    before = len(hub.requests)
    again = fetch(tmp_path, hub.endpoint)
    assert again == first
    assert again.lines[1] == "None"
    assert hub.requested[before:] == [f"GET {API}"]
    with refusing_endpoint() as gone:
        offline = fetch(tmp_path, gone)
    assert offline.folder == first.folder
    assert offline.lines[1].startswith(
        f"Using the cached revision {first.folder.name[:8]} of org/tiny, which may be outdated. "
        "Cannot get org/tiny from the Hub ("
    )


def test_an_answer_of_another_server_is_reported(hub: Hub, tmp_path: Path) -> None:
    """For example, a hotel's network may answer every request with its login page."""
    hub.faults["GET", API] = [200]
    fetched = fetch(tmp_path, hub.endpoint)
    assert fetched.error.startswith("Cannot get org/tiny from the Hub (")
    assert fetched.code == 3


def test_no_telemetry_is_sent(tmp_path: Path) -> None:
    """The environment variable is needed for Xet, whose library is written in Rust."""
    code = (
        "import contextlib, os\n"
        "from your_ai.errors import MachineError\n"
        "from your_ai.models import hub\n"
        "with contextlib.suppress(MachineError):\n"
        "    hub.revision('org/tiny')\n"
        "from huggingface_hub import constants\n"
        "print(os.environ['HF_HUB_DISABLE_TELEMETRY'], constants.HF_HUB_DISABLE_TELEMETRY)"
    )
    inherited = {k: v for k, v in os.environ.items() if "TELEMETRY" not in k}
    home = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env={**inherited, **home}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 True\n"


@pytest.mark.root
def test_files_cached_for_another_commit_need_no_disk_space(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    first = fetch(tmp_path, hub.endpoint)
    hub.repositories["org/tiny"].append(Repository({**files, "generation_config.json": b"{}"}))
    with small_disk(tmp_path / "disk", "size=512k") as disk:
        subprocess.run(["cp", "-a", first.cache, disk], check=True)
        assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize < len(files[WEIGHTS])
        second = fetch(tmp_path, hub.endpoint, HF_HOME=str(disk / "hf"))
        assert second.folder.name == hub.repositories["org/tiny"][1].commit
        assert (second.folder / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert sum(each.startswith("GET /cdn/") for each in hub.requested) == 1


@pytest.mark.root
def test_a_small_disk_is_reported_before_the_download(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    large = {**files, "model-2.safetensors": b"x" * 2**20}
    with (
        serve(tiny=Repository(large)) as hub,
        small_disk(tmp_path / "disk", "size=512k") as disk,
    ):
        fetched = fetch(tmp_path, hub.endpoint, HF_HOME=str(disk))
    assert re.search(
        r"org/tiny needs 1\.\d MB of disk space, but .*disk/hub has only 0\.\d MB left\. Free ",
        fetched.error,
    )
    assert fetched.code == 3
    assert not any("/cdn/" in each for each in hub.requested)


@pytest.mark.root
def test_a_disk_that_fills_up_is_reported(files: dict[str, bytes], tmp_path: Path) -> None:
    """The Hub reports a size that is too small, so the check before the download passes."""
    with (
        serve(tiny=Repository(files, listed_as_empty=frozenset({WEIGHTS}))) as hub,
        small_disk(tmp_path / "disk", "size=192k") as disk,
    ):
        quiet = {"PYTHONWARNINGS": "ignore"}  # huggingface_hub only warns
        fetched = fetch(tmp_path, hub.endpoint, HF_HOME=str(disk), **quiet)
    assert "No space left on device" in fetched.error
    assert fetched.code == 3
    assert sum(each.startswith("GET /cdn/") for each in hub.requested) == 1


def test_weights_are_downloaded_last(files: dict[str, bytes], tmp_path: Path) -> None:
    """So a folder with complete weights is complete."""
    more = {**files, "tokenizer.json": b"{}"}
    with serve(tiny=Repository(more, missing=frozenset({WEIGHTS}))) as hub:
        fetched = fetch(tmp_path, hub.endpoint)
    assert fetched.error == f"org/tiny has no {WEIGHTS} on the Hub. Choose another model."
    assert [*fetched.cache.rglob("tokenizer.json")]


def cached(home: Path, sha: str, at: float) -> Path:
    """Create a commit's folder in the cache, with a config downloaded at that time."""
    folder = home / "hf" / "hub" / "models--org--tiny" / "snapshots" / sha
    folder.mkdir(parents=True)
    content = folder.parents[1] / "blobs" / "0"
    content.parent.mkdir(exist_ok=True)
    content.write_text(json.dumps(CONFIG))
    (folder / "config.json").symlink_to("../../blobs/0")
    os.utime(folder / "config.json", (at, at), follow_symlinks=False)
    return folder


A, B = "a" * 40, "b" * 40


def test_the_newest_cached_commit_is_used_offline(tmp_path: Path) -> None:
    cached(tmp_path, A, 1000)
    cached(tmp_path, B, 2000)
    gone = cached(tmp_path, "c" * 40, 3000) / "config.json"
    gone.unlink()
    gone.symlink_to("../../blobs/none")
    fetched = fetch(tmp_path, HF_HUB_OFFLINE="1")
    assert fetched.lines[0] == B
    assert fetched.lines[1].startswith(
        f"Using the cached revision {B[:8]} of org/tiny, which may be outdated. "
        "Cannot get org/tiny from the Hub (HF_HUB_OFFLINE is set)."
    )


def test_a_cached_folder_without_weights_is_not_used_offline(tmp_path: Path) -> None:
    cached(tmp_path, A, 1000)
    fetched = fetch(tmp_path, HF_HUB_OFFLINE="1")
    assert fetched.error.startswith("Cannot get org/tiny from the Hub (HF_HUB_OFFLINE is set); ")
    assert fetched.error.endswith(
        "The cache lacks the weights of org/tiny; with a connection to the Hub, "
        f"`hf download org/tiny --revision {A}` gets them."
    )
    assert fetched.code == 3


def test_a_cached_folder_with_missing_shards_is_not_used_offline(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    """Even without an index, the name of a shard shows that there is another one."""
    folder = cached(tmp_path, A, 1000)
    (folder / "model-00001-of-00002.safetensors").write_bytes(files[WEIGHTS])
    error = fetch(tmp_path, HF_HUB_OFFLINE="1").error
    assert "HF_HUB_OFFLINE is set" in error
    assert "The cache lacks some of the weights of org/tiny; " in error
    (folder / "model-00002-of-00002.safetensors").write_bytes(files[WEIGHTS])
    assert fetch(tmp_path, HF_HUB_OFFLINE="1").folder == folder


def test_a_signal_interrupts_a_download(hub: Hub, tmp_path: Path) -> None:
    """It does not wait for a timeout of the Hub, and no partial file remains."""
    hub.faults["GET", CDN] = [STALLED] * 10
    arguments = ["benchmark", "--model", "org/tiny", "--weights", "real", *PLAIN]
    with subprocess.Popen(
        at_a_terminal(*arguments, "--run-dir", str(tmp_path / "run")),
        env=environment(tmp_path, **settings(hub.endpoint, HF_HUB_DOWNLOAD_TIMEOUT="60")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        wait_for(lambda: any("/cdn/" in each for each in hub.requested), "the download")
        began = time.monotonic()
        parent.send_signal(signal.SIGINT)
        out, err = parent.communicate(timeout=60)
    assert time.monotonic() - began < 8
    assert (parent.returncode, err) == (130, "")
    assert "– Interrupted" in out
    assert sum("/cdn/" in each for each in hub.requested) == 1
    assert not [*tmp_path.rglob("*.incomplete")]


def test_a_tokenizer_is_downloaded_without_weights(files: dict[str, bytes], tmp_path: Path) -> None:
    tokenizer = {
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b"{}",
        "chat_template.jinja": b"",
    }
    more = {"README.md": b"", "modeling_tiny.py": b"", "model.safetensors.index.json": b"{}"}
    with serve(tiny=Repository({**files, **tokenizer, **more})) as hub:
        folder = fetch(tmp_path, hub.endpoint, TOKENIZER).folder
        before = len(hub.requests)
        assert fetch(tmp_path, hub.endpoint, TOKENIZER).folder == folder
        repeated = hub.requested[before:]
    assert {file.name for file in folder.iterdir()} == {"config.json", *tokenizer}
    assert not any(name in request for request in repeated for name in tokenizer)
