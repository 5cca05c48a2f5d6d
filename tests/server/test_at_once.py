"""What is answered in the worker's event loop, without a thread: the same bytes, and nobody is held up.

That it is answered there is seen when the only thread is busy: then everything else has to wait.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import select
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from hypothesis import given
from hypothesis import strategies as st

from ppctl.server import heads, moment, permissions, quick, store
from ppctl.server.access_log import AccessLog
from ppctl.server.answers import Answer
from ppctl.server.catalogue import Catalogue
from ppctl.server.changes import Entry
from ppctl.server.remembered import Allowed
from ppctl.server.scan import Stamp
from tests.server.archives import wheel
from tests.server.entered import enter
from tests.server.patience import within
from tests.server.worker_process import PATIENT, Home, basic_auth, new_home

SECRET = "very-secret-word"
NAME, WHEEL = wheel("foo", "1.0", "Requires-Python: >=3.8")
PAGE = "/simple/foo/"
CATALOGUE = f"catalogue-{store.VERSION}.db"
FILE = f"/packages/{NAME}"
DATE = re.compile(rb"\r\nDate: [^\r]+")


@pytest.fixture
def home() -> Iterator[Home]:
    """An index with one worker of one thread, where nothing needs a login."""
    with new_home(threads=1, changes=PATIENT) as home:
        (home.packages / NAME).write_bytes(WHEEL)
        home.start()
        assert within(10, lambda: b"#sha256=" in home.get(PAGE).body)
        yield home


@pytest.fixture
def guarded() -> Iterator[Home]:
    """The same, where everything needs a login."""
    with new_home(threads=1, login=["list", "download", "upload"], changes=PATIENT) as home:
        home.htpasswd.write_text(f"a:{SECRET}\n")
        time.sleep(1.1)  # until the file has settled, it is read for each request
        (home.packages / NAME).write_bytes(WHEEL)
        home.start()
        assert within(10, lambda: b"#sha256=" in home.get(PAGE, login=("a", SECRET)).body)
        yield home


class Client:
    """A connection that stays open, and is read as bytes."""

    def __init__(self, home: Home) -> None:
        self.socket = socket.create_connection(("127.0.0.1", home.port), timeout=60)

    def send(self, path: str, *fields: str, method: str = "GET") -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *fields, "", ""]
        self.socket.sendall("\r\n".join(lines).encode())

    def ask(self, path: str, *fields: str, method: str = "GET") -> bytes:
        """Send a request; returns the answer's bytes without its date."""
        self.send(path, *fields, method=method)
        return self.answer(method)

    def answer(self, method: str = "GET") -> bytes:
        """Return the next answer's bytes; no byte is taken of what follows it."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            found = self.socket.recv(1)
            assert found, head
            head += found
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        left = int(length[1]) if length and method != "HEAD" else 0
        body = b""
        while len(body) < left:
            found = self.socket.recv(left - len(body))
            assert found, (head, len(body))
            body += found
        return DATE.sub(b"", head) + body


@contextlib.contextmanager
def busy(home: Home, **more: Any) -> Iterator[None]:
    """Occupy the only thread with an upload that waits for the catalogue."""
    name, content = wheel("busy", f"1.{time.monotonic_ns()}")
    with (
        contextlib.closing(sqlite3.connect(home.path / "run" / CATALOGUE, isolation_level=None)) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        other.execute("BEGIN IMMEDIATE")
        upload = pool.submit(lambda: home.upload(name, content, **more).status)
        try:
            assert within(5, lambda: name in os.listdir(home.packages))
            yield
        finally:
            other.execute("ROLLBACK")
        assert upload.result() == 200


def is_answered(client: Client, seconds: float = 60) -> bool:
    return bool(select.select([client.socket], [], [], seconds)[0])


def wait_for_the_loop(idle: list[Client]) -> None:
    """Return when the event loop has looked at what came before: what it refuses itself comes after that."""
    for _ in range(2):
        client = idle.pop()
        client.socket.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * heads.MOST_HEAD_BYTES)
        assert client.answer().startswith(b"HTTP/1.1 431 ")


# --- the same as from a thread

SAME = [
    ("GET", PAGE, []),
    ("HEAD", PAGE, []),
    ("GET", PAGE, ["Accept: application/vnd.pypi.simple.v1+json", "Accept-Encoding: gzip"]),
    ("GET", PAGE, ["Accept: application/vnd.pypi.simple.v1+html"]),
    ("GET", PAGE, ["Accept: image/png"]),
    ("GET", PAGE, ["If-None-Match: *"]),
    ("HEAD", PAGE, ["If-None-Match: *"]),
    ("GET", PAGE, ['If-None-Match: "another"']),
    ("GET", PAGE, ["Connection: keep-alive"]),
    ("GET", PAGE, ["User-Agent:", "X-Unknown: 1"]),
    ("GET", "/simple/", ["Accept-Encoding: gzip;q=0"]),
    ("GET", FILE, []),
    ("HEAD", FILE, []),
    ("GET", FILE, ["Range: bytes=2-5"]),
    ("GET", FILE, ["Range: bytes=999999-"]),
    ("GET", FILE, ["If-Modified-Since: Wed, 25 Nov 2099 00:00:00 GMT"]),
    ("GET", f"{FILE}.metadata", []),
    ("GET", f"{FILE}.metadata", ["Accept-Encoding: gzip"]),
    ("GET", f"{FILE}.metadata", ["If-None-Match: *"]),
]


@pytest.mark.e2e
def test_the_answer_is_the_same_as_from_a_thread(home: Home) -> None:
    expected = []
    for method, path, fields in SAME:
        home.request(method, path)  # now it is at hand
        home.request(method, path, headers=dict(field.split(": ", 1) for field in fields if ": " in field))
        expected.append(Client(home).ask(path, *fields, "TE: trailers", method=method))
    client = Client(home)
    client.ask(PAGE)
    with busy(home):
        for (method, path, fields), from_thread in zip(SAME, expected, strict=True):
            client.send(path, *fields, method=method)
            assert is_answered(client), (method, path, fields)
            assert client.answer(method) == from_thread, (method, path, fields)


@pytest.mark.e2e
def test_what_is_not_at_hand_waits_for_a_thread(home: Home) -> None:
    (home.packages / "bar-1.0.tar.gz").write_bytes(os.urandom(200_000))
    assert within(10, lambda: b"#sha256=" in home.get("/simple/bar/").body)
    paths = (
        "/packages/bar-1.0.tar.gz",  # large
        "/packages/",
        "/simple/unknown/",
        "/simple/Foo/",
        "/simple/foo/?format=html",
        "/simple/f%6fo/",
        "/health",
        "/",
    )
    # All of them before, for none is accepted while the thread is busy.
    clients, idle = [Client(home) for _ in paths], [Client(home) for _ in range(2)]
    for client in (*clients, *idle):
        client.ask(PAGE)
    with busy(home):
        for client, path in zip(clients, paths, strict=True):
            client.send(path)
        wait_for_the_loop(idle)
        assert not [path for client, path in zip(clients, paths, strict=True) if is_answered(client, 0)]
    for client, path in zip(clients, paths, strict=True):
        assert client.answer().startswith(b"HTTP/1.1 "), path


@pytest.mark.e2e
def test_an_upload_counts_at_once(home: Home) -> None:
    """Also for pages that the event loop has at hand."""
    client = Client(home)
    for number in range(2, 6):
        client.ask(PAGE)
        client.ask(PAGE)
        name, content = wheel("foo", f"{number}.0")
        assert home.upload(name, content).status == 200
        assert name.encode() in client.ask(PAGE)
        (home.packages / name).unlink()
        assert within(2, lambda name=name: name.encode() not in client.ask(PAGE))  # type: ignore[misc]
        assert client.ask(f"/packages/{name}").startswith(b"HTTP/1.1 404 ")


SLOW = """
import time
from ppctl.server import pages
def slow(environ, *args, usual=pages.answer, **more):
    time.sleep(float(environ.get("HTTP_X_SECONDS", 0)))
    return usual(environ, *args, **more)
