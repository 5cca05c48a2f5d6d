"""A real worker, asked over TCP and over its own socket."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ppctl import __version__
from tests.conftest import is_alive
from tests.server.archives import source
from tests.server.patience import within
from tests.server.worker_process import COMMAND, PATIENT, Home, basic_auth, new_home, upload_form

pytestmark = pytest.mark.e2e

NAME = "foo-1.0.tar.gz"
SECRET = "very-secret-word"


@pytest.fixture
def home() -> Iterator[Home]:
    """An index without logins and one worker."""
    with new_home() as home:
        home.start()
        yield home


@pytest.fixture
def guarded() -> Iterator[Home]:
    """An index where everything needs a login; `a` has one."""
    with new_home(login=["list", "download", "upload"]) as home:
        home.htpasswd.write_text(f"a:{SECRET}\n")
        (home.packages / NAME).write_bytes(b"content")
        home.start()
        yield home


def names(home: Home) -> list[str]:
    return home.stored()


def send_raw(home: Home, data: bytes, *, close: bool = False) -> bytes:
    """Send `data` and return all that comes back; `close`: hang up at once instead."""
    with socket.create_connection(("127.0.0.1", home.port), timeout=60) as connection:
        connection.sendall(data)
        if close:
            return b""
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def post_head(content_type: str, length: int) -> bytes:
    return (
        f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


# --- uploads and downloads


@pytest.mark.parametrize("size", [0, 1, 102_400, 150_000, 50 * 1024 * 1024], ids=str)
def test_what_goes_up_comes_down(home: Home, size: int) -> None:
    """Also above 100 kB, where pypiserver 2.3 failed (pypiserver#630)."""
    content = source(os.urandom(size))
    assert home.upload(NAME, content).status == 200
    page = home.get("/simple/foo/").text
    assert f'href="/packages/{NAME}#sha256={hashlib.sha256(content).hexdigest()}"' in page
    assert home.get(f"/packages/{NAME}").body == content
    assert names(home) == [NAME]


def test_a_part_of_a_file(home: Home) -> None:
    (home.packages / NAME).write_bytes(bytes(range(256)))
    answer = home.get(f"/packages/{NAME}", headers={"Range": "bytes=10-19"})
    assert (answer.status, answer.body) == (206, bytes(range(10, 20)))
    assert home.request("HEAD", f"/packages/{NAME}").headers["Content-Length"] == "256"


def test_a_duplicate_is_refused(home: Home) -> None:
    assert home.upload(NAME, source(b"old")).status == 200
    assert home.upload(NAME, source(b"new")).status == 409
    assert home.upload(NAME, source(b"new"), headers={"User-Agent": "twine/6.2.0"}).status == 400
    assert (home.packages / NAME).read_bytes() == source(b"old")


def test_a_duplicate_replaces_where_that_is_allowed() -> None:
    with new_home(overwrite=True) as home:
        home.start()
        assert home.upload(NAME, source(b"old")).status == 200
        assert home.upload(NAME, source(b"new")).status == 200
        assert home.get(f"/packages/{NAME}").body == source(b"new")


def test_of_uploads_at_once_to_two_workers_one_wins(home: Home) -> None:
    home.start(2)
    start = threading.Barrier(6)
    found: list[int] = []

    def upload(number: int) -> None:
        start.wait()
        found.append(home.upload(NAME, source(b"%d" % number * 500_000)).status)

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200] + [409] * 5
    assert names(home) == [NAME]
    assert (home.packages / NAME).read_bytes() in [source(b"%d" % number * 500_000) for number in range(6)]


def test_an_upload_in_chunks(home: Home) -> None:
    content = source(os.urandom(300_000))
    content_type, body = upload_form(NAME, content)
    connection = http.client.HTTPConnection("127.0.0.1", home.port)
    with contextlib.closing(connection):
        chunks = (body[start : start + 7000] for start in range(0, len(body), 7000))
        connection.request("POST", "/", chunks, {"Content-Type": content_type}, encode_chunked=True)
        assert connection.getresponse().status == 200
    assert (home.packages / NAME).read_bytes() == content


# --- uploads that break off


def test_a_client_that_hangs_up_leaves_nothing(home: Home) -> None:
    content_type, body = upload_form(NAME, source(os.urandom(500_000)))
    send_raw(home, post_head(content_type, len(body)) + body[:300_000], close=True)
    said = home.log(" 400 ")
    assert names(home) == []
    assert "Traceback" not in said
    assert home.upload(NAME, source(b"whole")).status == 200


