"""A stand-in for another index: pages and files over HTTP; it notes every request and can be stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

from tests.conftest import pick_port

JSON = "application/vnd.pypi.simple.v1+json"


@dataclass
class StandIn:
    """What it serves, how it misbehaves, and what it was asked for."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    metadata: dict[str, bytes] = field(default_factory=dict)
    only_html: bool = False
    with_etag: bool = True
    status: int = 200
    gate: threading.Event | None = None
    slow_block: Callable[[], object] | None = None
    lie: bool = False
    login: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = field(default_factory=pick_port)  # kept while it is stopped
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/simple/"

    def add(self, project: str, name: str, content: bytes, metadata: bytes | None = None) -> None:
        self.files.setdefault(project, {})[name] = content
        if metadata is not None:
            self.metadata[name] = metadata

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"index": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
        self._server = None

    def page(self, project: str) -> bytes:
        files = [self._file(project, name) for name in self.files[project]]
        versions = sorted({name.split("-")[1] for name in self.files[project]})
        page = {"meta": {"api-version": "1.1"}, "name": project, "versions": versions, "files": files}
        return json.dumps({**page, **self.extra}).encode()

    def html(self, project: str) -> bytes:
        links = []
        for name in self.files[project]:
            file = self._file(project, name)
            more = (
                f' data-core-metadata="sha256={file["core-metadata"]["sha256"]}"'
                if "core-metadata" in file
                else ""
            )
            url = f"{file['url']}#sha256={file['hashes']['sha256']}"
            links.append(
                f'<a href="{escape(url)}" data-requires-python="&gt;=3.8"{more}>{escape(name)}</a><br>'
            )
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()

    def _file(self, project: str, name: str) -> dict[str, Any]:
        content = self.files[project][name]
        found: dict[str, Any] = {
            "filename": name,
            "url": f"../../files/{project}/{quote(name)}",
            "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
            "size": len(content),
            "requires-python": ">=3.8",
            "upload-time": "2024-01-02T03:04:05.678901Z",
        }
        if name in self.metadata:
            found["core-metadata"] = {"sha256": hashlib.sha256(self.metadata[name]).hexdigest()}
        return found


class _Handler(BaseHTTPRequestHandler):
    index: StandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        index = self.index
        if index._server is None:
            self.close_connection = True  # a connection that was kept open
            return
        index.asked.append(self.path)
        if index.gate:
            index.gate.wait(5)  # the cache program waits for nine seconds
        if index.login and self.headers.get("Authorization") != index.login:
            self._send(401, b"who are you?")
        elif index.status != 200:
            self._send(index.status, b"not today")
        else:
            self._serve(unquote(self.path).strip("/").split("/"))

    do_HEAD = do_GET

    def _serve(self, parts: list[str]) -> None:
        index = self.index
        if parts == ["simple"] and index.only_html:
            links = "".join(f'<a href="{quote(name)}/">{escape(name)}</a>\n' for name in index.files)
            self._send(200, f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html")
        elif parts == ["simple"]:
            names = [{"name": name} for name in index.files]
            self._send(200, json.dumps({"meta": {"api-version": "1.0"}, "projects": names}).encode(), JSON)
        elif parts[0] == "simple" and len(parts) == 2 and parts[1] in index.files:
            is_json = not index.only_html and "json" in self.headers.get("Accept", "")
            page = index.page(parts[1]) if is_json else index.html(parts[1])
            self._send(200, page, JSON if is_json else "text/html")
        elif parts[0] == "files" and len(parts) == 3:
            name = parts[2]
            content = index.files.get(parts[1], {}).get(name)
            if content is None and name.endswith(".metadata"):
                content = index.metadata.get(name.removesuffix(".metadata"))
            if content is None:
                self._send(404, b"no such file")
            else:
                self._send(200, content[:-1] + b"!" if index.lie else content, "application/octet-stream")
        else:
            self._send(404, b"no such page")

    def _send(self, status: int, content: bytes, kind: str = "text/plain") -> None:
        index = self.index
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        if index.with_etag and status == 200 and self.headers.get("If-None-Match") == etag:
            status, content = 304, b""
        self.send_response(status)
        if index.with_etag:
            self.send_header("ETag", etag)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            if self.command == "HEAD":
                return
            half = len(content) // 2
            self.wfile.write(content[:half])
            if index.slow_block and self.path.startswith("/files/"):
                self.wfile.flush()
                index.slow_block()
            self.wfile.write(content[half:])

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def stand_in(**how: Any) -> Iterator[StandIn]:
    """Give a running one."""
    index = StandIn(**how)
    index.start()
    try:
        yield index
    finally:
        index.stop()
