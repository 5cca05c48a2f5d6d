"""The catalogue's file that is used: opened when it is first asked, and anew when another one has its place.

A broken one is replaced without the caller noticing.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ppctl.server import changes, store
from ppctl.server.answers import MustWait
from ppctl.server.store import Store

T = TypeVar("T")
Version = tuple[int, int]

_IS_BUSY = ("is locked", "is full")


class CurrentStore:
    """What is at `path`, made of the package files under `packages`. For many threads.

    It is opened, or made, when it is first used: not before a fork. Every method may raise sqlite3.Error or
    OSError when the disk is full or does not answer.
    """

    def __init__(self, path: Path, packages: Path) -> None:
        self.path = path
        self.packages = packages
        self._name = str(path)  # asked about in every request
        self._store: Store | None = None
        self._opening = threading.Lock()

    def open(self) -> None:
        """Open the catalogue now; makes it when there is none."""
        self._current()

    def is_in_place(self) -> bool:
        """Return whether the file that is used is still the one at the path."""
        used = self._store
        return used is not None and store.identity(self.path) == used.identity

    def rebuild(self) -> None:
        """Open the catalogue anew; makes one where it has been deleted."""
        self._current(broken=self._store)

    def version(self, *, wait: bool = True) -> Version:
        """Return a value that is another one whenever anything has been committed since.

        What has been asked with `wait=False` cannot be compared with what has been asked without.
        """
        if wait:
            return self._reading(lambda used: _version(used, used.reader))
        return self._at_once(lambda used: _version(used, used.quick))

    def checkpoint(self) -> None:
        """Move what has been committed from the log to the database."""
        used = self._current()
        with used.write_lock:
            used.writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def _reading(self, work: Callable[[Store], T]) -> T:
        broken = None
        while True:
            used = self._current(broken)
            try:
                with used.read_lock:
                    return work(used)
            except sqlite3.Error as e:
                if broken is not None or not _is_broken(e):
                    raise
                broken = used

    def _at_once(self, work: Callable[[Store], T]) -> T:
        used = self._store
        if used is None or not _is_same(used, self._name):
            raise MustWait
        try:
            return work(used)
        except sqlite3.Error as e:
            raise MustWait from e

    def _writing(self, work: changes.Work) -> None:
        broken = None
        while True:
            used = self._current(broken)
            # Nobody makes a new one meanwhile, of a look at the disk that was too early for this change.
            with store.locked(self.path, fcntl.LOCK_SH):
                if not _is_same(used, self._name):
                    continue
                try:
                    with used.write_lock:
                        changes.commit(used.writer, work)
                except sqlite3.Error as e:
                    if broken is not None or not _is_broken(e):
                        raise
                    broken = used
                else:
                    return

    def _current(self, broken: Store | None = None) -> Store:
        used = self._store
        if used is not None and used is not broken and _is_same(used, self._name):
            return used
        with self._opening:
            used = self._store
            if used is None or used is broken or not _is_same(used, self._name):
                bad = broken.identity if broken else None
                self._store = used = store.open_store(self.path, self.packages, bad)
            return used


def _version(used: Store, asked: sqlite3.Connection) -> Version:
    found: int = asked.execute("PRAGMA data_version").fetchone()[0]
    # Not the file's identity: the kernel gives the number of a deleted file to a new one.
    return used.number, found


def _is_same(used: Store, path: str) -> bool:
    """Return whether no other catalogue has taken the place of the one that is used.

    One that has been deleted is used until the watcher has made a new one: all workers have the same.
    """
    return store.identity(path) in (None, used.identity)


def _is_broken(error: sqlite3.Error) -> bool:
    """Return whether a new catalogue would help: not when the disk is full, others write, or we are wrong."""
    is_ours = isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError))
    return not is_ours and not any(word in str(error) for word in _IS_BUSY)
