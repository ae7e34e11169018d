"""A model hub on loopback: the few endpoints that huggingface_hub asks for, with faults to order."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = (".bin", ".safetensors", ".pth")


@dataclass
class StubHub:
    """Repositories by name (each a folder), and what shall go wrong.

    Attributes:
        repositories: folder of each "ORG/REPO".
        refuse: files that are answered with status 500.
        cut: files whose connection is closed half-way.
        corrupt: files of the right length with other bytes.
        gated: repositories whose files are refused until their terms are accepted.
        asked: every path that was asked for.
    """

    repositories: dict[str, Path]
    refuse: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    corrupt: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    address: str = ""


@contextmanager
def serve(repositories: dict[str, Path]) -> Iterator[StubHub]:
    """Serve the folders until the context ends."""
    state = StubHub(repositories)

    class Handler(_Handler):
        hub = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: StubHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0].strip("/")
        self.hub.asked.append(path)
        parts = path.split("/")
        if parts[:2] == ["api", "models"]:
            self._describe("/".join(parts[2:4]), body)
        elif len(parts) > 4 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), "/".join(parts[4:]), body)
        else:
            self._send(404, b"", {})

    def _describe(self, repo: str, body: bool) -> None:
        folder = self.hub.repositories.get(repo)
        if folder is None:
            self._send(404, b"{}" if body else b"", {"X-Error-Code": "RepoNotFound"})
            return
        siblings = [_sibling(folder, file) for file in sorted(folder.rglob("*")) if file.is_file()]
        answer = {"id": repo, "modelId": repo, "sha": COMMIT, "private": False, "tags": [], "downloads": 0}
        answer |= {"cardData": {"license": "mit"}, "siblings": siblings}
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}, body=body)

    def _file(self, repo: str, name: str, body: bool) -> None:
        path = self.hub.repositories.get(repo, Path("/nowhere")) / name
        if repo in self.hub.gated:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif name in self.hub.refuse:
            self._send(500, b"", {})
        elif not path.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            content = path.read_bytes()
            etag = hashlib.sha256(content).hexdigest() if path.suffix in _LARGE else git_blob(content)
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if name in self.hub.corrupt:
                content = bytes(len(content))
            self._send(200, content, headers, body=body, cut=name in self.hub.cut)

    def _send(
        self, status: int, content: bytes, headers: dict[str, str], *, body: bool = True, cut: bool = False
    ) -> None:
        start = 0
        asked = self.headers.get("Range", "")
        if status == 200 and asked.startswith("bytes="):
            start = int(asked.removeprefix("bytes=").split("-")[0])
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        rest = content[start:]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if body and cut:
            self.wfile.write(rest[: len(rest) // 2])
            self.close_connection = True
        elif body:
            self.wfile.write(rest)


def git_blob(content: bytes) -> str:
    """git's name of a content, which is what the hub states for small files."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def _sibling(folder: Path, file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    entry: dict[str, Any] = {"rfilename": file.relative_to(folder).as_posix(), "size": len(content)}
    entry["blobId"] = git_blob(content)
    if file.suffix in _LARGE:
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
    return entry