pages.answer = slow
"""


@pytest.mark.e2e
def test_a_connection_that_is_accepted_late_in_a_round_gets_what_was_stored_meanwhile() -> None:
    """It is accepted in a round that began before its request was sent, and that has looked already."""
    with new_home(changes=PATIENT + SLOW) as home:
        home.start()
        assert home.upload(NAME, WHEEL).status == 200
        clients = [Client(home), Client(home)]
        assert all(within(5, lambda c=client: b" 200 " in c.ask(PAGE)) for client in clients)  # type: ignore[misc]
        time.sleep(0.2)
        clients[0].send(PAGE, "X-Seconds: 0.5")  # occupies the loop until the others are there
        time.sleep(0.1)
        clients[1].send(PAGE, "X-Seconds: 1")  # looks at once, and then takes its time
        late = Client(home)
        time.sleep(0.9)
        name, content = wheel("foo", "2.0")
        (home.packages / name).write_bytes(content)
        enter(Catalogue(home.path / "run", home.packages), [Entry(name, Stamp(1, 2, 3), "00" * 32)])
        assert name.encode() in late.ask(PAGE)


# --- logins


@pytest.mark.e2e
def test_only_a_known_login_is_answered_at_once(guarded: Home) -> None:
    right, wrong = (f"Authorization: {basic_auth('a', word)}" for word in (SECRET, "wrong"))
    clients, idle = [Client(guarded) for _ in range(5)], [Client(guarded) for _ in range(4)]
    for client in (*clients, *idle):
        for path in (PAGE, PAGE, FILE, FILE):
            assert client.ask(path, right).startswith(b"HTTP/1.1 200 ")
    with busy(guarded, login=("a", SECRET)):
        for client, fields, status in zip(clients, ([right], [right], []), (200, 200, 401), strict=False):
            for path in (PAGE, FILE):
                client.send(path, *fields)
                assert is_answered(client), (path, fields)
                assert client.answer().startswith(b"HTTP/1.1 %d " % status)
        clients[3].send(PAGE, wrong)
        wait_for_the_loop(idle)
        assert not is_answered(clients[3], 0)
        # Whoever has a login loses it at once with the file's next change.
        guarded.htpasswd.write_text("a:another\n")
        clients[4].send(PAGE, right)
        wait_for_the_loop(idle)
        assert not is_answered(clients[4], 0)
    for client in clients[3:]:
        assert client.answer().startswith(b"HTTP/1.1 401 ")


@pytest.mark.e2e
def test_rights_that_are_taken_away_are_gone_in_the_next_request(guarded: Home) -> None:
    login = f"Authorization: {basic_auth('a', SECRET)}"
    client = Client(guarded)
    for _ in range(3):
        assert client.ask(PAGE, login).startswith(b"HTTP/1.1 200 ")
    file = guarded.path / "permissions.json"
    for read, status in [(False, 403), (True, 200), (False, 403)]:
        rights = permissions.Rights(read=read)
        file.with_suffix(".new").write_bytes(permissions.serialise(permissions.Permissions({"a": rights})))
        file.with_suffix(".new").rename(file)
        for _ in range(3):
            assert client.ask(PAGE, login).startswith(b"HTTP/1.1 %d " % status)
    file.unlink()
    for _ in range(3):
        assert client.ask(PAGE, login).startswith(b"HTTP/1.1 200 ")


def test_what_was_allowed_is_forgotten_with_any_change_and_soon() -> None:
    now = [0.0]
    allowed = Allowed(clock=lambda: now[0])
    basis, somebody = object(), permissions.Identity("a")
    assert allowed.get("Basic x", "list", basis) is None
    allowed.add("Basic x", "list", somebody)
    assert allowed.get("Basic x", "list", basis) is somebody
    assert allowed.get("Basic x", "download", basis) is None
    assert allowed.get("Basic y", "list", basis) is None
    now[0] = 6.0
    assert allowed.get("Basic x", "list", basis) is None
    allowed.add("Basic x", "list", somebody)
    assert allowed.get("Basic x", "list", object()) is None
    assert allowed.get("Basic x", "list", basis) is None
    for number in range(10_000):
        allowed.get("", "list", basis)
        allowed.add(str(number), "list", somebody)
    assert len(allowed._known) < 1000


# --- connections


@pytest.mark.e2e
def test_requests_that_come_together_or_in_pieces(home: Home) -> None:
    client = Client(home)
    client.ask(PAGE)
    alone = client.ask(PAGE)
    for _ in range(3):
        client.send(PAGE)
        client.send(FILE)
        client.send(PAGE)
        assert client.answer() == alone
        assert client.answer().endswith(WHEEL)
        assert client.answer() == alone
    for byte in f"GET {PAGE} HTTP/1.1\r\nHost: x\r\n\r\n".encode():
        client.socket.sendall(bytes([byte]))
    assert client.answer() == alone


@pytest.mark.e2e
def test_a_head_in_pieces_occupies_no_thread(home: Home) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", home.port)))
            slow.sendall(b"POST / HTTP/1.1\r\nHost:")
        assert home.get("/health").status == 200


@pytest.mark.e2e
def test_close_means_close(home: Home) -> None:
    clients = [Client(home), Client(home)]
    for client in clients:
        client.ask(PAGE)
    with busy(home):
        for client, path in zip(clients, (PAGE, FILE), strict=True):
            assert b"\r\nConnection: close\r\n" in client.ask(path, "Connection: close")
            assert client.socket.recv(1) == b""


@pytest.mark.e2e
def test_a_stopping_worker_says_so_in_its_last_answer(home: Home) -> None:
    clients = [Client(home) for _ in range(3)]
    for client in clients:
        client.ask(PAGE)
        assert b"\r\nConnection: keep-alive\r\n" in client.ask(PAGE)
    home.workers[0].stop()
    assert within(5, lambda: not is_listening(home))
    for client in clients:
        assert b"\r\nConnection: close\r\n" in client.ask(PAGE)
    assert home.workers[0].wait() == 0


def is_listening(home: Home) -> bool:
    try:
        home.workers[0].get("/health")
    except (OSError, http.client.HTTPException):
        return False
    return True


@pytest.mark.e2e
def test_a_slow_reader_holds_up_nobody() -> None:
    with new_home(threads=2, changes=PATIENT) as home:
        for number in range(3000):
            (home.packages / f"project{number}-{'x' * 200}-1.0.tar.gz").touch()
        home.start()
        assert within(10, lambda: Client(home).ask("/simple/") == Client(home).ask("/simple/"))
        whole = Client(home).ask("/simple/")
        assert len(whole) > 1_000_000
        for _ in range(2):
            slow = Client(home)
            slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
            for _ in range(2):
                slow.send("/simple/")
                for _ in range(5):
                    assert Client(home).ask("/simple/").startswith(b"HTTP/1.1 200 ")
                assert home.get("/health").status == 200
                assert slow.answer() == whole
        slow.send("/simple/")
        slow.socket.close()
        assert Client(home).ask("/simple/") == whole


@pytest.mark.e2e
def test_the_log_has_the_same_lines(guarded: Home) -> None:
    fields = [f"Authorization: {basic_auth('a', SECRET)}", 'User-Agent: pip/"26.3" {"ci":null}']
    client = Client(guarded)
    for more in ([], [], ["TE: trailers"]):
        client.ask(PAGE, *fields, *more)
    log = guarded.workers[0].log

    def lines() -> list[str]:
        found = [line for line in log.read_text().splitlines() if "pip/" in line]
        return [re.sub(r"\[.*\]|\d+ms", "", line) for line in found]

    assert within(5, lambda: len(lines()) == 3)
    assert len(set(lines())) == 1, lines()
    assert lines()[0].startswith('127.0.0.1 - a "GET /simple/foo/') or " a " in lines()[0]
    assert SECRET not in log.read_text()


# --- reading requests

PLAIN = b"GET /simple/foo/ HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"


def test_a_plain_request_is_understood() -> None:
    assert quick.read(PLAIN, "192.0.2.1") == {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/simple/foo/",
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "HTTP_HOST": "x",
        "HTTP_ACCEPT": "*/*",
    }


@pytest.mark.parametrize(
    "head",
    [
        b"",
        PLAIN + b"x",
        PLAIN + PLAIN,
        PLAIN.replace(b"GET", b"POST"),
        PLAIN.replace(b"GET", b"get"),
        PLAIN.replace(b"1.1", b"1.0"),
        PLAIN.replace(b"\r\n", b"\n"),
        PLAIN.replace(b"Host", b"Hosts"),
        PLAIN.replace(b"Accept", b"Host"),
        PLAIN.replace(b"Accept:", b"Accept :"),
        PLAIN.replace(b"Accept", b"Content-Length"),
        PLAIN.replace(b"Accept", b"Transfer-Encoding"),
        PLAIN.replace(b"Accept: */*", b"Expect: 100-continue"),
        PLAIN.replace(b"Accept: */*", b"Connection: upgrade"),
        PLAIN.replace(b"Accept: */*", b"X:1\r\n 2"),
        PLAIN.replace(b"Accept: */*", b"X: \xe4"),
        PLAIN.replace(b"Accept: */*", b"X: \0"),
        PLAIN.replace(b"/simple/", b"//simple/"),
        PLAIN.replace(b"/simple/", b"http://x/simple/"),
        PLAIN.replace(b"foo", b"f%6fo"),
        PLAIN.replace(b"foo/", b"foo/?a"),
        PLAIN.replace(b"foo/", b"foo/#a"),
        PLAIN.replace(b"Accept: */*", b"X: " + b"x" * 9000),
        PLAIN.replace(b"Accept: */*", b"\r\n".join([b"X: 1"] * 60)),
    ],
)
def test_whatever_is_not_plain_is_gunicorns(head: bytes) -> None:
    assert quick.read(head, "192.0.2.1") is None


FIELD = st.tuples(
    st.sampled_from(
        ["Host", "Accept", "If-None-Match", "X-A", "x_b", "Content-Length", "Connection", "TE", ":"]
    ),
    st.sampled_from([":", ": ", ":\t", " :", ""]),
    st.one_of(st.text(max_size=8), st.sampled_from(["x", "0", "1", "close", "keep-alive", "chunked", "*"])),
    st.sampled_from(["\r\n", "\r\n", "\r\n", "\n", "\r", " \r\n", "\r\n "]),
)


@given(
    st.sampled_from(["GET", "HEAD", "POST", "Get", ""]),
    st.one_of(st.sampled_from(["/simple/foo/", "/", "//x", "/a/../b", "*"]), st.text(max_size=8)),
    st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.1 "]),
    st.lists(FIELD, max_size=5),
)
def test_what_is_understood_gunicorn_understands_alike(
    method: str, path: str, version: str, fields: list[tuple[str, ...]]
) -> None:
    """And it has no body: nothing could be smuggled in."""
    text = f"{method} {path} {version}\r\nHost: x\r\n" + "".join("".join(field) for field in fields) + "\r\n"
    head = text.encode("utf-8", "surrogatepass")
    environ = quick.read(head, "192.0.2.1")
    if environ is None:
        return
    try:
        parser = RequestParser(Config(), iter([head]), ("192.0.2.1", 1))
        found = next(parser)
    except ParseException as e:
        raise AssertionError(f"gunicorn refuses {head!r}: {e!r}") from e
    assert found.method == environ["REQUEST_METHOD"]
    assert (found.path, found.query) == (environ["PATH_INFO"], "")
    assert found.body.read() == b""
    assert parser.unreader.buf.getvalue() == b""
    assert found.should_close() is not quick.keeps_alive(environ)
    theirs = {f"HTTP_{name.replace('-', '_')}": value for name, value in found.headers}
    assert all(theirs[name] == value for name, value in environ.items() if name.startswith("HTTP_"))


def test_a_head_is_written_as_gunicorn_writes_it() -> None:
    head = quick.Writer().head(Answer("200 OK", [("ETag", '"x"')], []), keep=True)
    assert DATE.sub(b"", head) == (
        b'HTTP/1.1 200 OK\r\nServer: gunicorn\r\nConnection: keep-alive\r\nETag: "x"\r\n\r\n'
    )


# --- the log and the rounds


class Log:
    """Of gunicorn's logger what AccessLog uses."""

    def __init__(self, stream: Any) -> None:
        handler = type("Handler", (), {"stream": stream})
        self.access_log = type("Access", (), {"handlers": [handler]})


