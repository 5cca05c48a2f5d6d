"""The core metadata inside package files: METADATA of a wheel, PKG-INFO of an sdist.

Whatever is in a file, looking into it raises nothing, and takes bounded time and memory: uploads may come
from anybody, and files found on the disk may be anything.
"""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from ppctl.server.archives import BadArchive, Tar, open_zip

log = logging.getLogger("ppctl.server.metadata")

MAX_METADATA = 2 << 20
"""Larger metadata is none; what is usual has some kilobytes."""

# What an installer resolves by. If an sdist says that one of these is found out only by building it, its
# PKG-INFO is no answer (core metadata 2.2, field Dynamic).
_RESOLVED_BY = frozenset({"name", "version", "requires-dist", "requires-python", "provides-extra"})
_SDIST = re.compile(r"\.(?:tar\.(gz|bz2|xz)|(tgz)|(zip))$", re.IGNORECASE)
# Without PKG-INFO an installer still builds what has one of these.
_BUILT_BY = frozenset({"setup.py", "pyproject.toml", "setup.cfg"})


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
        body = (wheel_metadata(file) if is_wheel(file_name) else sdist_metadata(file, file_name)).body
        return parse(body, file_name) if body else None
    except Exception as e:  # zipfile and zlib tell broken archives by a dozen kinds of errors
        log.info("no metadata in %s: %s", file_name, e)
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


class Found(NamedTuple):
    """What was found in an archive. `is_buildable`: also without metadata, an installer can do with it."""

    body: bytes | None
    is_buildable: bool = False


def wheel_metadata(file: BinaryIO) -> Found:
    """Return the METADATA of a wheel. Raises BadArchive, and what zipfile raises for broken archives."""
    with open_zip(file) as archive:
        # One `NAME-VERSION.dist-info` at the top (binary distribution format, "File contents").
        found = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1]
        return Found(_unpack(archive, found[0]) if len(found) == 1 else None)


def egg_metadata(file: BinaryIO) -> Found:
    """Return the PKG-INFO of an egg. Raises as `wheel_metadata`."""
    with open_zip(file) as archive:
        name = "EGG-INFO/PKG-INFO"
        return Found(_unpack(archive, name) if name in archive.namelist() else None)


def sdist_metadata(file: BinaryIO, file_name: str, *, whole: bool = False) -> Found:
    """Return the PKG-INFO of an sdist. Raises as `wheel_metadata`, and what broken streams raise.

    PKG-INFO comes early: that the rest is there and unpacks is only seen when the `whole` of it is read.
    """
    ending = _SDIST.search(file_name)
    if not ending:
        return Found(None)
    if ending[3]:
        with open_zip(file) as archive:
            names = archive.namelist()
            told = [name for name in names if _in_top(name) == "PKG-INFO"]
            body = _unpack(archive, told[0]) if told else None
            return Found(body, any(_in_top(name) in _BUILT_BY for name in names))
    tar = Tar(file, (ending[1] or "gz").lower())
    found = _tar_metadata(tar)
    if whole:
        tar.finish()
    return found


def _tar_metadata(tar: Tar) -> Found:
    is_buildable = False
    for member in tar.members():
        name = _in_top(member.name)
        if name == "PKG-INFO":
            return Found(_bounded(tar.read(MAX_METADATA + 1)), is_buildable=True)
        is_buildable = is_buildable or name in _BUILT_BY
    return Found(None, is_buildable)


def _in_top(name: str) -> str | None:
    """Return the name of a file that is right in an sdist's only top directory, as PKG-INFO is."""
    top, _, rest = name.removeprefix("./").partition("/")
    return rest if top and "/" not in rest else None


def _unpack(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as content:
        return _bounded(content.read(MAX_METADATA + 1))


def _bounded(content: bytes) -> bytes:
    if len(content) > MAX_METADATA:
        raise BadArchive("its metadata is too large")
    return content
