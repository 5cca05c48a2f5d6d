"""Simple requests, read and answered without gunicorn's machinery: as bytes, in the worker's event loop.

Only what can have one meaning is understood here: a GET or HEAD of HTTP/1.1 whose head has come whole, with a
plain path and plain header fields, and nothing behind it. Everything else is None, and goes to gunicorn with
every byte: so there is one parser for what is hostile or rare, and one rule for what is a body.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import Any

from gunicorn import SERVER

from ppctl.server.answers import Answer, http_date

Environ = dict[str, Any]

MAX_HEAD = 8190
"""The longest head that is looked at here, in bytes."""

_HEAD = re.compile(
    # No query and no percent sign: such a path means what it says. Not two slashes, which begin a host.
    r"(GET|HEAD) (/(?!/)[A-Za-z0-9._~!$&'()*+,;=:@/-]*) HTTP/1\.1\r\n"
    r"((?:[A-Za-z0-9-]+:[\t -~]*\r\n){1,50})\r\n"
)
# What announces a body, or asks for another protocol or for gunicorn's own opinion.
_NOT_SIMPLE = frozenset(
    (
        "content-length",
        "content-type",
        "expect",
        "http2-settings",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-protocol",
        "x-forwarded-ssl",
    )
)
_CONNECTION = {"close", "keep-alive"}


def read(head: bytes, client: str) -> Environ | None:
    """Return what the application wants to know of a request (PEP 3333) from the address `client`."""
    if len(head) > MAX_HEAD:
        return None
    found = _HEAD.fullmatch(head.decode("latin-1"))
    if found is None:
        return None
    environ: Environ = {
        "REQUEST_METHOD": found[1],
        "PATH_INFO": found[2],
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": client,
    }
    for line in found[3][:-2].split("\r\n"):
        name, _, value = line.partition(":")
        key = _key(name)
        if key is None or key in environ:
            return None
        environ[key] = value.strip(" \t")
    is_plain = "HTTP_HOST" in environ and environ.get("HTTP_CONNECTION", "close").lower() in _CONNECTION
    return environ if is_plain else None


@lru_cache(maxsize=1024)
def _key(name: str) -> str | None:
    """Return what a field is called in the environment; None for one that makes a request not simple."""
    return None if name.lower() in _NOT_SIMPLE else f"HTTP_{name.upper().replace('-', '_')}"


def keeps_alive(environ: Environ) -> bool:
    """Return whether the client may send another request on the connection."""
    return str(environ.get("HTTP_CONNECTION", "")).lower() != "close"


class Writer:
    """Writes answers as gunicorn does."""

    def __init__(self) -> None:
        self._second = 0
        self._basic = {True: "", False: ""}

    def head(self, answer: Answer, *, keep: bool) -> bytes:
        """Return the head of an answer; `keep`: the connection stays open."""
        now = int(time.time())
        if now != self._second:
            for alive, word in ((True, "keep-alive"), (False, "close")):
                self._basic[alive] = (
                    f"\r\nServer: {SERVER}\r\nDate: {http_date(now)}\r\nConnection: {word}\r\n"
                )
            self._second = now
        fields = "".join([f"{name}: {value}\r\n" for name, value in answer.headers])
        return f"HTTP/1.1 {answer.status}{self._basic[keep]}{fields}\r\n".encode("latin-1")
