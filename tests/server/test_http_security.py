"""Requests that mean harm, sent byte by byte to a real worker: escapes, forged lines, smuggled requests."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ppctl.server.marks import FILE_NAME, Marks, serialise
from tests.server.archives import wheel
from tests.server.patience import within
from tests.server.worker_process import Home, basic_auth, new_home

pytestmark = pytest.mark.e2e

WHEEL, CONTENT = wheel("foo", "1.0")
EVIL = "<img src=x onerror=alert(1)>&\"'-1.0.zip"
FORGED = "<script>forged</script>"


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """An index with a secret beside its packages, and names that would like to be HTML."""
    with new_home() as home:
        (home.packages / WHEEL).write_bytes(CONTENT)
        (home.packages / EVIL).write_bytes(b"evil")
        home.htpasswd.write_text("secret:secret\n")
        outside = home.path / "outside"
        outside.mkdir()
        (outside / "linked-1.0.zip").write_bytes(b"outside")
        (home.packages / "directory").symlink_to(outside)
        (home.packages / ".hidden").mkdir()
        (home.packages / ".hidden" / "hidden-1.0.zip").write_bytes(b"hidden")
        (home.packages / FILE_NAME).write_bytes(
            serialise({"foo": Marks("archived", f'{FORGED}"', {"1.0": f'{FORGED}"'})})
        )
        home.start()
        for _ in range(2):  # what is at hand is answered by another path through the worker
            for path in ("/", "/simple/", "/simple/foo/", "/packages/", f"/packages/{WHEEL}"):
                home.get(path)
        yield home


def send(home: Home, data: bytes) -> bytes:
    """Send `data`, say that no more comes, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", home.port), timeout=60) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        found = b""
        while True:
            try:
                more = client.recv(65536)
            except ConnectionResetError:
                return found
            if not more:
                return found
            found += more


