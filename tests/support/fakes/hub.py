"""A fake Hugging Face Hub on 127.0.0.1, with the part of the API that downloads models.

The fake serves config files itself and redirects requests for weights to a second origin, as the
real Hub redirects them to its CDN.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import psutil

TRUNCATED, RESET, STALLED = "truncated", "reset", "stalled"

_FILE = re.compile(r"/(?P<model>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_API = re.compile(
    r"/api/models/(?P<model>[^/]+/[^/]+)(/(revision|(?P<tree>tree))/(?P<revision>[^/]+))?"
)
_CDN = re.compile(r"/cdn/(?P<revision>[^/]+)/(?P<model>[^/]+/[^/]+)/(?P<file>.+)")


@dataclass(frozen=True)
class Request:
    """A request, received at ``at`` (`time.monotonic`).

    ``client`` is the command line of the process that sent it.
    """

    method: str
    path: str
    authorization: str | None
    client: tuple[str, ...]
    at: float


@dataclass
class Repository:
    """The files of a model at one commit.

    Files in ``missing`` are listed, but requests for them fail. Files in ``listed_as_empty`` are
    listed with size 0. If ``error`` is set, every request fails with this status and error code.
    """

    files: Mapping[str, bytes]
    missing: frozenset[str] = frozenset()
    listed_as_empty: frozenset[str] = frozenset()
    error: tuple[int, str] | None = None

    @property
    def commit(self) -> str:
        content = [(name, _etag(content)) for name, content in sorted(self.files.items())]
        return hashlib.sha1(json.dumps(content).encode()).hexdigest()


@dataclass
class Hub:
    """The models that are served, the requests so far, and the faults to inject.

    ``faults`` maps a method and the beginning of a path to a queue of faults. The next matching
    request gets the first fault of the queue: an HTTP status, sent with ``fault_headers``, or half
    of the content followed by the end of the response (`TRUNCATED`), a reset connection (`RESET`)
    or silence (`STALLED`).

    ``repositories`` has the commits of each model; the last is its main branch. Whenever a config
    has been sent, the first of ``next_commits`` becomes the main branch.
    """

    repositories: dict[str, list[Repository]] = field(default_factory=dict)
    next_commits: dict[str, list[Repository]] = field(default_factory=dict)
    fault_headers: dict[str, str] = field(default_factory=dict)
    faults: dict[tuple[str, str], list[int | str]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    endpoint: str = ""
    cdn: str = ""

    @property
    def requested(self) -> list[str]:
        """Method and path of every request."""
        return [f"{request.method} {request.path}" for request in self.requests]

    def find(self, model: str, revision: str | None) -> Repository | None:
        """Return the model at commit ``revision``, or at its main branch if that is requested."""
        commits = self.repositories.get(model, [])
        found = [each for each in commits if each.commit == revision]
        return (found or commits)[-1] if found or (revision in (None, "main") and commits) else None

    def fault(self, method: str, path: str) -> int | str | None:
        """Remove and return the next fault for this request."""
        for (of_method, start), statuses in self.faults.items():
            if method == of_method and path.startswith(start) and statuses:
                return statuses.pop(0)
        return None


@contextlib.contextmanager
def serve(**repositories: Repository) -> Iterator[Hub]:
    """Serve each repository as ``org/NAME`` until the context ends."""
    hub = Hub({f"org/{name}": [repository] for name, repository in repositories.items()})
    handler = type("Handler", (_Handler,), {"hub": hub})
    with _Server(("127.0.0.1", 0), handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        # Clients send no token here, because a different host name is a different origin.
        hub.cdn = f"http://localhost:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def refusing_endpoint() -> Iterator[str]:
    """Reserve an endpoint that refuses every connection."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextlib.contextmanager
def silent_endpoint() -> Iterator[str]:
    """Open an endpoint that accepts every connection and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # do not wait for clients that keep their connection open


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    broken_off: str | None = None  # TRUNCATED, RESET or STALLED after half of the content
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        authorization = self.headers.get("Authorization")
        client = _client(self.client_address[1])
        self.hub.requests.append(
            Request(self.command, path, authorization, client, time.monotonic())
        )
        fault = self.hub.fault(self.command, path)
        if isinstance(fault, int):
            return self._send(fault, b"out of order", self.hub.fault_headers)
        self.broken_off = fault
        for pattern, answer in ((_API, self._api), (_FILE, self._resolve), (_CDN, self._content)):
            match = pattern.fullmatch(path)
            if match is None:
                continue
            repository = self.hub.find(match["model"], match["revision"])
            if repository is None:
                return self._refuse(404, "RepoNotFound", "Repository not found")
            if repository.error is not None:
                return self._refuse(*repository.error, "Access is restricted")
            return answer(match, repository)
        return self._send(404, b"no such page")

    def _api(self, match: re.Match[str], repository: Repository) -> None:
        tree = [
            {"type": "file", "path": name, "size": len(content), "oid": _etag(content)}
            for name, content in repository.files.items()
        ]
        info: dict[str, object] = {
            "id": match["model"],
            "sha": repository.commit,
            "private": False,
            "tags": [],
            "siblings": [
                {
                    "rfilename": name,
                    "size": 0 if name in repository.listed_as_empty else len(content),
                    "blobId": _etag(content),
                }
                for name, content in repository.files.items()
            ],
        }
        content = json.dumps(info if match["tree"] is None else tree).encode()
        self._send(200, content, {"Content-Type": "application/json"})

    def _resolve(self, match: re.Match[str], repository: Repository) -> None:
        commit = {"X-Repo-Commit": repository.commit}
        content = repository.files.get(match["file"])
        if content is None or match["file"] in repository.missing:
            return self._refuse(404, "EntryNotFound", "Entry not found", commit)
        if match["file"] == "config.json" and self.command == "GET":
            commits = self.hub.next_commits.get(match["model"])
            self.hub.repositories[match["model"]] += [commits.pop(0)] if commits else []
        if not match["file"].endswith(".safetensors"):
            return self._send(200, content, {**commit, "ETag": f'"{_etag(content)}"'})
        linked = {
            "Location": f"{self.hub.cdn}/cdn/{repository.commit}/{match['model']}/{match['file']}",
            "X-Linked-Etag": f'"{_etag(content)}"',
            "X-Linked-Size": str(len(content)),
        }
        return self._send(302, b"", {**commit, **linked})

    def _content(self, match: re.Match[str], repository: Repository) -> None:
        self._send(200, repository.files[match["file"]])

    def _refuse(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        error = {"X-Error-Code": code, "X-Error-Message": message}
        error = {name: value for name, value in error.items() if value}
        self._send(status, b"", {**(headers or {}), **error})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if self.broken_off else content)
        if self.broken_off == STALLED:
            self.rfile.read(1)  # wait until the client gives up
        if self.broken_off == RESET:
            # With a linger time of 0, closing sends a reset (socket(7): SO_LINGER).
            no_linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
            os.close(self.connection.detach())
        self.close_connection = self.broken_off is not None


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _client(port: int) -> tuple[str, ...]:
    """Return the command line of the child process that connects from this local port."""
    for process in psutil.Process(os.getpid()).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if any(c.laddr[1:] == (port,) for c in process.net_connections("tcp")):
                return tuple(process.cmdline())
    print(f"no child process uses port {port}", file=sys.stderr)
    return ()