def test_a_log_that_nobody_reads_blocks_nobody() -> None:
    reader, writer = os.pipe()
    environ = {"REMOTE_ADDR": "h", "REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_PROTOCOL": "HTTP/1.1"}
    with os.fdopen(reader, "rb") as read, os.fdopen(writer, "wb") as write:
        log = AccessLog(Log(write), "%(m)s %(U)s %(s)s %(u)s" + "x" * 500)
        added = 0
        while not log.is_stuck:
            for _ in range(20):
                log.add(environ, "200 OK", 1)
                added += 1
            log.write()
        found = threading.Thread(target=lambda: log.write(wait=True))
        found.start()
        lines = [read.readline() for _ in range(added)]
        found.join(60)
        assert lines == [b"GET / 200 -" + b"x" * 500 + b"\n"] * added
        assert not log.is_stuck


def test_a_log_whose_reader_is_gone_stops_nobody() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as write:
        os.close(reader)
        log = AccessLog(Log(write), "%(m)s")
        log.add({"REMOTE_ADDR": "", "REQUEST_METHOD": "", "PATH_INFO": "", "SERVER_PROTOCOL": ""}, "200", 1)
        log.write()
        assert not log.is_stuck


def test_a_round_looks_once() -> None:
    looks: list[int] = []
    once = moment.Once(lambda: looks.append(1) or len(looks))
    for number in range(1, 4):
        moment.begin()
        assert [once.get(), once.get()] == [number, number]