def get(path: str, *headers: str, host: str = "index.example.com") -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def answers(found: bytes) -> list[int]:
    """Return the status of each answer."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", found)]


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def head(answer: bytes) -> str:
    return answer.partition(b"\r\n\r\n")[0].decode("latin-1")


# --- paths


ESCAPES = [
    "../htpasswd",
    "../../../../etc/passwd",
    "%2e%2e/htpasswd",
    "%2e%2e%2fhtpasswd",
    "%252e%252e%252fhtpasswd",
    "..%2fhtpasswd",
    "..\\htpasswd",
    "..%5chtpasswd",
    "%c0%ae%c0%ae/htpasswd",
    "%u002e%u002e/htpasswd",
    "....//htpasswd",
    "..;/htpasswd",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "//etc/passwd",
    "directory/linked-1.0.zip",
    "directory/../directory/linked-1.0.zip",
    "%2e/directory/linked-1.0.zip",
    ".hidden/hidden-1.0.zip",
    ".ppctl-marks.json",
    ".ppctl-names",
    f"{WHEEL}/../../htpasswd",
    f"{WHEEL}%00.zip",
    "%00",
    "../htpasswd%00-1.0.zip",
    "..%00/htpasswd",
    "../htpasswd.metadata",
    "",
    "%",
    "%zz",
    "%ff%fe-1.0.zip",
    "a" * 5000,
    "/".join("a" * 200 for _ in range(30)) + "-1.0.zip",
]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("before", ["/packages/", "/simple/", "/", "//packages/"])
def test_nothing_outside_the_packages_is_served(home: Home, before: str, path: str) -> None:
    answer = send(home, get(before + path))
    body = answer.partition(b"\r\n\r\n")[2]
    assert b"secret" not in answer
    assert b"root:" not in answer
    assert body not in (b"outside", b"hidden")
    if before == "/packages/" and path:
        assert status(answer) == 404
    assert status(answer) < 500


def test_a_linked_file_is_served_a_linked_directory_is_not(home: Home) -> None:
    """As pypiserver does. Only who can write to the disk can make links; an upload cannot."""
    link = home.packages / "link-1.0.zip"
    link.symlink_to(home.path / "outside" / "linked-1.0.zip")
    assert home.get("/packages/link-1.0.zip").body == b"outside"
    assert within(1, lambda: "link" in home.get("/simple/").text)
    assert "linked" not in home.get("/simple/").text


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example.com/",
        "/%2f%2fevil.example.com/",
        "/%5cevil.example.com/",
        "//evil.example.com/Foo",
        "//evil.example.com/simple/Foo/",
        "http://evil.example.com/simple/Foo/",
        "/simple//evil.example.com/",
    ],
)
def test_redirects_stay_here(home: Home, path: str) -> None:
    for line in head(send(home, get(path))).splitlines():
        if line.startswith("Location:"):
            assert line.startswith(("Location: http://index.example.com/", "Location: /simple/"))


# --- headers and lines


@pytest.mark.parametrize(
    "path",
    [
        "/foo%0d%0aX-Evil:%20yes",
        "/simple/Foo%0d%0aX-Evil:%20yes/",
        "/simple/foo%0d%0aX-Evil:%20yes/",
        "/Foo%0aX-Evil:%20yes/json",
        "/packages/foo%0d%0aX-Evil:%20yes-1.0.zip",
        "/simple/?format=a%0d%0aX-Evil:%20yes",
    ],
)
def test_no_header_can_be_added_to_an_answer(home: Home, path: str) -> None:
    answer = send(home, get(path))
    assert not [line for line in head(answer).splitlines() if line.startswith("X-Evil")]
    assert len(answers(answer)) == 1


@pytest.mark.parametrize("host", ["a b", "a/b", 'a"', "<script>", "user@evil.example.com", "a:b"])
def test_a_host_that_is_none_is_refused(home: Home, host: str) -> None:
    for path in ("/", "/simple/", "/simple/foo/", "/simple/Foo/", f"/packages/{WHEEL}"):
        assert status(send(home, get(path, host=host))) == 400


def test_a_request_names_one_host(home: Home) -> None:
    assert status(send(home, b"GET /simple/ HTTP/1.1\r\n\r\n")) == 400
    assert status(send(home, b"GET /simple/ HTTP/1.0\r\n\r\n")) == 200
    assert status(send(home, get("/simple/", "Host: other"))) == 400


def test_nobody_writes_lines_into_the_log(home: Home) -> None:
    forged = "%0aFORGED%20127.0.0.1%0d%1b[31m%c2%9b"
    login = basic_auth("a\nFORGED \x1b[31m", "x")
    for path in (
        f"/simple/{forged}/",
        f"/{forged}",
        f"/packages/{forged}-1.0.zip",
        "/simple/",
        "/simple/foo/",
    ):
        send(home, get(path, f"Authorization: {login}", 'User-Agent: a\x9bFORGED"x'))
        send(home, get(f"/{forged} \x1bFORGED", f"X{forged}: \x1bFORGED"))
    log = home.workers[0].log.read_text()
    assert "FORGED" in log
    assert not [line for line in log.splitlines() if line.startswith("FORGED")]
    assert all(line.isprintable() for line in log.splitlines())


# --- HTML


class Tags(HTMLParser):
    """The tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_names_and_reasons_are_no_html(home: Home) -> None:
    project = "/simple/%3Cimg%20src=x%20onerror=alert(1)%3E&%22'/"
    seen = ""
    for path in ("/", "/simple/", "/packages/", "/simple/foo/", project, f"/simple/{FORGED}/", f"/{FORGED}"):
        answer = home.get(path.replace(" ", "%20"))
        seen += answer.text
        if "html" in answer.headers.get("Content-Type", ""):
            page = Tags(answer.text)
            assert not page.found & {"img", "script"}, path
            assert not {name for name in page.attributes if name.startswith("on")}
    assert "onerror" in seen
    assert "forged" in seen


