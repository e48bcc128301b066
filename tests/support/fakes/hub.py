"""A Hugging Face Hub on 127.0.0.1: as much of its API as huggingface_hub 2 asks for a model.

Config files come from the hub itself, weights by a redirect from a second origin, as from its CDN.
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
    """One request as it arrived, at a time in seconds.

    ``client`` is the command line of the process that sent it.
    """

    method: str
    path: str
    authorization: str | None
    client: tuple[str, ...]
    at: float


@dataclass
class Repository:
    """A model: the files that it lists, of which those in ``lost`` cannot be had.

    Those in ``understated`` are listed as empty.
    ``refused`` is the status and the error code that everything of it is answered with.
    """

    files: Mapping[str, bytes]
    lost: frozenset[str] = frozenset()
    understated: frozenset[str] = frozenset()
    refused: tuple[int, str] | None = None

    @property
    def commit(self) -> str:
        content = [(name, _etag(content)) for name, content in sorted(self.files.items())]
        return hashlib.sha1(json.dumps(content).encode()).hexdigest()


@dataclass
class Hub:
    """What is served, what was asked for, and the faults still to come.

    ``faults`` are statuses, by method and beginning of the path: each is answered once, in turn,
    with the headers in ``with_faults``. In place of a status is what comes after half of the right
    answer: its end (`TRUNCATED`), the connection's (`RESET`), or nothing more (`STALLED`).
    A model's main branch is at the last of its repositories; ``moves`` are those that it moves to,
    one after each config that was sent.
    """

    repositories: dict[str, list[Repository]] = field(default_factory=dict)
    moves: dict[str, list[Repository]] = field(default_factory=dict)
    with_faults: dict[str, str] = field(default_factory=dict)
    faults: dict[tuple[str, str], list[int | str]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    endpoint: str = ""
    cdn: str = ""

    @property
    def asked(self) -> list[str]:
        """Method and path of every request."""
        return [f"{request.method} {request.path}" for request in self.requests]

    def find(self, model: str, revision: str | None) -> Repository | None:
        """The model at that commit, or at its main branch."""
        commits = self.repositories.get(model, [])
        at = [one for one in commits if one.commit == revision]
        return (at or commits)[-1] if at or (revision in (None, "main") and commits) else None

    def fault(self, method: str, path: str) -> int | str | None:
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
        # Another name is another origin, which gets no token.
        hub.cdn = f"http://localhost:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """An endpoint that refuses every connection, and no one else can listen on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """An endpoint that takes every connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that keeps its connection open must not hold up the end


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    ends: str | None = None  # what comes after half of the answer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
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
            return self._send(fault, b"out of order", self.hub.with_faults)
        self.ends = fault
        for pattern, answer in ((_API, self._api), (_FILE, self._resolve), (_CDN, self._content)):
            match = pattern.fullmatch(path)
            if match is None:
                continue
            repository = self.hub.find(match["model"], match["revision"])
            if repository is None:
                return self._refuse(404, "RepoNotFound", "Repository not found")
            if repository.refused is not None:
                return self._refuse(*repository.refused, "Access is restricted")
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
                    "size": 0 if name in repository.understated else len(content),
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
        if content is None or match["file"] in repository.lost:
            return self._refuse(404, "EntryNotFound", "Entry not found", commit)
        if match["file"] == "config.json" and self.command == "GET":
            moves = self.hub.moves.get(match["model"])
            self.hub.repositories[match["model"]] += [moves.pop(0)] if moves else []
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
        said = {"X-Error-Code": code, "X-Error-Message": message}
        named = {name: value for name, value in said.items() if value}
        self._send(status, b"", {**(headers or {}), **named})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if self.ends else content)
        if self.ends == STALLED:
            self.rfile.read(1)  # until the client gives up
        if self.ends == RESET:
            # Closed at once, with what was not acknowledged thrown away (socket(7): SO_LINGER).
            at_once = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            os.close(self.connection.detach())
        self.close_connection = self.ends is not None


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _client(port: int) -> tuple[str, ...]:
    """The command line of the descendant of ours whose connection to the server has that port."""
    for process in psutil.Process(os.getpid()).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if any(c.laddr[1:] == (port,) for c in process.net_connections("tcp")):
                return tuple(process.cmdline())
    print(f"no process has the port {port}", file=sys.stderr)
    return ()
