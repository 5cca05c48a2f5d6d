"""A real worker and clients that send or read slowly, or too much: they hold up nobody."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.server.archives import wheel
from tests.server.patience import within
from tests.server.worker_process import PATIENT, Home, new_home, upload_form

pytestmark = pytest.mark.e2e

MANY = 20
NOISE = os.urandom(100_000)
BIG = "big-1.0.zip"
SHORT = """
from ppctl.server import connection, heads
heads.HEAD_SECONDS = connection.WINDOW_SECONDS = 1.0
"""


@pytest.fixture
def home() -> Iterator[Home]:
    """An index with one worker of two threads, which waits for clients as long as it takes."""
    with new_home(threads=2, changes=PATIENT) as home:
        (home.packages / BIG).write_bytes(os.urandom(1 << 20) * 10)
        home.start()
        yield home


@pytest.fixture
def impatient() -> Iterator[Home]:
    """The same, and the worker waits for a second only."""
    with new_home(threads=2, changes=SHORT) as home:
        (home.packages / BIG).write_bytes(os.urandom(1 << 20) * 10)
        home.start()
        yield home


def connect(home: Home, data: bytes) -> socket.socket:
    """Connect with a small receive buffer, and send `data`."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(60)
    made.connect(("127.0.0.1", home.port))
    made.sendall(data)
    return made


