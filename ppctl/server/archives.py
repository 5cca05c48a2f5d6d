"""Looking into archives that anybody may have made: in bounded time and memory, whatever they claim to be.

Nothing is unpacked to the disk, and of tar only what is needed is understood: a member's name, type and size.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Protocol

MAX_ZIP_DIRECTORY = 32 << 20
MAX_ZIP_ENTRIES = 100_000

MAX_UNPACKED = 64 << 20
"""How much of a tar archive is unpacked."""

BOMB_RATIO = 200
"""What grows more than so many times when it is unpacked, beyond MAX_UNPACKED, is no honest archive."""

MAX_XZ_MEMORY = 80 << 20
"""xz lets the archive say how much memory unpacking takes; 65 MB is what `xz -9` says."""

_END_OF_ZIP = b"PK\x05\x06"
_END_OF_ZIP64 = b"PK\x06\x06"
_TAR_BLOCK = 512
_BLOCK = 1 << 16
# Longer names, and attributes, are told by members of their own before the one they are about.
_MAX_ABOUT = 1 << 20
_REGULAR = b"0\0007"


class BadArchive(ValueError):
    """It is no such archive, or a broken one. The message says why."""


class TooLarge(BadArchive):
    """It goes on after MAX_UNPACKED. `is_bomb`: it was packed as no honest one is."""

    def __init__(self, packed: int) -> None:
        super().__init__(f"it has more than {MAX_UNPACKED >> 20} MB before anything that describes it")
        self.is_bomb = packed * BOMB_RATIO < MAX_UNPACKED


class Stream(Protocol):
    """What can be read."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""


class Member(NamedTuple):
    """A regular file in a tar archive."""

    name: str
    size: int


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """Open an archive. Raises BadArchive, also when its directory alone would take too much memory."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 22 - 20 - 56))
    end = file.read()
    at, at64 = end.rfind(_END_OF_ZIP), end.rfind(_END_OF_ZIP64)
    if at < 0 or len(end) < at + 22:
        raise BadArchive("not a zip archive")
    entries, length, begin = struct.unpack_from("<HLL", end, at + 10)
    if at64 >= 0 and len(end) >= at64 + 56:
        entries, length, begin = struct.unpack_from("<QQQ", end, at64 + 32)
    if entries > MAX_ZIP_ENTRIES or length > MAX_ZIP_DIRECTORY:
        raise BadArchive("the archive's directory is too large")
    archive = zipfile.ZipFile(file)
    if archive.start_dir < begin:
        raise BadArchive("a piece of it is missing")
    return archive


class Tar:
    """A packed tar archive, read once from its beginning. `kind`: how it is packed, as in `tar.<kind>`."""

    def __init__(self, file: BinaryIO, kind: str) -> None:
        self._file = file
        self._packed = file.seek(0, os.SEEK_END)
        file.seek(0)
        self._stream = _unpacked(file, kind)
        self._left = MAX_UNPACKED
        # What is left of the member's content, and of it with what fills its last block up.
        self._content = self._rest = 0

    def members(self) -> Iterator[Member]:
        """Yield the regular files. Raises BadArchive and what the unpacking raises."""
        name: str | None = None
        while len(header := self._take(_TAR_BLOCK)) == _TAR_BLOCK and header.strip(b"\0"):
            size, kind = _size(header), header[156:157]
            self._content, self._rest = size, -(-size // _TAR_BLOCK) * _TAR_BLOCK
            if kind in b"LxK" and size <= _MAX_ABOUT:
                name = _told_name(kind, self._take(size)) or name
            elif kind == b"S":
                self._pass_over_map(header[482:483])
            elif kind in _REGULAR:
                yield Member(_name(header) if name is None else name, size)
            if kind not in b"LxKg":
                name = None
            while self._rest:
                self._take(min(self._rest, _BLOCK))

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes of the member that has been yielded last."""
        found = self._take(min(size, self._content))
        self._content -= len(found)
        return found

    def finish(self) -> None:
        """Read what is left, up to MAX_UNPACKED, to see that it is whole. Raises what `members` raises."""
        self._rest = 0
        try:
            while self._take(_BLOCK):
                pass
        except TooLarge as e:
            if e.is_bomb:
                raise
        except gzip.BadGzipFile as e:
            # What follows a whole archive is padding: old upload commands add some.
            if "Not a gzipped file" not in str(e):
                raise

    def _take(self, size: int) -> bytes:
        found = []
        while size > 0 and (more := self._stream.read(min(size, _BLOCK))):
            found.append(more)
            size -= len(more)
            self._left -= len(more)
            if self._left < 0:
                raise TooLarge(min(self._file.tell(), self._packed))
        content = b"".join(found)
        if self._rest and size > 0:
            raise BadArchive("it is cut off")
        self._rest -= min(self._rest, len(content))
        return content

    def _pass_over_map(self, more: bytes) -> None:
        """Pass over the further blocks that say where a sparse file has holes (GNU)."""
        rest, self._rest = self._rest, 0
        while more != b"\0":
            block = self._take(_TAR_BLOCK)
            if len(block) < _TAR_BLOCK:
                raise BadArchive("it is cut off")
            more = block[504:505]
        self._rest = rest


def _unpacked(file: BinaryIO, kind: str) -> Stream:
    if kind == "xz":
        return _Xz(file)
    return bz2.BZ2File(file) if kind == "bz2" else gzip.GzipFile(fileobj=file)


class _Xz:
    """What LZMAFile does, with a limit of the memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._unpacker = lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY)

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes. Raises LZMAError, also when it would take too much memory."""
        while not self._unpacker.eof:
            wants = self._unpacker.needs_input
            packed = self._file.read(_BLOCK) if wants else b""
            if wants and not packed:
                raise BadArchive("it is cut off")
            found = self._unpacker.decompress(packed, size)
            if found:
                return found
        return b""


def _size(header: bytes) -> int:
    field = header[124:136]
    if field[0] & 0x80:  # GNU: larger than eleven octal digits can say
        return int.from_bytes(field[1:], "big")
    text = field.split(b"\0")[0].strip()
    if text and not text.isdigit():
        raise BadArchive("not a tar archive")
    return int(text or b"0", 8)


def _name(header: bytes) -> str:
    name, prefix = (field.split(b"\0")[0] for field in (header[:100], header[345:500]))
    is_posix = header[257:263] == b"ustar\0" and prefix
    return (prefix + b"/" + name if is_posix else name).decode("utf-8", "replace")


def _told_name(kind: bytes, content: bytes) -> str | None:
    """Return the next member's name that is told by a member of this kind: GNU's L, pax' x."""
    if kind == b"L":
        return content.split(b"\0")[0].decode("utf-8", "replace")
    while kind == b"x" and content:
        # Records of `LENGTH KEY=VALUE`, each with a line end (pax, "pax Extended Header").
        length, _, _ = content[:12].partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(content):
            raise BadArchive("not a tar archive")
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        if key == b"path":
            return value.decode("utf-8", "replace")
        content = content[int(length) :]
    return None