def test_a_body_shorter_than_announced(home: Home) -> None:
    """Even if what is there is a whole form: the rest may have been a part of it."""
    content_type, body = upload_form(NAME, source(os.urandom(500_000)))
    answer = send_raw(home, post_head(content_type, len(body) + 1) + body)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert names(home) == []


@pytest.mark.parametrize("size", [10, 500_000])
def test_a_form_without_an_end(home: Home, size: int) -> None:
    content_type, body = upload_form(NAME, source(os.urandom(size)))
    cut = body[:-20]
    assert home.request("POST", "/", cut, {"Content-Type": content_type}).status == 400
    assert names(home) == []


def test_chunks_that_break_off(home: Home) -> None:
    content_type, body = upload_form(NAME, source(os.urandom(500_000)))
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n" % (len(body), body)
    for end in (b"", b"10\r\nabc"):
        send_raw(home, head.encode() + chunk + end)
        assert names(home) == []
    assert b" 200 " in send_raw(home, head.encode() + chunk + b"0\r\n\r\n")
    assert names(home) == [NAME]


def test_a_form_of_parts_that_cannot_be_told_apart(home: Home) -> None:
    assert home.request("POST", "/", b"x", {"Content-Type": "multipart/form-data"}).status == 400


def test_what_killed_workers_have_left_goes_at_the_next_start(home: Home) -> None:
    content_type, body = upload_form(NAME, source(os.urandom(500_000)))
    with socket.create_connection(("127.0.0.1", home.port)) as connection:
        connection.sendall(post_head(content_type, len(body)) + body[:300_000])
        assert within(1, lambda: names(home) != [])
        assert NAME not in home.get("/packages/").text
        (leftover,) = home.packages.glob(".ppctl-upload-*")
        home.start(2)
        assert names(home) == [leftover.name]  # its maker lives
        os.kill(home.workers[0].describe()["process"], signal.SIGKILL)
    home.log(str(leftover))
    assert within(1, lambda: names(home) == [])


# --- logins

MALFORMED = [
    "Basic",
    "Basic ",
    "Basic !!!!",
    "Basic YQ==",  # no colon
    "Basic /////w==",  # not UTF-8
    "Basic YTr//w==",  # a:, then not UTF-8
    "Bearer abc",
    "Basic " + "A" * 7000,
    "\xff\xfe",
    basic_auth("a", "x" * 73),
    basic_auth("a", "x\0"),
    basic_auth("\0", "\0"),
    basic_auth("", ""),
    basic_auth("a:b", SECRET),
]


@pytest.mark.parametrize("path", ["/simple/", "/simple/foo/", "/packages/", f"/packages/{NAME}"])
def test_a_page_needs_the_right_login(guarded: Home, path: str) -> None:
    assert guarded.get(path).status == 401
    for header in MALFORMED:
        assert guarded.get(path, headers={"Authorization": header}).status == 401, header
    wrong = guarded.get(path, login=("a", "wrong"))
    assert (wrong.status, wrong.headers["WWW-Authenticate"]) == (401, 'Basic realm="pypi"')
    assert guarded.get(path, login=("a", SECRET)).status == 200
    assert guarded.get("/health").status == 200


def test_an_upload_needs_the_right_login(guarded: Home) -> None:
    assert guarded.upload("bar-1.tar.gz", source(b"x")).status == 401
    assert guarded.upload("bar-1.tar.gz", source(b"x"), login=("a", "wrong")).status == 401
    assert names(guarded) == [NAME]
    assert guarded.upload("bar-1.tar.gz", source(b"x"), login=("a", SECRET)).status == 200
    assert names(guarded) == ["bar-1.tar.gz", NAME]


def test_only_what_is_listed_needs_a_login() -> None:
    with new_home(login=["upload"]) as home:
        home.start()
        assert home.get("/simple/").status == 200
        assert home.upload(NAME, source(b"x")).status == 401


def test_a_refused_upload_is_told_so_while_it_is_still_coming(guarded: Home) -> None:
    """A client that is cut off in the midst reports a broken connection, not a wrong password."""
    content_type, body = upload_form(NAME, source(os.urandom(3_000_000)))
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=60) as connection:
        connection.sendall(post_head(content_type, len(body)))
        for start in range(0, len(body), 100_000):
            connection.sendall(body[start : start + 100_000])
            time.sleep(0.1)  # longer in all than a connection lingers after its last answer
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