def upload(number: int) -> bytes:
    content_type, body = upload_form(*wheel("foo", f"{number}.0", content=NOISE))
    head = (
        f"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def answer(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


REQUEST = b"GET /simple/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
DOWNLOAD = f"GET /packages/{BIG} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("whole", "sent"),
    [
        (lambda number: REQUEST, 30),
        (upload, 1000),
        (lambda number: upload(number).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n", 1), 300),
        (lambda number: DOWNLOAD, len(DOWNLOAD)),
    ],
    ids=["heads", "uploads", "uploads that ask first", "downloads"],
)
def test_many_slow_clients_hold_up_nobody_and_are_served(
    home: Home, whole: Callable[[int], bytes], sent: int
) -> None:
    """pypiserver#554, #286. Far more of them than threads."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(home, whole(number)[:sent])) for number in range(MANY)]
        time.sleep(0.5)
        for _ in range(5):
            assert home.get("/simple/").status == 200
        for number, client in enumerate(clients):
            client.sendall(whole(number)[sent:])
        answers = [answer(client) for client in clients]
    assert all(b" 200 " in found for found in answers)
    if sent == len(DOWNLOAD):
        content = (home.packages / BIG).read_bytes()
        assert all(found.endswith(content) for found in answers)


NO_MORE_THREADS = """
import os, threading
start = threading.Thread.start
def limited(thread):
    if os.path.exists(os.environ["PPCTL_HOME"] + "/no-more"):
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = limited
"""


def test_where_no_more_threads_can_be_had_those_that_are_there_serve() -> None:
    """The limit of a container, or of a user; Python tells of it when a request is given to the threads."""
    with new_home(threads=2, changes=PATIENT + NO_MORE_THREADS) as home, contextlib.ExitStack() as stack:
        (home.packages / BIG).write_bytes(bytes(10 << 20))
        process = home.start().describe()["process"]
        (home.path / "no-more").touch()
        clients = [stack.enter_context(connect(home, DOWNLOAD)) for _ in range(MANY)]
        assert clients[0].recv(1000).startswith(b"HTTP/1.1 200 ")
        for client in clients:
            assert len(answer(client)) > 9 << 20
        assert home.workers[0].describe()["process"] == process


def trickle(client: socket.socket, data: bytes) -> bytes:
    """Send `data` byte by byte until the server has closed; returns what it answered."""
    with contextlib.suppress(ConnectionError, BrokenPipeError):
        for byte in data:
            client.sendall(bytes([byte]))
            time.sleep(0.05)
            with contextlib.suppress(BlockingIOError):
                return client.recv(1000, socket.MSG_DONTWAIT)
        raise AssertionError("the server did not close")
    return b""


def test_who_trickles_a_head_is_given_up(impatient: Home) -> None:
    for before in (b"", b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n"):
        with connect(impatient, before) as client:
            found = b""
            while before and not found.endswith(b"\r\n\r\n"):
                found += client.recv(1000)
            assert trickle(client, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200) == b""


def test_who_trickles_an_upload_is_given_up_and_told_so(impatient: Home) -> None:
    data = upload(1)
    with connect(impatient, data[:1000]) as client:
        assert trickle(client, data[1000:5000]).startswith(b"HTTP/1.1 408 ")
    assert within(2, lambda: impatient.stored() == [BIG])
    assert "Traceback" not in impatient.workers[0].log.read_text()


def test_who_does_not_read_is_given_up(impatient: Home) -> None:
    with connect(impatient, DOWNLOAD) as client:
        impatient.log(f"GET /packages/{BIG}")
        found = 0
        with contextlib.suppress(ConnectionResetError):
            found = len(answer(client))
        assert found < os.path.getsize(impatient.packages / BIG)
    assert "Traceback" not in impatient.workers[0].log.read_text()


def test_who_is_slow_but_moves_is_served() -> None:
    """Four seconds for an upload, where three are waited for a byte: on a busy machine some are late."""
    changes = "from ppctl.server import connection as c; c.WINDOW_SECONDS, c.LEAST_BYTES = 3.0, 1"
    data = upload(1)
    with new_home(threads=2, changes=changes) as home:
        home.start()
        with connect(home, b"") as client:
            for start in range(0, len(data), 10_000):
                client.sendall(data[start : start + 10_000])
                time.sleep(0.4)
            assert answer(client).startswith(b"HTTP/1.1 200 ")


def test_idle_connections_make_room() -> None:
    """Twenty may be open at once, and hundreds are tried: half sent, or kept alive."""
    with new_home(changes="import ppctl.server.gunicorn_conf as c; c.worker_connections = 20") as home:
        home.start()
        with contextlib.ExitStack() as stack:
            for number in range(200):
                data = REQUEST.replace(b"Connection: close\r\n", b"") if number % 2 else b"GET"
                stack.enter_context(connect(home, data))
            assert home.get("/simple/").status == 200
            process = home.workers[0].describe()["process"]
            assert len(os.listdir(f"/proc/{process}/fd")) < 100
        assert home.upload(*wheel("foo", "1.0")).status == 200


def test_who_has_just_sent_a_request_makes_no_room() -> None:
    """The worker hears of it in the same round of its loop as of the connection that needs the room."""
    changes = f"{PATIENT}\nc.worker_connections = 4"
    with new_home(threads=2, changes=changes) as home, contextlib.ExitStack() as stack:
        (home.packages / BIG).write_bytes(bytes(10 << 20))
        process = home.start().describe()["process"]
        assert within(5, lambda: "#sha256=" in home.get("/simple/big/").text)
        assert home.get("/simple/").status == 200  # from now on answered in the loop
        idle = REQUEST.replace(b"GET", b"HEAD").replace(b"Connection: close\r\n", b"")
        clients = [stack.enter_context(connect(home, sent)) for sent in (DOWNLOAD, DOWNLOAD, idle, idle)]
        for client in clients:
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        os.kill(process, signal.SIGSTOP)
        assert within(1, lambda: ") T " in Path(f"/proc/{process}/stat").read_text())
        late = stack.enter_context(connect(home, REQUEST))
        clients[2].sendall(REQUEST)
        os.kill(process, signal.SIGCONT)
        assert answer(late).startswith(b"HTTP/1.1 200 ")
        assert answer(clients[2]).startswith(b"HTTP/1.1 200 ")
        assert clients[3].recv(1) == b""  # it was idle
        assert home.workers[0].describe()["process"] == process


def test_an_idle_connection_is_closed_after_a_while() -> None:
    with new_home(changes="import ppctl.server.gunicorn_conf as c; c.keepalive = 1") as home:
        home.start()
        kept = REQUEST.replace(b"Connection: close\r\n", b"")
        # Both at once: between two of them a busy machine may take longer than that.
        with connect(home, kept * 2) as client:
            assert answer(client).count(b"HTTP/1.1 200 OK") == 2


# --- limits


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 303),
        (b"GET /" + b"a" * 8200 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /" + b"a" * 8200, 414),
        (b"GET /" + b"a" * 100_000, 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 8000 + b"\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 8200 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 99 + b"\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100_000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: %b\r\n" % (b"y" * 4000) * 17, 431),
    ],
)
def test_heads_have_limits(shared: Home, request_: bytes, status: int) -> None:
    with contextlib.closing(connect(shared, b"")) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(request_)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100).startswith(b"HTTP/1.1 %d " % status)


def test_several_requests_at_once_are_answered_in_turn(shared: Home) -> None:
    kept = REQUEST.replace(b"Connection: close\r\n", b"")
    with contextlib.closing(connect(shared, kept * 3 + REQUEST[:20])) as client:
        client.sendall(REQUEST[20:])
        assert answer(client).count(b"HTTP/1.1 200 OK") == 4


@pytest.fixture(scope="module")
def shared() -> Iterator[Home]:
    with new_home() as home:
        home.start()
        yield home
