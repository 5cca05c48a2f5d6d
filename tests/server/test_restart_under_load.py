"""Workers are stopped and started one after the other, under load, and nothing is lost.

The clients never retry, as some of the real ones do: a lost request is seen.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.server.archives import source
from tests.server.patience import within
from tests.server.worker_process import PATIENT, Home, Worker, new_home, upload_form

pytestmark = pytest.mark.e2e

RESTARTS = 6
BIG = 50 * 1024 * 1024
CHUNKS = 50


class Load:
    """Clients that run until told to stop, each in a thread; what went wrong is in `failures`."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.done: Counter[str] = Counter()
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, name: str, client: Callable[[], None]) -> None:
        def loop() -> None:
            while not self._stop.is_set():
                try:
                    client()
                    self.done[name] += 1
                except Exception as e:
                    self.failures.append(f"{name}: {type(e).__name__}: {e}")

        thread = threading.Thread(target=loop, name=name)
        thread.start()
        self._threads.append(thread)

    def finish(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.home.port, timeout=60)


def check(response: http.client.HTTPResponse) -> bytes:
    body = response.read()
    assert response.status == 200, response.status
    return body


def new_connection_client(load: Load) -> Callable[[], None]:
    def client() -> None:
        with contextlib.closing(load.connection()) as connection:
            connection.request("GET", "/simple/foo/")
            assert b"foo-1.0.tar.gz" in check(connection.getresponse())
        time.sleep(0.005)

    return client


def kept_alive_client(load: Load, pause: float) -> Callable[[], None]:
    """One connection for as long as the server lets it live; http.client opens another one only after the
    server has announced `Connection: close`."""
    connection = load.connection()

    def client() -> None:
        try:
            connection.request("GET", "/simple/foo/")
            assert b"foo-1.0.tar.gz" in check(connection.getresponse())
        except BaseException:
            connection.close()
            raise
        time.sleep(pause)

    return client


def download_client(load: Load, digest: str) -> Callable[[], None]:
    def client() -> None:
        with contextlib.closing(load.connection()) as connection:
            connection.request("GET", "/packages/big-1.0.tar.gz")
            response = connection.getresponse()
            found = hashlib.sha256()
            while chunk := response.read(BIG // CHUNKS):
                found.update(chunk)
                time.sleep(0.05)
            assert found.hexdigest() == digest

    return client


def upload_client(load: Load, content: bytes, uploaded: list[str]) -> Callable[[], None]:
    def client() -> None:
        name = f"up-{len(uploaded)}.0.tar.gz"
        content_type, body = upload_form(name, content)
        head = (
            f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", load.home.port), timeout=60) as connection:
            connection.sendall(head.encode())
            size = len(body) // CHUNKS + 1
            for start in range(0, len(body), size):
                connection.sendall(body[start : start + size])
                time.sleep(0.05)
            response = http.client.HTTPResponse(connection)
            response.begin()
            check(response)
        uploaded.append(name)

    return client


def test_six_restarts_lose_nothing() -> None:
    content = source(os.urandom(BIG))
    uploaded: list[str] = []
    # A client that comes back late because the machine is busy must not find an idle connection closed.
    with new_home(changes=PATIENT) as home:
        (home.packages / "foo-1.0.tar.gz").write_bytes(b"foo")
        (home.packages / "big-1.0.tar.gz").write_bytes(content)
        workers = [home.start(1), home.start(2)]
        load = Load(home)
        try:
            for number in range(2):
                load.add(f"new {number}", new_connection_client(load))
            # Three seconds: longer than gunicorn lets idle connections live when it stops.
            for number, pause in enumerate([0.002, 0.01, 0.3, 1, *[3] * 8]):
                load.add(f"kept {number}", kept_alive_client(load, pause))
            load.add("download", download_client(load, hashlib.sha256(content).hexdigest()))
            load.add("upload", upload_client(load, content, uploaded))
            time.sleep(1)
            for number in range(RESTARTS):
                which = number % 2
                # Managers signal the arbiter or (supervisor's stopasgroup) its whole process group.
                workers[which].stop(group=number >= RESTARTS // 2)
                assert workers[which].wait() == 0
                workers[which] = home.start(which + 1, generation=f"g{number}")
                time.sleep(0.5)
            assert within(5, lambda: bool(load.failures) or is_enough(load, uploaded))
        finally:
            load.finish()
        print(dict(load.done))
        assert load.failures == []
        for name in uploaded:
            assert (home.packages / name).read_bytes() == content
        stored = [path for path in home.packages.iterdir() if not path.name.startswith(".")]
        assert len(stored) == len(uploaded) + 2


def is_enough(load: Load, uploaded: list[str]) -> bool:
    """Return whether the load was one."""
    return load.done["new 0"] > 100 and load.done["download"] > 2 and len(uploaded) > 2


def test_a_stopped_worker_is_refused_on_its_own_socket_while_it_serves() -> None:
    """A manager that asks a stopping worker must not wait for its transfers to finish."""
    content_type, body = upload_form("foo-1.0.tar.gz", source(os.urandom(500_000)))
    head = (
        f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with new_home(changes=PATIENT) as home:
        worker = home.start(1)
        with socket.create_connection(("127.0.0.1", home.port), timeout=60) as busy:
            busy.sendall(head.encode() + body[:300_000])
            assert within(1, lambda: home.stored() != [])
            worker.stop()
            assert within(1, lambda: refuses(worker))
            assert worker.process.poll() is None
            busy.sendall(body[300_000:])
            assert busy.recv(100).startswith(b"HTTP/1.1 200 ")
        assert worker.wait() == 0


def refuses(worker: Worker) -> bool:
    """Return whether nobody listens on the worker's own socket."""
    try:
        worker.get("/health")
    except ConnectionRefusedError:
        return True
    except (OSError, http.client.HTTPException):  # it was just going
        return False
    return False


def test_a_late_stop_leaves_the_successor_its_socket() -> None:
    with new_home() as home:
        old = home.start(1)
        new = home.start(1, generation="g2")
        old.stop()
        assert old.wait() == 0
        assert new.describe()["generation"] == "g2"