def test_a_change_of_the_users_counts_at_once(guarded: Home) -> None:
    guarded.start(2)
    for line, status in [(f"a:!{SECRET}", 401), ("a:other", 401), (f"a:{SECRET}", 200), ("", 401)]:
        for _ in range(3):
            guarded.get("/simple/", login=("a", SECRET))
        guarded.htpasswd.with_suffix(".new").write_text(line + "\n")
        guarded.htpasswd.with_suffix(".new").rename(guarded.htpasswd)
        for _ in range(6):
            assert guarded.get("/simple/", login=("a", SECRET)).status == status


def test_without_a_file_nobody_gets_in(guarded: Home) -> None:
    guarded.htpasswd.unlink()
    assert guarded.get("/simple/", login=("a", SECRET)).status == 401
    assert guarded.get("/simple/", login=("a", SECRET)).status == 401
    assert guarded.log().count("nobody can log in") == 1


def test_no_secret_is_logged(guarded: Home) -> None:
    header = basic_auth("a", SECRET)
    guarded.get(
        f"/simple/?token={SECRET}", headers={"Authorization": header, "Referer": f"http://x/{SECRET}"}
    )
    guarded.upload("bar-1.tar.gz", source(SECRET.encode()), login=("a", SECRET))
    guarded.get("/simple/", login=("a", SECRET + "x"))
    lines = [("GET", "/simple/", 200), ("POST", "/", 200), ("GET", "/simple/", 401)]
    said = guarded.log(*(f'"{method} {path} HTTP/1.1" {status} ' for method, path, status in lines))
    assert SECRET not in said
    assert header.split()[1] not in said


def test_errors_are_plain_text(guarded: Home) -> None:
    """uv shows people the text, twine and pip the reason."""
    wrong = guarded.get("/simple/", login=("a", "wrong"))
    assert wrong.text == "Wrong user name or password\n"
    assert wrong.reason == "Wrong user name or password"
    assert wrong.headers["Content-Type"].startswith("text/plain")
    unknown = guarded.get("/packages/%0d%0aX-Evil:%20%C3%A9", login=("a", SECRET))
    assert (unknown.status, unknown.headers.get_content_type()) == (404, "text/plain")
    assert "X-Evil" not in unknown.headers
    twice = guarded.upload(NAME, source(b"x"), login=("a", SECRET), headers={"User-Agent": "twine/7"})
    assert (twice.status, twice.reason) == (400, f"Package '{NAME}' already exists!")


def test_the_log_names_the_client_in_short(home: Home) -> None:
    home.get("/simple/", headers={"User-Agent": 'pip/26.3 {"ci":null}'})
    home.log('"pip/26.3"')


# --- prefix and proxies


@pytest.fixture
def prefixed() -> Iterator[Home]:
    with new_home(url_prefix="/pypi") as home:
        (home.packages / NAME).write_bytes(b"content")
        home.start()
        yield home


@pytest.mark.parametrize("seen", ["/pypi", ""], ids=["prefix passed on", "prefix stripped"])
def test_links_and_redirects_begin_with_the_prefix(prefixed: Home, seen: str) -> None:
    """pypiserver#155, #703."""
    headers = {"X-Forwarded-Host": "pypi.example.com", "X-Forwarded-Proto": "https"}
    assert f'href="/pypi/packages/{NAME}#' in prefixed.get(f"{seen}/simple/foo/").text
    assert f'href="/pypi/packages/{NAME}#' in prefixed.get(f"{seen}/packages/").text
    assert "/pypi/simple/" in prefixed.get(f"{seen}/").text
    assert prefixed.get(f"{seen}/packages/{NAME}").body == b"content"
    assert prefixed.get(f"{seen}/health").status == 200
    for path in (f"{seen}/simple/Foo/", f"{seen}/foo", f"{seen}/simple/foo"):
        answer = prefixed.get(path, headers=headers)
        assert answer.status in (301, 302, 303)
        assert answer.headers["Location"] == "https://pypi.example.com/pypi/simple/foo/"
    assert prefixed.request("POST", f"{seen}/").status == 400


def test_the_prefix_alone_is_the_welcome_page(prefixed: Home) -> None:
    assert "/pypi/simple/" in prefixed.get("/pypi").text
    assert prefixed.get("/pypifoo").headers["Location"].endswith("/pypi/simple/pypifoo/")


