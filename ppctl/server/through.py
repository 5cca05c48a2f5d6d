"""Pages and files of another index, passed on to this one's clients.

What has been fetched already is read from the disk, also while the other index or the cache program is away.
For the rest the cache program is asked. A thread waits for it, so workers have some threads more for that,
and no more than those are used: what is here is served however slow the other index is.
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
from ppctl.server.answers import Answer, Header, plain
from ppctl.server.downloads import METADATA_ENDING, content_type, send
from ppctl.server.fetched import KEY, Store
from ppctl.server.negotiate import Format
from ppctl.server.unix import UnixConnection

log = logging.getLogger("ppctl.server.through")

THREADS = 32
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
        self._slots = threading.BoundedSemaphore(THREADS)
        self._is_away = False

    def page(self, environ: dict[str, Any], project: str, form: Format, *, zipped: bool) -> Answer:
        """Answer with the page of a project that may be asked about."""
        refusal: Unavailable | None = None
        if not self._store.is_fresh(project):
            try:
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
            etag = f'"{key}{"-metadata" if metadata else ""}"'
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
        """Pass a file on while it is being fetched. A part cannot be asked for: the whole is answered."""
        method = environ["REQUEST_METHOD"]
        with contextlib.ExitStack() as stack:
            try:
                self._take_slot(stack)
                answer = self._request(method, f"/file/{project}/{key}/{quote(name)}", stack)
                if answer.status != 200:
                    return _refused(Unavailable(answer.status, _said(answer.read(1 << 16)) or name))
            except Unavailable as e:
                return _refused(e)
            headers: list[Header] = [("Cache-Control", self._always), ("Content-Type", content_type(name))]
            length = answer.getheader("Content-Length")
            if length is not None:
                headers.append(("Content-Length", length))
            if method == "HEAD":
                return Answer("200 OK", headers, [])
            return Answer("200 OK", headers, _Blocks(answer, name, stack.pop_all()))

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
    """The content of an answer of the cache program. What it holds is given back when it is closed."""

    def __init__(self, answer: http.client.HTTPResponse, name: str, held: contextlib.ExitStack) -> None:
        self._answer = answer
        self._name = name
        self._held = held

    def __iter__(self) -> Iterator[bytes]:
        try:
            while block := self._answer.read(_BLOCK):
                yield block
        except (OSError, http.client.HTTPException) as e:
            log.warning("%s broke off: %s", self._name, e or type(e).__name__)
            raise BrokenOff(f"{self._name} broke off") from e
        finally:
            self.close()

    def close(self) -> None:
        """Give up the connection to the cache program, which goes on fetching."""
        self._held.close()


def _refused(reason: Unavailable) -> Answer:
    again = [("Retry-After", "2")] if reason.status == 503 else []
    return plain(reason.status, str(reason), *again)


def _said(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return "the other index answers with nonsense"
