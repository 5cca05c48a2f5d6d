"""Answers to conditional requests and to requests for a part (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from typing import Any, NamedTuple

_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})", re.IGNORECASE | re.ASCII)

_MAX_REASON = 100

Header = tuple[str, str]


class Answer(NamedTuple):
    """What WSGI wants to know of an answer."""

    status: str
    headers: list[Header]
    content: Iterable[bytes]


class MustWait(Exception):
    """The answer is not at hand: it takes a thread, since something has to be computed or waited for."""


class BadRange(ValueError):
    """The client asks for a part that the file does not have."""


def plain(code: int, message: str, *headers: Header) -> Answer:
    """Return an answer that only says `message`, as text, since uv shows it to people as it is."""
    content = f"{message}\n".encode()
    basic = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(content))),
        # What is not there now may be there in the next request (404 may be kept: RFC 9110, section 15.1).
        ("Cache-Control", "no-cache"),
    ]
    return Answer(status_line(code, message), [*basic, *headers], [content])


def status_line(code: int, message: str) -> str:
    """Return a status with the message's first line as its reason, which is all that twine and pip show."""
    reason = re.sub(r"[^ -~]", "?", (message.strip().splitlines() or [""])[0])[:_MAX_REASON]
    return f"{code} {reason}"


def is_unchanged(environ: dict[str, Any], etag: str | None, modified: float | None = None) -> bool:
    """Return whether the client has what it asks for already: the answer is 304.

    `If-None-Match` decides where it is given, else `If-Modified-Since` (RFC 9110, section 13.2.2).
    """
    named: str | None = environ.get("HTTP_IF_NONE_MATCH")
    if named is not None:
        return etag is not None and (named.strip() == "*" or _opaque(etag) in _tags(named))
    since = _seconds(environ.get("HTTP_IF_MODIFIED_SINCE"))
    return modified is not None and since is not None and int(modified) <= since


def is_other(environ: dict[str, Any], etag: str | None, modified: float) -> bool:
    """Return whether the client wants another content than there is: the answer is 412.

    `If-Match` decides where it is given, else `If-Unmodified-Since` (RFC 9110, section 13.2.2).
    """
    named: str | None = environ.get("HTTP_IF_MATCH")
    if named is not None:
        return named.strip() != "*" and etag not in [tag.strip() for tag in named.split(",")]
    since = _seconds(environ.get("HTTP_IF_UNMODIFIED_SINCE"))
    return since is not None and int(modified) > since


def part(environ: dict[str, Any], size: int, etag: str | None, modified: float) -> tuple[int, int] | None:
    """Return the first byte and the length of the part that is asked for; None for the whole.

    One part only: whoever asks for several gets the whole, as RFC 9110, section 14.2 allows. HEAD has none,
    says the same section. Raises BadRange.
    """
    if environ.get("REQUEST_METHOD") == "HEAD":
        return None
    asked = _RANGE.fullmatch(environ.get("HTTP_RANGE", "").strip())
    if not asked or asked[1] == asked[2] == "" or not _is_same(environ, etag, modified):
        return None
    if not asked[1]:
        length = min(int(asked[2]), size)
        if length == 0:
            raise BadRange
        return size - length, length
    first = int(asked[1])
    last = min(int(asked[2]), size - 1) if asked[2] else size - 1
    if asked[2] and int(asked[2]) < first:
        return None  # not a range at all, and so ignored (section 14.1.1)
    if first >= size:
        raise BadRange
    return first, last - first + 1


def http_date(seconds: float) -> str:
    """Return a time as headers have it (RFC 9110, section 5.6.7)."""
    return _http_date(int(seconds))


@lru_cache(maxsize=1024)
def _http_date(seconds: int) -> str:
    try:
        return formatdate(max(0, seconds), usegmt=True)
    except (OverflowError, ValueError, OSError):
        return formatdate(time.time(), usegmt=True)


def _is_same(environ: dict[str, Any], etag: str | None, modified: float) -> bool:
    """Return whether `If-Range` lets a part be sent: what the client has is of this very file."""
    known: str | None = environ.get("HTTP_IF_RANGE")
    if known is None:
        return True
    known = known.strip()
    if known.startswith('"'):
        return known == etag
    return _seconds(known) == int(modified)


def _tags(header: str) -> list[str]:
    return [_opaque(tag.strip()) for tag in header.split(",")]


def _opaque(etag: str) -> str:
    return etag.removeprefix("W/")


def _seconds(header: str | None) -> float | None:
    try:
        return parsedate_to_datetime(header).timestamp() if header else None
    except (ValueError, TypeError, OverflowError):
        return None
