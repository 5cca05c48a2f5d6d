"""Pages and files of another index, passed on to this one's clients.

What has been fetched already is read from the disk, also while the other index or the cache program is away.
For the rest the cache program is asked. A thread waits for it aside: it does not count among those that work,
so what is here is served however slow the other index is.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ppctl.server import fetched, pages
from ppctl.server.answers import Answer, BadRange, Header, part, plain
from ppctl.server.connection import Aside, aside_of
from ppctl.server.downloads import METADATA_ENDING, content_type, send
from ppctl.server.fetched import KEY, Store
from ppctl.server.negotiate import Format
from ppctl.server.unix import UnixConnection

log = logging.getLogger("ppctl.server.through")

MOST_WAITING = 32
"""How many requests of one worker may wait for the cache program."""

SOCKET = "cache.sock"
PREFIX = "/upstream/"

_PATIENCE = 2.0
_RESTART_SECONDS = 4.0
_ANSWER_SECONDS = 60.0
_BLOCK = 1 << 16


class BrokenOff(TimeoutError):
    """A file broke off on its way. A timeout, as when a client falls silent: the connection is given up."""


class Unavailable(Exception):
    """There is no answer now. `status` is that of HTTP, the message says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class PullThrough:
    """The other index as clients of this one see it. `directory`: of the cache; its socket is in `run`."""

    def __init__(self, directory: Path, run: Path, *, private: bool, private_files: bool) -> None:
        self._store = Store(directory)
        self._socket = run / SOCKET
        self._private = private
        self._always = f"{'private' if private_files else 'public'}, max-age=31536000, immutable"
        self._slots = threading.BoundedSemaphore(MOST_WAITING)
        self._is_away = False

    def page(self, environ: dict[str, Any], project: str, form: Format, *, zipped: bool) -> Answer:
        """Answer with the page of a project that may be asked about."""
        refusal: Unavailable | None = None
        if not self._store.is_fresh(project):
            try:
                with aside_of(environ)():
                    self._ask_for_page(project)
            except Unavailable as e:
                refusal = e
        page = self._store.page(project, is_json=form.is_json)
        if page is None or (refusal and refusal.status == 404):
            return _refused(refusal or Unavailable(503, f"{project} cannot be had just now"))
        return pages.answer(environ, page, form, zipped=zipped, private=self._private)

    def file(self, environ: dict[str, Any], project: str, key: str, name: str) -> Answer:
        """Answer with a file of a project that may be asked about, or with the file's metadata."""
        if not KEY.fullmatch(key):
            return plain(404, "Not Found")
        metadata = name.endswith(METADATA_ENDING)
        return self._stored(environ, key, name, metadata=metadata) or self._fetch(environ, project, key, name)

    def _stored(self, environ: dict[str, Any], key: str, name: str, *, metadata: bool) -> Answer | None:
        path = self._store.file(key, metadata=metadata)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        taken = False
        try:
            found = os.fstat(descriptor)
            with contextlib.suppress(OSError):
                fetched.note_use(path, found)
            etag = _etag(key, metadata=metadata)
            taken, answer = send(environ, descriptor, found, name, etag=etag, lifetime=self._always)
        finally:
            if not taken:
                os.close(descriptor)
        return answer

    def _ask_for_page(self, project: str) -> None:
        """Have the cache program fetch a page, or look whether it has changed. Raises Unavailable."""
        with contextlib.ExitStack() as stack:
            self._take_slot(stack)
            answer = self._request("POST", f"/page/{project}", stack)
            content = answer.read(1 << 16)
            if answer.status != 200:
                raise Unavailable(answer.status, _said(content))

    def _fetch(self, environ: dict[str, Any], project: str, key: str, name: str) -> Answer:
        """Pass a file on while it is being fetched, or a part of it."""
        with contextlib.ExitStack() as stack:
            try:
                with aside_of(environ)():
                    self._take_slot(stack)
                    answer = self._request(
                        environ["REQUEST_METHOD"], f"/file/{project}/{key}/{quote(name)}", stack
                    )
                    if answer.status != 200:
                        return _refused(Unavailable(answer.status, _said(answer.read(1 << 16)) or name))
            except Unavailable as e:
                return _refused(e)
            return self._begun(environ, answer, key, name, stack)

    def _begun(
        self,
        environ: dict[str, Any],
        answer: http.client.HTTPResponse,
        key: str,
        name: str,
        stack: contextlib.ExitStack,
    ) -> Answer:
        """Return the answer to a client, made of that of the cache program, which `stack` holds open."""
        etag = _etag(key, metadata=name.endswith(METADATA_ENDING))
        headers: list[Header] = [
            ("Cache-Control", self._always),
            ("Content-Type", content_type(name)),
            ("ETag", etag),
        ]
        size, status = answer.getheader("Content-Length"), "200 OK"
        asked: tuple[int, int | None] = (0, None)
        if size is not None:
            try:
                found = part(environ, int(size), etag, 0.0)
            except BadRange:
                return plain(416, "There is no such part", ("Content-Range", f"bytes */{size}"))
            first, length = asked = found or (0, int(size))
            headers += [("Accept-Ranges", "bytes"), ("Content-Length", str(length))]
            if found:
                status = "206 Partial Content"
                headers.append(("Content-Range", f"bytes {first}-{first + length - 1}/{size}"))
        if environ["REQUEST_METHOD"] == "HEAD":
            return Answer(status, headers, [])
        return Answer(status, headers, _Blocks(answer, name, aside_of(environ), stack.pop_all(), asked))

    def _take_slot(self, stack: contextlib.ExitStack) -> None:
        if not self._slots.acquire(timeout=_PATIENCE):
            raise Unavailable(503, "too many requests wait for the other index: try again")
        stack.callback(self._slots.release)

    def _request(self, method: str, path: str, stack: contextlib.ExitStack) -> http.client.HTTPResponse:
        until = time.monotonic() + _RESTART_SECONDS
        while True:
            connection = stack.enter_context(
                contextlib.closing(UnixConnection(self._socket, _ANSWER_SECONDS))
            )
            try:
                connection.request(method, path)
                answer = stack.enter_context(contextlib.closing(connection.getresponse()))
                self._is_away = False
                return answer
            except TimeoutError as e:
                raise Unavailable(504, "the other index does not answer in time") from e
            except (OSError, http.client.HTTPException) as e:
                # Not everybody waits again for one that has not come back.
                if self._is_away or time.monotonic() > until:
                    self._is_away = True
                    log.warning("the cache program does not answer: %s", e or type(e).__name__)
                    raise Unavailable(503, "the cache of the other index does not run") from e
                time.sleep(0.1)  # it restarts


