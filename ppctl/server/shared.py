"""A small table of times that all workers of an index share: a file of fixed size.

The times are of the machine's monotonic clock, which all processes have in common. What is in it may be lost
at any time, and is no secret. It is read and written, not mapped: a file that somebody cuts short under a
mapping kills the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import struct
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

_ENTRY = struct.Struct("<Qd")
_WAYS = 8
_SET = _WAYS * _ENTRY.size
_SALT = 16


class Table:
    """Times by key, about `slots` of them: of too many, the earliest is forgotten.

    For many threads and workers. Without a `path`, or where the file cannot be had (disk full, read-only),
    it is this process' own.
    """

    def __init__(self, path: Path | None, slots: int) -> None:
        self._sets = max(1, slots // _WAYS)
        self._lock = threading.Lock()
        self._file = _open(path, _SALT + self._sets * _SET)
        weakref.finalize(self, os.close, self._file)
        self._salt = os.pread(self._file, _SALT, 0)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other threads and workers from the table meanwhile; `get` and `put` are for in here."""
        # Not flock: a lock of POSIX ends with its process, though gunicorn's arbiter has the file open, too.
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)

    def get(self, key: str, latest: float) -> float:
        """Return the time of a key; 0.0 for none.

        What is after `latest` is from before the machine was started, and is none.
        """
        mark, _, entries = self._find(key)
        return next((_valid(time, latest) for found, time in entries if found == mark), 0.0)

    def put(self, key: str, time: float, latest: float) -> None:
        """Set the time of a key; 0.0 forgets it."""
        mark, offset, entries = self._find(key)
        # Its own place, or the one with the earliest time: a free one, if there is any.
        place = min(range(_WAYS), key=lambda n: (entries[n][0] != mark, _valid(entries[n][1], latest)))
        with contextlib.suppress(OSError):
            os.pwrite(self._file, _ENTRY.pack(mark, time), offset + place * _ENTRY.size)

    def _find(self, key: str) -> tuple[int, int, list[tuple[int, float]]]:
        """Return what stands for a key, where its set is, and what is in that."""
        digest = hashlib.blake2b(
            key.encode("utf-8", "surrogatepass"), key=self._salt, digest_size=16
        ).digest()
        number, mark = struct.unpack("<QQ", digest)
        offset = _SALT + number % self._sets * _SET
        content = b""
        with contextlib.suppress(OSError):
            content = os.pread(self._file, _SET, offset)
        return mark, offset, list(_ENTRY.iter_unpack(content.ljust(_SET, b"\0")))


def _open(path: Path | None, size: int) -> int:
    """Return a file of this size that begins with a salt, made where there is none."""
    with contextlib.suppress(OSError):
        if path is not None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            return _prepared(os.open(path, flags, 0o600), size)
    return _prepared(os.memfd_create("ppctl-table"), size)


def _prepared(file: int, size: int) -> int:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX)
        if os.fstat(file).st_size != size:
            os.ftruncate(file, 0)
            os.posix_fallocate(file, 0, size)
            os.pwrite(file, secrets.token_bytes(_SALT), 0)
        fcntl.lockf(file, fcntl.LOCK_UN)
    except BaseException:
        os.close(file)
        raise
    return file


def _valid(time: float, latest: float) -> float:
    return time if 0.0 < time <= latest else 0.0