@pytest.mark.parametrize("kind", ["text/html", "application/vnd.pypi.simple.v1+html"])
def test_a_proxy_s_prefix_is_no_html(home: Home, kind: str) -> None:
    """X-Forwarded-Host comes from a trusted proxy, but perhaps it only passes it on."""
    for prefix in ('a/"><script>', "a/<script>", "a/'\"onload=x"):
        answer = send(home, get("/simple/foo/", f"X-Forwarded-Host: {prefix}", f"Accept: {kind}"))
        assert b"<script" not in answer
        assert b'"onload' not in answer


# --- one connection, one meaning


AFTER = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: xchunked\r\nContent-Length: 3\r\n\r\nabc",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
        POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        POST + b"Content-Length: 3\r\nContent-Length: 30\r\n\r\nabc",
        *[
            POST + b"Content-Length: " + length + b"\r\n\r\nabc"
            for length in (b"3, 3", b"+3", b"-3", b"0x3", b"3_0", b"\xb2", b"3.0", b"3 0", b"", b"9" * 5000)
        ],
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /health HTTP/1.1\nHost: x\n\n",
        b"GET /health HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: y\r\n folded\r\n\r\n",
        b"GET /health HTTP/1.1\r\n Host: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX y: a\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n: a\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1 x\r\nHost: x\r\n\r\n",
        b"GET  /health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET\t/health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"get /health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /he alth HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(home: Home, request_: bytes) -> None:
    """And what follows on the connection is not taken for a request."""
    answer = send(home, request_ + AFTER)
    assert len(answers(answer)) == 1
    assert 400 <= status(answer) <= 501


@pytest.mark.parametrize(
    "body",
    [
        b"3\nabc\n0\n\n",
        b"-1\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"3;a\nb\r\nabc\r\n0\r\n\r\n",
        b"3 \nabc\r\n0\r\n\r\n",
        b"3\r\nabcX0\r\n\r\n",
        b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n",
        b"3\r\nabc\r\n0\r\nX y: z\r\n\r\n",
        b"ffffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_after_a_broken_body_nothing_is_taken_for_a_request(home: Home, body: bytes) -> None:
    answer = send(home, CHUNKED + body + AFTER)
    assert len(answers(answer)) == 1
    assert 400 <= status(answer) < 500


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: %d\r\n\r\n" % len(AFTER) + AFTER,
        AFTER[:-2] + b"Content-Length: %d\r\n\r\n" % len(AFTER) + AFTER,
        CHUNKED + b"%x\r\n" % len(AFTER) + AFTER + b"\r\n0\r\n\r\n",
        CHUNKED + b'3;a=b;c="d"\r\nabc\r\n0\r\n\r\n',
        CHUNKED + b"3\r\nabc\r\n0\r\nX-Trailer: y\r\n\r\n",
        POST + b"Transfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        POST + b"Transfer-Encoding:\tchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"\r\n" + AFTER,
    ],
)
def test_a_body_is_no_request_and_what_follows_is_one(home: Home, request_: bytes) -> None:
    found = answers(send(home, request_ + AFTER))
    assert len(found) == 2
    assert found[-1] == 200


def test_nobody_speaks_of_another_environment(home: Home) -> None:
    """gunicorn could be told the path's prefix and more by such headers."""
    for name in ("SCRIPT_NAME", "PATH_INFO", "REMOTE_USER", "Script-Name", "X-Script-Name"):
        answer = send(home, get("/simple/foo/", f"{name}: /evil"))
        assert status(answer) == 200
        assert b"/evil" not in answer


def test_the_directory_is_as_it_was(home: Home) -> None:
    """After all that; the last test of this file."""
    names = [name for name in os.listdir(home.packages) if "upload" in name]
    assert names == []
    assert home.get(f"/packages/{WHEEL}").body == CONTENT
    assert "Traceback" not in home.workers[0].log.read_text()
    assert Path(home.path / "outside").is_dir()
