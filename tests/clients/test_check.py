"""`ppctl client check` against real servers: stock ones, and small ones that misbehave."""

from __future__ import annotations

import http.server
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import PASSWORD, USER, Ppctl, Server
from tests.conftest import pick_port

pytestmark = pytest.mark.e2e

LOGIN = ("--user", USER, "--password-stdin")


@contextmanager
def answering(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server that does what `answer` says with every request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reply(handler: http.server.BaseHTTPRequestHandler, status: int, body: str = "", **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"content_type": "text/html", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", str(len(body.encode())))
    handler.end_headers()
    handler.wfile.write(body.encode())


def test_everything_works_and_nothing_stays(ppctl: Ppctl, closed_server: Server) -> None:
    assert ppctl("client", "check", "--url", closed_server.url, *LOGIN, stdin=PASSWORD + "\n") == 0
    assert [line.split()[:2] for line in ppctl.out.splitlines()] == [
        ["ok", "list"],
        ["ok", "upload"],
        ["ok", "download"],
        ["ok", "remove"],
    ]
    assert list(closed_server.packages.iterdir()) == []


def test_json(ppctl: Ppctl, open_server: Server) -> None:
    assert ppctl("client", "check", "--url", open_server.url, *LOGIN, "--json", stdin=PASSWORD) == 0
    envelope = json.loads(ppctl.out)
    assert [step["ok"] for step in envelope["result"]["steps"]] == [True] * 4
    assert PASSWORD not in ppctl.out


def test_from_the_home(ppctl: Ppctl, open_server: Server, home: Path) -> None:
    home.mkdir()
    (home / "ppctl.yml").write_text(f"port: {open_server.url.rpartition(':')[2]}\n")
    assert ppctl("client", "check", "-C", str(home)) == 0
    assert "the index is empty" in ppctl.out
    assert "it takes a login" in ppctl.out


def test_without_login_downloads_what_is_there(ppctl: Ppctl, open_server: Server, wheel: Path) -> None:
    shutil.copy(wheel, open_server.packages)
    assert ppctl("client", "check", "--url", open_server.url) == 0
    assert f"{wheel.name}, {wheel.stat().st_size} bytes" in ppctl.out


def test_wrong_password_where_reading_is_open(ppctl: Ppctl, open_server: Server) -> None:
    assert ppctl("client", "check", "--url", open_server.url, *LOGIN, stdin="wrong\n") == 1
    assert "fails  upload    the index refuses ann (HTTP 403 Forbidden)" in ppctl.out
    assert "ppctl passwd ann" in ppctl.out
    assert list(open_server.packages.iterdir()) == []


def test_wrong_password_where_nothing_is_open(ppctl: Ppctl, closed_server: Server) -> None:
    assert ppctl("client", "check", "--url", closed_server.url, *LOGIN, stdin="wrong\n") == 1
    assert "fails  list" in ppctl.out
    assert ppctl.out.count("not tried") == 3


def test_listing_needs_a_login(ppctl: Ppctl, closed_server: Server) -> None:
    assert ppctl("client", "check", "--url", closed_server.url) == 1
    assert "to list needs a login (HTTP 401 Unauthorized)" in ppctl.out
    assert "--user NAME" in ppctl.out


def test_server_is_down(ppctl: Ppctl) -> None:
    assert ppctl("client", "check", "--url", f"http://127.0.0.1:{pick_port()}") == 1
    assert "nothing listens on 127.0.0.1:" in ppctl.out
    assert "ppctl status" in ppctl.out


def test_silence(ppctl: Ppctl) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert ppctl("client", "check", "--url", url, "--timeout", "0.3") == 1
    assert "does not answer within 0.3 s" in ppctl.out


def test_no_tls_there(ppctl: Ppctl, open_server: Server) -> None:
    assert ppctl("client", "check", "--url", open_server.url.replace("http:", "https:")) == 1
    assert "should it begin with http://?" in ppctl.out


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda h: reply(h, 404), "look at the URL: a prefix may be missing"),
        (lambda h: reply(h, 200, "{}", content_type="application/json"), "is no package index"),
        (
            lambda h: reply(h, 302, location="https://pypi.org/simple/"),
            "redirects to https://pypi.org/simple/",
        ),
        (lambda h: reply(h, 500), "HTTP 500 Internal Server Error"),
        (lambda h: reply(h, 599), "HTTP 599"),
        (lambda h: h.wfile.write(b"nonsense\n"), "without an HTTP answer"),
    ],
)
def test_strange_answers(answer: Callable[[Any], None], said: str, ppctl: Ppctl) -> None:
    with answering(answer) as url:
        assert ppctl("client", "check", "--url", url) == 1
    assert said in ppctl.out


@pytest.mark.parametrize(
    ("status", "hint"), [(413, "client_max_body_size"), (507, "no room left; on its host: ppctl doctor")]
)
def test_an_upload_is_refused_for_a_reason_that_can_be_mended(status: int, hint: str, ppctl: Ppctl) -> None:
    with answering(lambda h: reply(h, status if h.command == "POST" else 200)) as url:
        assert ppctl("client", "check", "--url", url, *LOGIN, stdin="x\n") == 1
    assert hint in ppctl.out


def test_what_was_uploaded_is_removed_even_if_it_cannot_be_downloaded(ppctl: Ppctl) -> None:
    asked: list[str] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(f"{handler.command} {handler.path}")
        reply(handler, 200)

    with answering(answer) as url:
        assert ppctl("client", "check", "--url", url, *LOGIN, stdin="x\n") == 1
    assert "the index does not list it" in ppctl.out
    assert asked[-2].startswith("POST /")  # removing, and then looking whether it is gone
    assert "ok     remove" in ppctl.out


def test_what_was_uploaded_without_an_answer_is_removed(ppctl: Ppctl) -> None:
    """A busy index stores it all the same, later than a client waits; so it may before Ctrl-C."""
    posts: list[str] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        if handler.command == "POST":
            posts.append(handler.headers["content-length"])
            if len(posts) == 1:
                return  # the connection is closed
        reply(handler, 200)

    with answering(answer) as url:
        assert ppctl("client", "check", "--url", url, *LOGIN, stdin=PASSWORD) == 1
    assert len(posts) == 2 and int(posts[1]) < int(posts[0])
    assert [line.split()[:2] for line in ppctl.out.splitlines() if line.startswith(("fails", "ok", "-"))] == [
        ["ok", "list"],
        ["fails", "upload"],
        ["-", "download"],
    ]


def test_wrong_digest_on_the_page(ppctl: Ppctl) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        pages = {
            "/simple/": '<a href="x/">x</a>',
            "/simple/x/": '<a href="/packages/x-1.tar.gz#sha256=00">x</a>',
        }
        reply(handler, 200, pages.get(handler.path, "half"))

    with answering(answer) as url:
        assert ppctl("client", "check", "--url", url) == 1
    assert "does not match the digest" in ppctl.out


def test_the_login_goes_to_the_index_only(ppctl: Ppctl) -> None:
    """A page that links to another server must not get it the login."""
    seen: list[str | None] = []

    def elsewhere(handler: http.server.BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers.get("authorization"))
        reply(handler, 200, "x")

    with answering(elsewhere) as other:
        name = ""

        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            nonlocal name
            name = handler.path.rstrip("/").rpartition("/")[2] or name
            reply(handler, 200, f'<a href="{other}/{name}-0-py3-none-any.whl">x</a>')

        with answering(answer) as url:
            assert ppctl("client", "check", "--url", url, *LOGIN, stdin="x\n") == 1
    assert seen == [None]
    assert "comes back with other content" in ppctl.out