def test_a_stranger_cannot_choose_where_redirects_go() -> None:
    with new_home(trusted_proxies="192.0.2.1") as home:
        home.start()
        for name in ("X-Forwarded-Host", "X-Forwarded-Proto"):
            answer = home.get("/simple", headers={name: "evil.example.com"})
            assert answer.headers["Location"] == f"http://127.0.0.1:{home.port}/simple/"
        home.get("/simple/", headers={"X-Forwarded-For": "203.0.113.9"})
        assert "203.0.113.9" not in home.log('"GET /simple/ ')


def test_behind_a_proxy_the_real_client_is_logged(home: Home) -> None:
    home.get("/simple/", headers={"X-Forwarded-For": "198.51.100.7, 203.0.113.9"})
    home.log("203.0.113.9 - ")


@pytest.mark.parametrize("url", [None, "https://pypi.org/simple/"])
def test_unknown_projects(url: str | None) -> None:
    with new_home(upstream="redirect" if url else "none", upstream_url=url) as home:
        home.start()
        answer = home.get("/simple/unknown/")
        assert answer.status == (302 if url and answer.status != 303 else 303 if url else 404)
        assert answer.headers["Location"] == (f"{url}unknown/" if url else None)


# --- the worker's own socket


def test_a_worker_says_who_it_is_on_its_own_socket_only(home: Home) -> None:
    found = home.workers[0].describe()
    assert found["pid"] == home.workers[0].process.pid
    assert os.getsid(found["process"]) == found["pid"]
    assert 0 <= time.time() - found["started"] < 600
    assert {key: found[key] for key in ("worker", "generation", "unit", "release", "ppctl")} == {
        "worker": 1,
        "generation": "g1",
        "unit": "u1",
        "release": "r1",
        "ppctl": __version__,
    }
    assert found["versions"]["pypiserver"] == "2.4.2"
    for path in ("/_ppctl/worker", "/_ppctl/worker/", "//_ppctl/worker"):
        answer = home.get(path)
        assert b'"pid"' not in answer.body
    assert home.get("/_ppctl/worker").status == 404
    assert home.workers[0].get("/simple/").status == 200


def test_the_socket_is_for_the_owner_and_the_group_and_replaces_a_stale_one() -> None:
    with new_home() as home:
        path = home.path / "run" / "worker-1.sock"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        home.start().kill()
        home.start()
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert [name for name in os.listdir(path.parent) if "sock" in name] == [path.name]


def test_a_busy_worker_still_answers_its_manager() -> None:
    """Slow uploads in every thread, and silent connections besides (pypiserver#286, #554)."""
    with new_home(threads=2, changes=PATIENT) as home, contextlib.ExitStack() as stack:
        worker = home.start(1)
        content_type, body = upload_form(NAME, source(os.urandom(500_000)))
        for _ in range(2):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", home.port)))
            slow.sendall(post_head(content_type, len(body)) + body[:300_000])
        assert within(1, lambda: len(names(home)) == 2)  # both are being received
        assert worker.get("/health").status == 200
        # The full worker leaves new connections to the other one.
        home.start(2)
        for _ in range(5):
            assert home.get("/health").status == 200
        assert len(names(home)) == 2


def test_silent_connections_occupy_nobody() -> None:
    with new_home(threads=2, changes=PATIENT) as home, contextlib.ExitStack() as stack:
        home.start()
        for _ in range(50):
            stack.enter_context(socket.create_connection(("127.0.0.1", home.port)))
        assert home.get("/health").status == 200


def test_a_client_that_does_not_close_holds_up_nobody() -> None:
    """It is answered while they are waited for."""
    with (
        new_home(changes="from ppctl.server import partings; partings.SECONDS = 600.0") as home,
        contextlib.ExitStack() as stack,
    ):
        descriptors = Path(f"/proc/{home.start().describe()['process']}/fd")
        for _ in range(10):
            rude = stack.enter_context(socket.create_connection(("127.0.0.1", home.port)))
            rude.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert rude.recv(100).startswith(b"HTTP/1.1 200")
        assert home.get("/health").status == 200
        held = len(os.listdir(descriptors))
        stack.close()
        assert within(1, lambda: len(os.listdir(descriptors)) <= held - 10), "they were not waited for"


# --- starting and stopping


def test_the_process_that_serves_is_replaced_at_once_when_it_is_killed(home: Home) -> None:
    before = home.workers[0].describe()
    os.kill(before["process"], signal.SIGKILL)

    def is_back() -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return bool(home.workers[0].describe()["process"] != before["process"])
        return False

    assert within(1, is_back)


