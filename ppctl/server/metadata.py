"""The core metadata inside package files: METADATA of a wheel, PKG-INFO of an sdist.

Whatever is in a file, looking into it raises nothing, and takes bounded time and memory: uploads may come
from anybody, and files found on the disk may be anything.
"""

from __future__ import annotations

import gzip
import io
import logging
import os
import re
import struct
import tarfile
import zipfile
from bz2 import BZ2File
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, NamedTuple

log = logging.getLogger("ppctl.server.metadata")

MAX_METADATA = 2 << 20
"""Larger metadata is none; what is usual has some kilobytes."""

MAX_ZIP_DIRECTORY = 32 << 20
MAX_ZIP_ENTRIES = 100_000
MAX_UNPACKED = 64 << 20
"""How much of an sdist is unpacked while looking for its PKG-INFO."""

# What an installer resolves by. If an sdist says that one of these is found out only by building it, its
# PKG-INFO is no answer (core metadata 2.2, field Dynamic).
_RESOLVED_BY = frozenset({"name", "version", "requires-dist", "requires-python", "provides-extra"})
_SDIST = re.compile(r"\.(tar\.gz|tgz|tar\.bz2|zip)$", re.IGNORECASE)
_END_OF_ZIP = b"PK\x05\x06"
_END_OF_ZIP64 = b"PK\x06\x06"


class Metadata(NamedTuple):
    """Core metadata. `is_reliable`: an installer would find the same after building the project."""

    body: bytes
    name: str
    version: str
    requires_python: str | None
    is_reliable: bool


def parse(body: bytes, file_name: str) -> Metadata | None:
    """Return what metadata says; None when it is not any. `file_name` is that of the package file."""
    fields = list(_fields(body))
    said = dict(reversed(fields))
    if not said.get("name") or not said.get("version") or not said.get("metadata-version"):
        return None
    dynamic = {value.lower() for name, value in fields if name == "dynamic"}
    is_reliable = is_wheel(file_name) or (
        _number(said["metadata-version"]) >= (2, 2) and not dynamic & _RESOLVED_BY
    )
    return Metadata(body, said["name"], said["version"], said.get("requires-python") or None, is_reliable)


def read(file: BinaryIO, file_name: str) -> Metadata | None:
    """Return the metadata in the package `file`, which is one of that name; None when there is none.

    Looks at the file from its beginning. Never raises.
    """
    try:
        file.seek(0)
        body = _wheel_metadata(file) if is_wheel(file_name) else _sdist_metadata(file, file_name)
        return parse(body, file_name) if body else None
    except Exception as e:  # zipfile, tarfile and zlib tell broken archives by a dozen kinds of errors
        log.info("no metadata in %s: %s", file_name, e)
        return None


def read_path(path: Path) -> Metadata | None:
    """Return the metadata in the package file at `path`; None when there is none. Never raises."""
    try:
        with open(path, "rb") as file:
            return read(file, path.name)
    except OSError as e:
        log.info("no metadata in %s: %s", path.name, e)
        return None


def is_wheel(file_name: str) -> bool:
    """Return whether a file of this name is a wheel."""
    return file_name.endswith(".whl")


def _fields(body: bytes) -> Iterator[tuple[str, str]]:
    """Yield the header's fields, names in lower case, first lines only: none that matters here has more."""
    for line in body.decode("utf-8", "replace").split("\n"):
        if not line.strip():
            return
        name, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            yield name.strip().lower(), _printable(value.strip())


def _printable(value: str) -> str:
    # What a page shows must not break it, nor the header of an answer.
    return value if value.isprintable() else "".join(c for c in value if c.isprintable())


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isascii() and part.isdigit())


def _wheel_metadata(file: BinaryIO) -> bytes | None:
    with _zip(file) as archive:
        # One `NAME-VERSION.dist-info` at the top (binary distribution format, "File contents").
        found = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1]
        return _unpack(archive, found[0]) if len(found) == 1 else None


def _sdist_metadata(file: BinaryIO, file_name: str) -> bytes | None:
    kind = _SDIST.search(file_name)
    if not kind:
        return None
    ending = kind[1].lower()
    if ending == "zip":
        with _zip(file) as archive:
            found = [name for name in archive.namelist() if _is_pkg_info(name)]
            return _unpack(archive, found[0]) if found else None
    unpacked = BZ2File(file) if ending == "tar.bz2" else gzip.GzipFile(fileobj=file)
    with closing(unpacked), tarfile.open(fileobj=_Limited(unpacked), mode="r|") as archive_:
        for member in archive_:
            if member.isreg() and _is_pkg_info(member.name):
                content = archive_.extractfile(member)
                return _bounded(content.read(MAX_METADATA + 1)) if content else None
    return None


def _is_pkg_info(name: str) -> bool:
    """Return whether this is the PKG-INFO in an sdist's only top directory (source distribution format)."""
    return name.endswith("/PKG-INFO") and name.removeprefix("./").count("/") == 1


def _zip(file: BinaryIO) -> zipfile.ZipFile:
    """Open an archive. Raises ValueError when its directory alone would take too much memory."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 22 - 20 - 56))
    end = file.read()
    at, at64 = end.rfind(_END_OF_ZIP), end.rfind(_END_OF_ZIP64)
    if at < 0 or len(end) < at + 22:
        raise ValueError("not a zip archive")
    entries, length = struct.unpack_from("<HL", end, at + 10)
    if at64 >= 0 and len(end) >= at64 + 56:
        entries, length = struct.unpack_from("<QQ", end, at64 + 32)
    if entries > MAX_ZIP_ENTRIES or length > MAX_ZIP_DIRECTORY:
        raise ValueError("the archive's directory is too large")
    return zipfile.ZipFile(file)


def _unpack(archive: zipfile.ZipFile, name: str) -> bytes | None:
    with archive.open(name) as content:
        return _bounded(content.read(MAX_METADATA + 1))


def _bounded(content: bytes) -> bytes | None:
    return content if len(content) <= MAX_METADATA else None


class _Limited(io.RawIOBase):
    """A stream that ends with an error when more than MAX_UNPACKED has been read from it."""

    def __init__(self, stream: gzip.GzipFile | BZ2File) -> None:
        super().__init__()
        self._stream = stream
        self._left = MAX_UNPACKED

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes. Raises ValueError when the limit is reached."""
        found = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(found)
        if self._left < 0:
            raise ValueError(f"no PKG-INFO in the first {MAX_UNPACKED} bytes")
        return found
