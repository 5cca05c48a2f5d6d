"""Request bodies that are known to be complete.

bottle takes a body that ends early for a short one, and its form parser takes a form without its end for a
form: so a client that drops half way would leave half a file. Here such a body is an error.
"""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

DRAIN_SECONDS = 60.0
"""How long a rejected upload may go on arriving after it has been answered."""

UNKNOWN_LENGTH = str(1 << 60)
"""Stands for the length of a body that is told by the transfer coding: larger than any real one."""

# The longest end of a form: `--`, 70 characters (RFC 2046, section 5.1.1), `--`, line end; and an epilogue.
_TAIL_BYTES = 1024
_CHUNK = 1 << 16
_BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|([^\s";,]+))', re.IGNORECASE)


class BadBody(Exception):
    """The request's body is cut off or makes no sense. Answered with 400."""


class TooSlow(BadBody):
    """The request's body comes too slowly. Answered with 408."""


def guard(environ: dict[str, Any]) -> Body | None:
    """Replace the body of a request by one that raises BadBody rather than end early.

    Returns None for a request without a body. Raises BadBody for a form whose parts cannot be told apart.
    """
    length: int | None = int(environ.get("CONTENT_LENGTH") or 0)
    if environ.get("HTTP_TRANSFER_ENCODING"):
        # gunicorn has taken the chunks apart already, which bottle would like to do once more.
        del environ["HTTP_TRANSFER_ENCODING"]
        environ["CONTENT_LENGTH"] = UNKNOWN_LENGTH
        length = None
    if length == 0:
        return None
    body = Body(environ["wsgi.input"], length, _form_end(environ.get("CONTENT_TYPE", "")))
    environ["wsgi.input"] = io.BufferedReader(body, _CHUNK)
    return body


def _form_end(content_type: str) -> bytes | None:
    """Return what a form of this type must end with; None when it is not a form of parts (RFC 7578)."""
    boundary = boundary_of(content_type)
    return None if boundary is None else b"--" + boundary + b"--"


def boundary_of(content_type: str) -> bytes | None:
    """Return what separates the parts of a form of this type; None when it is not a form of parts.

    Raises BadBody.
    """
    if not content_type.lower().startswith("multipart/"):
        return None
    boundary = _BOUNDARY.search(content_type)
    if not boundary:
        raise BadBody("a form of parts without a boundary")
    return (boundary[1] or boundary[2]).encode("latin-1")


class Body(io.RawIOBase):
    """The bytes of a request's body. `length` is None when it is told by the transfer coding."""

    def __init__(self, stream: BinaryIO, length: int | None, end: bytes | None) -> None:
        super().__init__()
        self._stream = stream
        self._left = length
        self._end = end
        self._tail = b""
        self._done = False

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self._done

    def readable(self) -> bool:
        """Return True: this is what bodies are for."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`; returns the number of bytes, 0 at the end. Raises BadBody when cut off."""
        if self._done:
            return 0
        size = len(buffer) if self._left is None else min(len(buffer), self._left)
        try:
            chunk = self._stream.read(size)
        except TimeoutError as e:
            self._done = True
            raise TooSlow("the body came too slowly") from e
        except Exception as e:  # the connection is gone, or its chunks are broken
            self._done = True
            raise BadBody("the body was cut off") from e
        buffer[: len(chunk)] = chunk
        self._tail = (self._tail + chunk[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        if self._left is not None:
            self._left -= len(chunk)
            self._done = self._left == 0 or not chunk
        else:
            self._done = not chunk
        if self._done:
            self._check()
        return len(chunk)

    def _check(self) -> None:
        if self._left:
            raise BadBody("the body was cut off")
        if self._end is not None and self._end not in self._tail:
            raise BadBody("the form has no end")

    def drain(self) -> None:
        """Read and forget the rest, for DRAIN_SECONDS at most.

        A client that is still sending must not have its connection reset before it has read the answer, or it
        reports a broken connection where it should report a wrong password (RFC 9112, section 9.6).
        """
        until = time.monotonic() + DRAIN_SECONDS
        buffer = memoryview(bytearray(_CHUNK))
        with contextlib.suppress(BadBody):
            while not self._done and time.monotonic() < until:
                self.readinto(buffer)


def then_drain(body: Body, content: Iterable[bytes]) -> Iterator[bytes]:
    """Give `content` to the client, then let it finish sending the body that nobody wants."""
    try:
        yield from content
    finally:
        close = getattr(content, "close", None)
        if close:
            close()
    body.drain()
