"""A load of clients that never retry: whoever loses a request, or a byte, is noted with the reason.

Used by the tests of restarts and by the benchmarks.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.server.worker_process import basic_auth, upload_form

TIMEOUT = 60.0
CHUNKS = 50

Login = tuple[str, str]


@dataclass(frozen=True)
class Failure:
    """A request that was lost: when (seconds after the start), whose, and why."""

    at: float
    client: str
    reason: str


@dataclass
class Load:
    """Clients, each in a thread of its own, from `start` to `finish`."""

    address: str
    port: int
    login: Login | None = None
    done: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """How long each small request took."""
    transfers: list[tuple[float, float]] = field(default_factory=list)
    """From when to when (time.monotonic) each transfer went on that was finished."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._began = time.monotonic()

    # -- clients -----------------------------------------------------------------------------------------

    def new_connections(self, path: str, per_second: float, *, clients: int = 2) -> None:
        """Ask for `path` on a connection for each request, `per_second` altogether."""
        for _ in range(clients):

            def once() -> None:
                with contextlib.closing(self._connection()) as connection:
                    self._timed(lambda: self._get(connection, path))

            self._add("new", once, clients / per_second)

    def kept_alive(self, path: str, pauses: list[float]) -> None:
        """Ask for `path` on one connection a client, as long as the server lets it live.

        http.client opens another one only after an answer that has announced `Connection: close`.
        """
        for pause in pauses:
            connection = self._connection()

            def once(connection: http.client.HTTPConnection = connection) -> None:
                try:
                    self._timed(lambda: self._get(connection, path))
                except BaseException:
                    connection.close()
                    raise

            self._add("kept", once, pause)

    def downloads(self, path: str, digest: str, seconds: float) -> None:
        """Download `path` over and over, each time spread over `seconds`, and compare its SHA-256."""

        def once() -> None:
            with contextlib.closing(self._connection()) as connection:
                began = time.monotonic()
                connection.request("GET", path, headers=self._headers())
                response = connection.getresponse()
                expect(response.status)
                size = int(response.headers["Content-Length"])
                found = hashlib.sha256()
                for _ in self._paced(seconds):
                    found.update(response.read(size // CHUNKS + 1))
                found.update(response.read())
                if found.hexdigest() != digest:
                    raise AssertionError("other bytes than were uploaded")
                self.transfers.append((began, time.monotonic()))

        self._add("download", once)

    def uploads(self, content: bytes, seconds: float) -> list[str]:
        """Upload `content` over and over, each time spread over `seconds`; returns the names so far."""
        names: list[str] = []

        def once() -> None:
            name = f"up-{len(names)}.0.tar.gz"
            content_type, body = upload_form(name, content)
            headers = {"Host": "x", "Content-Type": content_type, "Content-Length": str(len(body))}
            lines = [f"{key}: {value}\r\n" for key, value in {**headers, **self._headers()}.items()]
            head = f"POST / HTTP/1.1\r\n{''.join(lines)}\r\n".encode()
            step = len(body) // CHUNKS + 1
            began = time.monotonic()
            with socket.create_connection((self.address, self.port), timeout=TIMEOUT) as connection:
                connection.sendall(head)
                for number in self._paced(seconds):
                    connection.sendall(body[number * step : (number + 1) * step])
                response = http.client.HTTPResponse(connection)
                response.begin()
                response.read()
                expect(response.status)
            names.append(name)
            self.transfers.append((began, time.monotonic()))

        self._add("upload", once)
        return names

    def upload(self, name: str, content: bytes) -> None:
        """Upload one file, now."""
        content_type, body = upload_form(name, content)
        with contextlib.closing(self._connection()) as connection:
            connection.request("POST", "/", body, {"Content-Type": content_type, **self._headers()})
            expect(connection.getresponse().status)

    def run_beside(self, client: str, once: Callable[[], None], pause: float = 0.0) -> None:
        """Call `once` over and over beside the other clients; what it raises is a failure."""
        self._add(client, once, pause)

    # -- from start to finish ----------------------------------------------------------------------------

    def start(self) -> None:
        """Let the clients begin."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Tell the clients to stop after what they are at, and wait for them."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(2 * TIMEOUT)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run the clients for the time of a `with` block."""
        self.start()
        try:
            yield
        finally:
            self.finish()

    def quantile(self, part: float) -> float:
        """Return the time within which `part` of the small requests were answered."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")

    def _add(self, client: str, once: Callable[[], None], pause: float = 0.0) -> None:
        def loop() -> None:
            due = time.monotonic()
            while not self._stop.is_set():
                try:
                    once()
                    self.done[client] += 1
                except Exception as e:
                    at = round(time.monotonic() - self._began, 2)
                    self.failures.append(Failure(at, client, f"{type(e).__name__}: {e}"))
                    self._stop.wait(0.02)  # a refused connection costs nothing: do not spin
                due = max(due + pause, time.monotonic() - pause)
                self._stop.wait(max(0.0, due - time.monotonic()))

        self._threads.append(threading.Thread(target=loop, name=client, daemon=True))

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, self.port, timeout=TIMEOUT)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": basic_auth(*self.login)} if self.login else {}

    def _get(self, connection: http.client.HTTPConnection, path: str) -> None:
        connection.request("GET", path, headers=self._headers())
        response = connection.getresponse()
        response.read()
        expect(response.status)

    def _timed(self, work: Callable[[], None]) -> None:
        began = time.monotonic()
        work()
        self.seconds.append(time.monotonic() - began)

    @staticmethod
    def _paced(seconds: float) -> Iterator[int]:
        """Yield the numbers of the chunks, evenly over `seconds`."""
        began = time.monotonic()
        for number in range(CHUNKS):
            yield number
            time.sleep(max(0.0, began + seconds * (number + 1) / CHUNKS - time.monotonic()))


def expect(status: int) -> None:
    if status != 200:
        raise AssertionError(f"status {status}")
