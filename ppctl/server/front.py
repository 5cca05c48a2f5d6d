"""The thin layer between gunicorn and pypiserver: prefix, proxies, complete bodies, plain errors."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from ppctl.server import store
from ppctl.server.access import bearer_as_basic
from ppctl.server.answers import Answer, status_line
from ppctl.server.body import BadBody, Body, TooSlow, guard, then_drain
from ppctl.server.config import ServerConfig
from ppctl.server.proxies import Proxies, has_valid_host, look_through
from ppctl.server.text import printable

log = logging.getLogger("ppctl.server")

CONTROL_PATH = "/_ppctl/worker"
"""Where a worker says who it is, on its own UNIX socket only."""

CONTROL_PREFIX = "/_ppctl/"

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]
Control = Callable[[Environ], tuple[int, Any]]
AtOnce = Callable[[Environ], "Answer | None"]

# No file's name has these, and no header may: pypiserver's redirects would be errors.
_NOWHERE = frozenset("\0\r\n")
_STATUS = {
    200: "200 OK",
    400: "400 Bad Request",
    404: "404 Not Found",
    408: "408 Request Timeout",
    409: "409 Conflict",
    500: "500 Internal Server Error",
    503: "503 Service Unavailable",
    507: "507 Insufficient Storage",
}
_NO_ROOM = (507, "No space left on the server")
_NOT_ALLOWED = (503, "The server may not write to its own directories")
_BROKEN = (503, "The server's disk does not work")
_DISK = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EROFS: (503, "The server's disk is read-only: nothing can be stored or removed"),
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    **dict.fromkeys((errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE), _BROKEN),
}
"""What a request is answered with when the disk says no. Clients show it, and may try again."""


class Front:
    """A WSGI application (PEP 3333) around pypiserver's; `describe` returns what the worker says it is.

    `at_once` answers what needs no waiting (see `Front.at_once`).
    """

    def __init__(
        self,
        application: Application,
        config: ServerConfig,
        describe: Callable[[], dict[str, Any]],
        at_once: AtOnce | None = None,
    ) -> None:
        self._application = application
        self._at_once = at_once
        self._prefix = config.url_prefix
        self._trusted = Proxies(config.trusted_proxies)
        self._describe = describe
        self.controls: dict[str, Control] = {CONTROL_PATH: self._report}
        self.on_start: list[Callable[[], object]] = []
        self.on_stop: list[Callable[[], object]] = []

    def start(self) -> None:
        """Begin what goes on besides the requests; in the process that serves, not in one that forks."""
        for begin in self.on_start:
            try:
                begin()
            except Exception:  # a full disk must not keep the worker from serving what it can
                log.exception("something did not start, and is tried again when it is needed")

    def stop(self) -> None:
        """End it."""
        for end in self.on_stop:
            end()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        is_local = _is_local(environ)
        if environ["PATH_INFO"].startswith(CONTROL_PREFIX):
            return self._control(environ, start_response, is_local=is_local)
        if not has_valid_host(environ):
            return _plain(start_response, 400, "Bad request: the header Host is missing or wrong")
        if not _NOWHERE.isdisjoint(environ["PATH_INFO"]):
            return _plain(start_response, 404, "Not Found")
        self._prepare(environ, is_local=is_local)
        body: Body | None = None
        try:
            body = guard(environ)
            content = self._application(environ, start_response)
        except Exception as e:
            content = _plain(start_response, *_explain(e, environ))
        _shorten_agent(environ)
        if body is not None and not body.finished:
            return then_drain(body, content)
        return content

    def at_once(self, environ: Environ) -> Answer | None:
        """Return the answer to a GET or HEAD over TCP if it is at hand; never raises.

        None: it has to be asked for in a thread, by calling this application.
        """
        is_control = environ["PATH_INFO"].startswith(CONTROL_PREFIX)
        if self._at_once is None or is_control or not has_valid_host(environ):
            return None
        self._prepare(environ, is_local=False)
        _shorten_agent(environ)
        try:
            return self._at_once(environ)
        except Exception:  # MustWait; and a fault is met again in the thread, which explains it
            return None

    def _prepare(self, environ: Environ, *, is_local: bool) -> None:
        look_through(environ, self._trusted, is_local=is_local)
        _split_prefix(environ, self._prefix)
        bearer_as_basic(environ)

    def _control(self, environ: Environ, start_response: StartResponse, *, is_local: bool) -> Iterable[bytes]:
        answer = self.controls.get(environ["PATH_INFO"])
        if answer is None or not is_local:
            return _plain(start_response, 404, "Not Found")
        try:
            status, found = answer(environ)
        except Exception as e:
            status, message = _explain(e, environ)
            found = {"error": message}
        return _answer(start_response, _STATUS[status], "application/json", json.dumps(found))

    def _report(self, environ: Environ) -> tuple[int, Any]:
        if environ["REQUEST_METHOD"] != "GET":
            return 404, {}
        return 200, self._describe()


def _is_local(environ: Environ) -> bool:
    """Return whether the request came by the worker's UNIX socket, which only this machine can reach."""
    connection = environ.get("gunicorn.socket")
    return getattr(connection, "family", None) == socket.AF_UNIX


