"""A file that is read again when it has changed: htpasswd, permissions, what is said about projects."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_FileId = tuple[int, int, int, int]


class Followed(Generic[T]):
    """What `parse` makes of the content of the file `path`. Safe to use from many threads."""

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        self.path = path
        self._name = str(path)  # asked about in every request
        self._parse = parse
        self._lock = threading.Lock()
        self._id: _FileId | None = None
        self._found: T

    def get(self) -> T:
        """Return what the file says now. Raises OSError, and ValueError when it makes no sense."""
        if self._id is None or _file_id(os.stat(self._name)) != self._id:
            self._read()
        return self._found

    def _read(self) -> None:
        with self._lock, open(self._name, "rb") as file:
            self._id = None
            found = os.fstat(file.fileno())
            self._found = self._parse(file.read())
            # Times are only as fine as the kernel's clock ticks: a file that has just been written may be
            # written once more without looking any different. So it is read again until it has settled.
            if abs(time.time() - max(found.st_mtime, found.st_ctime)) > 1:
                self._id = _file_id(found)


def _file_id(found: os.stat_result) -> _FileId:
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