class _Blocks:
    """The content of an answer of the cache program, or a part: the first byte, and the length (None: all).

    `aside`: what the thread is in while it waits. What is `held` is given back at the end.
    """

    def __init__(
        self,
        answer: http.client.HTTPResponse,
        name: str,
        aside: Aside,
        held: contextlib.ExitStack,
        asked: tuple[int, int | None],
    ) -> None:
        self._answer = answer
        self._name = name
        self._aside = aside
        self._held = held
        self._before, self._left = asked

    def __iter__(self) -> Iterator[bytes]:
        try:
            while self._left != 0 and (block := self._read()):
                passed_over = min(self._before, len(block))
                self._before -= passed_over
                block = block[passed_over : None if self._left is None else passed_over + self._left]
                if self._left is not None:
                    self._left -= len(block)
                if block:
                    yield block
            if self._left:
                raise BrokenOff(f"{self._name} broke off")
        except BrokenOff:
            raise
        except (OSError, http.client.HTTPException) as e:
            log.warning("%s broke off: %s", self._name, e or type(e).__name__)
            raise BrokenOff(f"{self._name} broke off") from e
        finally:
            self.close()

    def _read(self) -> bytes:
        with self._aside():
            return self._answer.read(_BLOCK)

    def close(self) -> None:
        """Give up the connection to the cache program, which goes on fetching."""
        self._held.close()


def _etag(key: str, *, metadata: bool) -> str:
    return f'"{key}{"-metadata" if metadata else ""}"'


def _refused(reason: Unavailable) -> Answer:
    again = [("Retry-After", "2")] if reason.status == 503 else []
    return plain(reason.status, str(reason), *again)


def _said(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return "the other index answers with nonsense"
