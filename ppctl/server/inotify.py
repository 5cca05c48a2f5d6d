"""The kernel's notes about changes in directories (inotify(7)), through the C library."""

from __future__ import annotations

import errno
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ATTRIBUTES = 0x4
CLOSED_AFTER_WRITING = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATED = 0x100
DELETED = 0x200
DELETED_SELF = 0x400
MOVED_SELF = 0x800
UNMOUNTED = 0x2000
OVERFLOW = 0x4000
IGNORED = 0x8000
IS_DIRECTORY = 0x40000000

_ONLY_DIRECTORIES = 0x01000000
_DO_NOT_FOLLOW = 0x02000000
_WANTED = (
    ATTRIBUTES
    | CLOSED_AFTER_WRITING
    | MOVED_FROM
    | MOVED_TO
    | CREATED
    | DELETED
    | DELETED_SELF
    | MOVED_SELF
    | _ONLY_DIRECTORIES
    | _DO_NOT_FOLLOW
)
_HEADER = struct.Struct("iIII")
_BUFFER = 1 << 18


class Event(NamedTuple):
    """One note. `directory` is where, relative to the root; None with OVERFLOW: notes have been lost."""

    directory: str | None
    name: str
    mask: int


class Inotify:
    """Watches directories below `root`. Every method may raise OSError, as the kernel does."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._libc, self._errno = _libc()
        self._descriptor = self._call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)
        self._directories: dict[int, str] = {}
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._alarm, select.POLLIN)
        self._closing = threading.Lock()
        self._is_closed = False

    def add(self, directory: str) -> None:
        """Watch a directory, relative to the root. One that has gone, or may not be read, is none."""
        try:
            path = os.fsencode(self._root / directory)
            watch = self._call("inotify_add_watch", self._descriptor, path, _WANTED)
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES) and directory:
                return
            raise
        self._directories[watch] = directory

    def has(self, directory: str) -> bool:
        """Return whether a directory is watched."""
        return directory in self._directories.values()

    def forget(self, directory: str) -> None:
        """Stop watching a directory and those in it: it has been moved away."""
        for watch, known in list(self._directories.items()):
            if known == directory or known.startswith(f"{directory}/"):
                del self._directories[watch]
                self._libc.inotify_rm_watch(self._descriptor, watch)

    def wait(self, seconds: float) -> bool:
        """Wait until there are notes, for so long at most. Returns whether there are any."""
        return any(descriptor == self._descriptor for descriptor, _ in self._poll.poll(seconds * 1000))

    def wake(self) -> None:
        """Have `wait` return at once, now and from now on. For another thread."""
        with self._closing:
            if not self._is_closed:
                os.eventfd_write(self._alarm, 1)

    def read(self) -> list[Event]:
        """Return the notes that there are."""
        try:
            found = os.read(self._descriptor, _BUFFER)
        except BlockingIOError:
            return []
        return list(self._events(found))

    def close(self) -> None:
        """End watching."""
        with self._closing:
            self._is_closed = True
            os.close(self._alarm)
        os.close(self._descriptor)

    def _events(self, found: bytes) -> Iterator[Event]:
        at = 0
        while at < len(found):
            watch, mask, _cookie, length = _HEADER.unpack_from(found, at)
            at += _HEADER.size
            name = os.fsdecode(found[at : at + length].rstrip(b"\0"))
            at += length
            if mask & OVERFLOW:
                yield Event(None, "", mask)
            elif watch in self._directories:
                yield Event(self._directories[watch], name, mask)
            if mask & IGNORED:
                self._directories.pop(watch, None)

    def _call(self, name: str, *values: Any) -> int:
        result: int = getattr(self._libc, name)(*values)
        if result < 0:
            number = self._errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")
        return result


def _libc() -> tuple[Any, Callable[[], int]]:
    """Return the C library of this process, and what tells its last error.

    Raises OSError where it has no inotify; MemoryError or ImportError where ctypes cannot be had.
    """
    # Here and not above: where no memory may be made executable (systemd's MemoryDenyWriteExecute), some
    # builds of Python cannot import it. That must cost the notes, not the worker.
    import ctypes

    found = ctypes.CDLL(None, use_errno=True)
    if not hasattr(found, "inotify_init1"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return found, ctypes.get_errno
