"""A file that is read again when it has changed: htpasswd, permissions, what is said about projects."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from ppctl.server.answers import MustWait
from ppctl.server.moment import Once

T = TypeVar("T")

_FileId = tuple[int, int, int, int]


class Followed(Generic[T]):
    """What `parse` makes of the content of the file `path`. Safe to use from many threads."""

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        self.path = path
        self._name = str(path)  # asked about in every request
        self._parse = parse
        self._lock = threading.Lock()
        # What it was when it was read, and what it said; None: it may have changed meanwhile.
        self._known: tuple[_FileId, T] | None = None
        self._id_at_once = Once(self._look_for)

    def get(self, *, wait: bool = True) -> T:
        """Return what the file says now. Raises OSError, and ValueError when it makes no sense.

        `wait=False` is for the event loop: it raises MustWait when the file has to be read.
        """
        seen = self._look() if wait else self._id_at_once.get()
        if seen is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._name)
        known = self._known
        if known is not None and known[0] == seen:
            return known[1]
        if not wait:
            raise MustWait
        return self._read()

    def state(self) -> object:
        """Return what does not equal what it was before when the file has changed. For the event loop.

        Raises OSError, and MustWait when the file has to be read.
        """
        seen = self._look_for()
        known = self._known
        if seen is not None and (known is None or known[0] != seen):
            raise MustWait
        return seen

    def _look(self) -> _FileId:
        return _file_id(os.stat(self._name))

    def _look_for(self) -> _FileId | None:
        try:
            return self._look()
        except FileNotFoundError:
            return None

    def _read(self) -> T:
        with self._lock, open(self._name, "rb") as file:
            self._known = None
            found = os.fstat(file.fileno())
            said = self._parse(file.read())
            # Times are only as fine as the kernel's clock ticks: a file that has just been written may be
            # written once more without looking any different. So it is read again until it has settled.
            if abs(time.time() - max(found.st_mtime, found.st_ctime)) > 1:
                self._known = _file_id(found), said
            return said


def _file_id(found: os.stat_result) -> _FileId:
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
