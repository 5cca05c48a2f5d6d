"""Files and their metadata, found by key and sent by the kernel (sendfile)."""

from __future__ import annotations

import contextlib
import gzip
import io
import mimetypes
import os
import stat
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

# For the types that it adds: .whl and .egg.
import pypiserver.core  # noqa: F401

from ppctl.server import at_hand, attestations, names, scan, spelling
from ppctl.server.answers import (
    Answer,
    BadRange,
    Header,
    MustWait,
    http_date,
    is_other,
    is_unchanged,
    part,
    plain,
)
from ppctl.server.catalogue import Catalogue, File
from ppctl.server.moment import Once

METADATA_ENDING = ".metadata"
MAX_AGE = 365 * 24 * 3600

# Up to this size, reading a file costs less than setting up sendfile.
_READ_AT_ONCE = 1 << 16
_BLOCK = 1 << 16
_FILES_AT_HAND = 1024


class Downloads:
    """What is under `/packages/`. `immutable`: a name stands for one content for ever."""

    def __init__(self, catalogue: Catalogue, *, immutable: bool, private: bool) -> None:
        self._catalogue = catalogue
        self._packages = str(catalogue.packages.resolve())
        who = "private" if private else "public"
        self._always = f"{who}, max-age={MAX_AGE}, immutable" if immutable else f"{who}, no-cache"
        self._not_yet = f"{who}, no-cache"
        self._version = Once(lambda: catalogue.version(wait=False))
        self._files: dict[str, File | None] = {}
        self._files_seen: object = None

    def answer(self, environ: dict[str, Any], path: str, *, zipped: bool, wait: bool = True) -> Answer:
        """Return the answer to a request for the file, or for the metadata, at a path below `/packages/`.

        Raises MustWait unless it is at hand or may be waited for: a small file that is known and in memory.
        """
        file = self._catalogue.file(path) if wait else self._file_at_once(path)
        if file is None and path.endswith(METADATA_ENDING):
            return self._metadata(environ, path.removesuffix(METADATA_ENDING), zipped=zipped, wait=wait)
        owner, sidecar = names.split_sidecar(path)
        if not wait and (file is None or file.size > _READ_AT_ONCE or sidecar):
            raise MustWait
        # What belongs to a file that is not there is not there either.
        is_alone = sidecar and self._catalogue.file(owner) is None
        if is_alone or (file is None and not self._may_be_served(path)):
            return _not_found(path)
        try:
            # Not waiting for a writer, should it be a FIFO.
            descriptor = os.open(f"{self._packages}/{path}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except PermissionError:
            return plain(403, "You do not have permission to access this file.")
        except (OSError, ValueError):
            return _not_found(path)
        taken = False
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return _not_found(path)
            # Changed by hand a moment ago: its hash is not known yet, and it is kept by nobody.
            known = file is not None and file.sha256 is not None and scan.stamp(found) == file.stamp
            etag = f'"{file.sha256}"' if known and file else None
            lifetime = self._always if known else self._not_yet
            taken, answer = send(environ, descriptor, found, path, etag=etag, lifetime=lifetime, wait=wait)
        finally:
            if not taken:
                os.close(descriptor)
        return answer

    def _file_at_once(self, path: str) -> File | None:
        """Return what the catalogue knows about a path, which is remembered until it changes."""
        seen = self._version.get()
        if seen != self._files_seen or len(self._files) >= _FILES_AT_HAND:
            self._files.clear()
            self._files_seen = seen
        if path not in self._files:
            self._files[path] = self._catalogue.file(path, wait=False)
        return self._files[path]

    def _may_be_served(self, path: str) -> bool:
        """Return whether a file that is not known yet would be listed: copied in a moment ago."""
        if names.parse(path) is None or "\0" in path:
            return False
        directory = os.path.normpath(f"{self._packages}/{scan.split(path)[0]}")
        # pypiserver does not walk into linked directories, so what is in them is not served either.
        return os.path.realpath(directory) == directory

    def _metadata(self, environ: dict[str, Any], path: str, *, zipped: bool, wait: bool) -> Answer:
        """Answer with the core metadata of a file (PEP 658, PEP 714)."""
        file = self._catalogue.file(path) if wait else self._file_at_once(path)
        body = self._catalogue.metadata(path, wait=wait) if file else None
        if file is None or body is None:
            return _not_found(path + METADATA_ENDING)
        etag = f'"{file.metadata_sha256}{"-gz" if zipped else ""}"'
        headers: list[Header] = [
            ("ETag", etag),
            ("Cache-Control", self._always),
            ("Vary", "Accept-Encoding"),
        ]
        if is_unchanged(environ, etag):
            return Answer("304 Not Modified", headers, [])
        content = body if zipped else gzip.decompress(body)
        headers += [("Content-Type", "text/plain; charset=UTF-8"), ("Content-Length", str(len(content)))]
        if zipped:
            headers.append(("Content-Encoding", "gzip"))
        return Answer("200 OK", headers, [content])


def send(
    environ: dict[str, Any],
    descriptor: int,
    found: os.stat_result,
    path: str,
    *,
    etag: str | None,
    lifetime: str,
    wait: bool = True,
) -> tuple[bool, Answer]:
    """Return whether the answer goes on using the open file, and the answer.

    `lifetime` is its Cache-Control. Raises MustWait, unless it may `wait`.
    """
    headers: list[Header] = [
        ("Cache-Control", lifetime),
        ("Last-Modified", http_date(found.st_mtime)),
    ]
    if etag:
        headers.append(("ETag", etag))
    if is_other(environ, etag, found.st_mtime):
        return False, plain(412, "The file is not the one that is asked for")
    if is_unchanged(environ, etag, found.st_mtime):
        return False, Answer("304 Not Modified", headers, [])
    try:
        asked = part(environ, found.st_size, etag, found.st_mtime)
    except BadRange:
        size = ("Content-Range", f"bytes */{found.st_size}")
        return False, plain(416, "There is no such part", size)
    first, length = asked or (0, found.st_size)
    headers += [
        ("Content-Type", content_type(path)),
        ("Content-Length", str(length)),
        ("Accept-Ranges", "bytes"),
    ]
    status = "200 OK"
    if asked:
        status = "206 Partial Content"
        headers.append(("Content-Range", f"bytes {first}-{first + length - 1}/{found.st_size}"))
    if environ["REQUEST_METHOD"] == "HEAD":
        return False, Answer(status, headers, [])
    if length <= _READ_AT_ONCE:
        return False, Answer(status, headers, [at_hand.read(descriptor, length, first, wait=wait)])
    if not wait:
        raise MustWait
    opened = io.FileIO(descriptor, "rb")
    opened.seek(first)
    return True, Answer(status, headers, _sent(environ, opened, length))


def _sent(environ: dict[str, Any], opened: io.FileIO, length: int) -> Iterable[bytes]:
    """Return the next `length` bytes of a file as the server sends them best (PEP 3333)."""
    wrapper = environ.get("wsgi.file_wrapper")
    if wrapper is not None:
        wrapped: Iterable[bytes] = wrapper(opened, _BLOCK)
        return wrapped
    return _blocks(opened, length)


def _blocks(opened: io.FileIO, left: int) -> Iterable[bytes]:
    with contextlib.closing(opened):
        while left > 0 and (block := opened.read(min(_BLOCK, left))):
            left -= len(block)
            yield block


@lru_cache(maxsize=1024)
def content_type(path: str) -> str:
    """Return the header of an answer with this file."""
    if path.endswith(spelling.PROVENANCE):
        return attestations.CONTENT_TYPE
    kind = mimetypes.guess_type(Path(path).name)[0] or "application/octet-stream"
    return f"{kind}; charset=UTF-8" if kind.startswith("text/") else kind


def _not_found(path: str) -> Answer:
    return plain(404, f"Not Found ({path} does not exist)")
