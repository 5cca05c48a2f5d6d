"""ppctl.server.front: what goes wrong is answered plainly, and who asks is known."""

from __future__ import annotations

import errno
import io
import json
import logging
import socket
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ppctl.server.config import ServerConfig
from ppctl.server.front import Front

CONFIG = ServerConfig(packages=Path("/p"), htpasswd=Path("/h"), permissions=Path("/perm"), run=Path("/r"))


def ask(error: Exception | None = None, **environ: Any) -> tuple[str, bytes, dict[str, Any]]:
    """Return status, body and what the application behind got; it raises `error`."""
    seen: dict[str, Any] = {}
    statuses: list[str] = []

    def application(env: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        seen.update(env)
        if error:
            raise error
        start_response("200 OK", [])
        return [b"fine"]

    base = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/simple/",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "index.example.com",
        "wsgi.input": io.BytesIO(),
    }
    front = Front(application, CONFIG, lambda: {"worker": 1})
    content = front({**base, **environ}, lambda status, headers: statuses.append(status))
    return statuses[0], b"".join(content), seen


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(errno.ENOSPC, "x"), "507 No space left on the server"),
        (OSError(errno.EDQUOT, "x"), "507 No space left on the server"),
        (OSError(errno.EIO, "secret"), "503 The server's disk does not work"),
        (OSError(errno.EROFS, "x"), "503 The server's disk is read-only: nothing can be stored or removed"),
        (OSError(errno.EACCES, "secret"), "503 The server may not write to its own directories"),
        (sqlite3.OperationalError("database or disk is full"), "507 No space left on the server"),
        (sqlite3.OperationalError("disk I/O error"), "503 The server's disk does not work"),
        (sqlite3.OperationalError("no such table: secret"), "500 Internal Server Error"),
        (OSError(errno.EPIPE, "secret"), "500 Internal Server Error"),
        (KeyError("secret"), "500 Internal Server Error"),
    ],
)
def test_errors_have_their_status(error: Exception, status: str, caplog: pytest.LogCaptureFixture) -> None:
    found, body, _ = ask(error)
    assert found == status
    assert ("Traceback" in caplog.text) is status.startswith("500")
    assert caplog.text.count("ERROR") == 1
    assert b"secret" not in body
    assert b"Traceback" not in body


def test_an_unexpected_error_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        ask(KeyError("what"), PATH_INFO="/simple/x/", HTTP_AUTHORIZATION="Basic c2VjcmV0")
    assert "GET /simple/x/ failed" in caplog.text
    assert "KeyError" in caplog.text
    assert "c2VjcmV0" not in caplog.text


def test_a_control_that_fails_says_why_in_its_own_form() -> None:
    def fail(_environ: dict[str, Any]) -> tuple[int, Any]:
        raise OSError(errno.EROFS, "Read-only file system")

    front = Front(lambda *_: [], CONFIG, dict)
    front.controls["/_ppctl/packages"] = fail
    said: list[Any] = []
    with socket.socket(socket.AF_UNIX) as own:
        environ = {"PATH_INFO": "/_ppctl/packages", "REQUEST_METHOD": "POST", "gunicorn.socket": own}
        content = b"".join(front(environ, lambda *found: said.append(found)))
    assert said[0][0] == "503 Service Unavailable"
    assert json.loads(content)["error"].startswith("The server's disk is read-only")


def test_the_control_page_is_for_the_own_socket_only() -> None:
    path = {"PATH_INFO": "/_ppctl/worker"}
    with socket.socket(socket.AF_UNIX) as own, socket.socket(socket.AF_INET) as public:
        assert ask(**path, **{"gunicorn.socket": own})[:2] == ("200 OK", b'{"worker": 1}')
        assert ask(**path, **{"gunicorn.socket": public})[0] == "404 Not Found"
        assert ask(**path)[0] == "404 Not Found"
        assert ask(**path, **{"gunicorn.socket": own}, REQUEST_METHOD="POST")[0] == "404 Not Found"