def test_without_its_arbiter_a_process_ends(home: Home) -> None:
    found = home.workers[0].describe()
    os.kill(found["pid"], signal.SIGKILL)
    home.workers[0].wait()
    assert within(1, lambda: not is_alive(found["process"]))


def test_without_its_arbiter_a_process_lets_go_of_the_port_and_ends_its_transfers(home: Home) -> None:
    """Else the manager, whose workers were all killed, could not open it anew."""
    content = bytes(50_000_000)
    (home.packages / NAME).write_bytes(content)
    found = home.workers[0].describe()
    with socket.create_connection(("127.0.0.1", home.port)) as slow:
        slow.sendall(f"GET /packages/{NAME} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        received = slow.recv(1000)
        assert listens(found["process"], home.port)
        os.kill(found["pid"], signal.SIGKILL)
        assert within(1, lambda: not listens(found["process"], home.port))
        while more := slow.recv(1 << 20):
            received += more
    assert received.endswith(content)


def test_a_start_whose_manager_ends_meanwhile_ends_too() -> None:
    """In system mode; or it would hold the port for ever, and a new supervisord would not start at all."""
    hold = "import os, time\nwhile os.path.exists(os.environ['HOLD']): time.sleep(0.01)"
    with new_home(changes=hold) as home:
        holding, log = home.path / "hold", home.path / "log"
        holding.touch()
        environment = {"PPCTL_HOME": str(home.path), "PPCTL_WORKER": "1", "PPCTL_ENDS_WITH_MANAGER": "1"}
        # A shell would give what is in the background no standard input, but for this one.
        script = 'exec 3<&0; PPCTL_MANAGER=$$ "$@" <&3 >log 2>&1 & echo $!'
        started = subprocess.run(
            ["/bin/sh", "-c", script, "manager", *home.command],
            stdin=home.listener,
            capture_output=True,
            text=True,
            env={**environment, "HOLD": str(holding)},
            cwd=home.path,
            check=True,
        )
        pid = int(started.stdout)
        try:
            assert is_alive(pid)
            holding.unlink()
            assert within(2, lambda: not is_alive(pid)), log.read_text()
            assert "the manager has ended" in log.read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def listens(pid: int, port: int) -> bool:
    """Return whether a process holds a listening socket with this port."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {
        f"socket:[{line[9]}]" for line in lines if line[3] == "0A" and line[1].endswith(f":{port:04X}")
    }
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has just been closed
            found.add(os.readlink(path))
    return bool(listening & found)


def test_the_environment_changes_no_setting() -> None:
    """gunicorn reads these."""
    environment = {"SCRIPT_NAME": "/x", "WEB_CONCURRENCY": "3", "SENDFILE": "0", "FORWARDED_ALLOW_IPS": "*"}
    with new_home(environment=environment, trusted_proxies="192.0.2.1") as home:
        (home.packages / NAME).write_bytes(b"content")
        worker = home.start()
        assert f'href="/packages/{NAME}#' in home.get("/simple/foo/").text
        assert worker.log.read_text().count("Booting worker") == 1
        location = home.get("/simple", headers={"X-Forwarded-Proto": "https"}).headers["Location"]
        assert location.startswith("http://")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "PPCTL_HOME"),
        ({"PPCTL_HOME": "/nonexistent", "PPCTL_WORKER": "1"}, "/nonexistent/server.json: No such file"),
        ({"PPCTL_HOME": "/x", "PPCTL_WORKER": "1", "GUNICORN_CMD_ARGS": "--threads=1"}, "GUNICORN_CMD_ARGS"),
    ],
)
def test_a_start_that_cannot_work_says_why(environment: dict[str, str], message: str) -> None:
    assert message in failed_start(environment)


def test_a_start_without_a_socket_says_why() -> None:
    with new_home() as home:
        said = failed_start({"PPCTL_HOME": str(home.path), "PPCTL_WORKER": "1"})
    assert "not a listening socket" in said


def test_a_start_without_a_place_for_the_own_socket_says_why() -> None:
    with new_home() as home:
        (home.path / "run").rmdir()
        environment = {"PPCTL_HOME": str(home.path), "PPCTL_WORKER": "1"}
        said = failed_start(environment, home.listener)
        assert f"{home.path}/run: cannot make the socket of worker 1" in said


def failed_start(environment: dict[str, str], stdin: socket.socket | int = subprocess.DEVNULL) -> str:
    """Start a worker that ends at once; return what it says."""
    done = subprocess.run(
        COMMAND, env=environment, stdin=stdin, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr
