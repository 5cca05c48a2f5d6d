"""Asking workers: never an exception, whatever answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ppctl.workers import Report, SocketProbe, answers_at

REPORT = {
    **{"worker": 1, "pid": 10, "process": 11, "generation": "g", "unit": "u", "release": "r"},
    **{"started": 1.5, "versions": {"pypiserver": "2.4.2"}, "unknown": "is ignored"},
}


class Server:
    """Answers every request with the same bytes, and keeps what was asked."""

    def __init__(self, listener: socket.socket, answer: Callable[[str], bytes]) -> None:
        self.listener, self.answer, self.asked = listener, answer, []  # type: ignore[var-annotated]
        listener.listen(8)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                path = connection.recv(4096).split(b" ")[1].decode()
                self.asked.append(path)
                connection.sendall(self.answer(path))

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def http(status: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


Serve = Callable[[Callable[[str], bytes]], Path]


@pytest.fixture
def serve(home: Path) -> Iterator[Callable[..., Server]]:
    """A function that answers on a worker's socket, or at a port, with what it is given."""
    home.mkdir()
    made: list[Server] = []

    def start(answer: bytes | Callable[[str], bytes], port: int = 0) -> Server:
        listener = socket.socket() if port else socket.socket(socket.AF_UNIX)
        listener.bind(("127.0.0.1", port) if port else str(home / "worker-1.sock"))
        made.append(Server(listener, answer if callable(answer) else lambda _: answer))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_report(serve: Callable[..., Server], home: Path) -> None:
    server = serve(http(200, json.dumps(REPORT).encode()))
    found = SocketProbe(timeout=60).report(home / "worker-1.sock")
    assert found == Report("1", 10, 11, "g", "u", "r", 1.5, {"pypiserver": "2.4.2"})
    assert server.asked == ["/_ppctl/worker"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        http(500),
        http(404, json.dumps(REPORT).encode()),
        http(200, b"no JSON"),
        http(200, b"[]"),
        http(200, b"{}"),
        http(200, b"null"),
        http(200, json.dumps({**REPORT, "pid": "x"}).encode()),
        http(200, json.dumps({**REPORT, "versions": 3}).encode()),
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
)
def test_no_report(serve: Callable[..., Server], home: Path, answer: bytes) -> None:
    serve(answer)
    assert SocketProbe(timeout=1).report(home / "worker-1.sock") is None


def test_nobody_there(home: Path) -> None:
    home.mkdir()
    probe = SocketProbe()
    assert probe.report(home / "worker-1.sock") is None
    assert probe.serves(home / "worker-1.sock", "").startswith("it does not answer")
    (home / "worker-1.sock").write_text("a file")
    assert probe.report(home / "worker-1.sock") is None
    assert probe.report(home / ("x" * 200)) is None  # too long for a socket
    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(str(home / "worker-2.sock"))
    left_behind.close()
    assert probe.report(home / "worker-2.sock") is None


def test_a_worker_that_hangs(home: Path) -> None:
    home.mkdir()
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(home / "worker-1.sock"))
        hung.listen(1)
        assert SocketProbe(timeout=0.02).report(home / "worker-1.sock") is None
        assert "timed out" in SocketProbe(timeout=0.02).serves(home / "worker-1.sock", "")


@pytest.mark.parametrize(
    ("simple", "problem"),
    [
        (200, ""),
        (401, ""),
        (403, "/x/simple/ answers 403"),
        (404, "/x/simple/ answers 404"),
        (500, "/x/simple/ answers 500"),
    ],
)
def test_serves(serve: Callable[..., Server], home: Path, simple: int, problem: str) -> None:
    server = serve(lambda path: http(200 if path == "/health" else simple))
    assert SocketProbe(timeout=60).serves(home / "worker-1.sock", "/x") == problem
    assert server.asked == ["/health", "/x/simple/"]


@pytest.mark.parametrize(("status", "problem"), [(200, ""), (401, ""), (404, ""), (503, "it answers 503")])
def test_answers_at(serve: Callable[..., Server], free_port: int, status: int, problem: str) -> None:
    serve(http(status), port=free_port)
    for address in ("127.0.0.1", "0.0.0.0"):
        assert answers_at(address, free_port, "/health", timeout=60) == problem


def test_answers_at_nobody(free_port: int, serve: Any) -> None:
    assert "refused" in answers_at("127.0.0.1", free_port, "/health")
    serve(b"nonsense", port=free_port)
    assert answers_at("127.0.0.1", free_port, "/health")