def _split_prefix(environ: Environ, prefix: str) -> None:
    """Tell pypiserver what it is mounted under, so that its links and redirects begin with it.

    Proxies that strip the prefix (nginx: `proxy_pass http://host/;`) and proxies that pass it on are served
    alike.
    """
    environ["SCRIPT_NAME"] = prefix
    path = environ["PATH_INFO"]
    if prefix and (path == prefix or path.startswith(prefix + "/")):
        environ["PATH_INFO"] = path[len(prefix) :] or "/"


def _shorten_agent(environ: Environ) -> None:
    """Leave of the User-Agent what the access log should show: pip and uv add a page of JSON to it."""
    if "HTTP_USER_AGENT" in environ:
        environ["HTTP_USER_AGENT"] = environ["HTTP_USER_AGENT"].partition(" {")[0][:100]


def _explain(error: Exception, environ: Environ) -> tuple[int, str]:
    """Return the status and the message for an error that came out of the application."""
    if isinstance(error, BadBody):
        return (408 if isinstance(error, TooSlow) else 400), f"Bad request: {error}"
    if _is_busy(error):
        log.error("the catalogue is locked by another process: %s", error)
        return 503, "The index is busy: try again"
    refused = _DISK.get(store.error_number(error) or 0)
    if refused:
        log.error("%s: %s (`ppctl doctor` tells more)", refused[1], error)
        return refused
    log.error("%s %s failed", environ["REQUEST_METHOD"], printable(environ["PATH_INFO"]), exc_info=error)
    return 500, "Internal Server Error"


def _is_busy(error: Exception) -> bool:
    """Return whether somebody has kept the catalogue locked for longer than anybody should."""
    cause = error if isinstance(error, sqlite3.Error) else error.__cause__
    return isinstance(cause, sqlite3.OperationalError) and "is locked" in str(cause)


def _plain(start_response: StartResponse, status: int, message: str) -> list[bytes]:
    # twine and pip show nothing but the status line.
    line = status_line(status, message) if status in (503, 507) else _STATUS[status]
    return _answer(start_response, line, "text/plain; charset=utf-8", message + "\n")


def _answer(start_response: StartResponse, status: str, content_type: str, text: str) -> list[bytes]:
    content = text.encode("utf-8")
    headers = [("Content-Type", content_type), ("Content-Length", str(len(content)))]
    start_response(status, [*headers, ("Cache-Control", "no-cache")])
    return [content]


def describe_process() -> dict[str, int]:
    """Return the process ids of this worker: gunicorn's arbiter, which the manager knows, and its child."""
    # As post_fork noted it: an orphan's parent is another process, perhaps PID 1, that nobody may stop.
    return {"pid": int(os.environ.get("PPCTL_ARBITER") or os.getppid()), "process": os.getpid()}
