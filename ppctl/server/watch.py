"""Noticing what happens to the packages without the server: files copied in, replaced, deleted by hand.

One worker of an index watches (ppctl.server.election). It has the kernel's notes (inotify), and beside them
looks at the directories' times now and then and at everything every few minutes. Where there are no notes, or
the kernel's limit is reached, it looks at the times all the time.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ppctl.server import inotify, scan, store
from ppctl.server.catalogue import Catalogue
from ppctl.server.election import elected
from ppctl.server.inotify import Event, Inotify
from ppctl.server.reconcile import Reconciler

log = logging.getLogger("ppctl.server.watch")

GATHER_SECONDS = 0.1
"""How long notes are gathered: an upload by the server is in the catalogue before its notes are looked at."""

TICK_SECONDS = 0.5
POLL_SECONDS = 0.5
SAFETY_SECONDS = 20.0
FULL_SECONDS = 300.0

# Work is done in small pieces with pauses in which requests have the interpreter for themselves.
_PIECE_SECONDS = 0.02
_PAUSE_SECONDS = 0.004
_CHECKPOINT_SECONDS = 2.0
_RESTART_SECONDS = 1.0

# Changes that other machines make are not told by the kernel of this one.
_NETWORK = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "gluster", "lustre", "afs", "virtiofs", "vboxsf")
_ENDS = inotify.DELETED_SELF | inotify.MOVED_SELF | inotify.UNMOUNTED


class Watcher:
    """The watching thread of a worker, which answers on the socket `own`."""

    def __init__(self, catalogue: Catalogue, lock: Path, own: Path | None = None) -> None:
        self._catalogue = catalogue
        self._lock = lock
        self._own = own
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._session: Session | None = None
        self.is_watching = False

    def start(self) -> None:
        """Begin to watch, or to wait until the worker that watches ends."""
        self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """Stop watching; returns when that is done, or after so many seconds."""
        self._stopping.set()
        if self._session:
            self._session.wake()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with elected(self._lock, self._own, self._stopping) as is_chosen:
                    if not self._stopping.is_set():
                        self.is_watching = True
                        self._session = Session(self._catalogue, self._stopping, is_chosen)
                        self._session.run()
            except (OSError, sqlite3.Error) as e:
                log.warning("watching the packages: %s", e)
            except Exception:
                log.exception("watching the packages failed, and begins anew")
            self.is_watching = False
            self._stopping.wait(_RESTART_SECONDS)


class Session:
    """Watching from the first look at everything until told to stop, or until the directory is another.

    `is_chosen`: whether this worker is still the one to do it.
    """

    def __init__(
        self, catalogue: Catalogue, stopping: threading.Event, is_chosen: Callable[[], bool]
    ) -> None:
        self._catalogue = catalogue
        self._root = catalogue.packages
        self._stopping = stopping
        self._is_chosen = is_chosen
        self._reconciler = Reconciler(catalogue)
        self._notes: Inotify | None = None
        self._directories: dict[str, int | None] = {}
        self._identity: store.Identity | None = None
        self._is_over = False
        self._next_poll = self._next_full = self._next_checkpoint = 0.0
        self._version: object = None

    def run(self) -> None:
        """Watch. Raises OSError or sqlite3.Error when that is not possible."""
        self._identity = store.identity(self._root)
        try:
            self._notes = self._open_notes()
            while not self._stopping.is_set() and not self._is_over and self._is_chosen():
                self._round()
        finally:
            self._reconciler.close()
            if self._notes:
                self._notes.close()

    def wake(self) -> None:
        """Do not wait for notes any longer: it is to stop. For another thread."""
        if notes := self._notes:
            notes.wake()

    def _round(self) -> None:
        self._follow_notes()
        self._reconciler.has_notes = self._notes is not None
        self._look_around()
        if self._reconciler.work(_PIECE_SECONDS):
            self._stopping.wait(_PAUSE_SECONDS)
            return
        self._keep_catalogue()
        again = self._reconciler.next_check()
        self._wait(TICK_SECONDS if again is None else min(TICK_SECONDS, again))

    def _wait(self, seconds: float) -> None:
        if self._notes is None:
            self._stopping.wait(seconds)
        elif self._notes.wait(seconds):
            self._stopping.wait(GATHER_SECONDS)

    def _open_notes(self) -> Inotify | None:
        kind = scan.file_system(self._root)
        if kind.startswith(_NETWORK):
            log.info("%s is on %s: looking at it every %s s", self._root, kind, POLL_SECONDS)
            return None
        notes = None
        try:
            notes = Inotify(self._root)
            for directory in scan.directories(self._root):
                notes.add(directory)
        except (OSError, MemoryError, ImportError) as e:
            log.warning("no notes from the kernel (%s): looking at the packages every %s s", e, POLL_SECONDS)
            if notes:
                notes.close()
            return None
        return notes

    def _follow_notes(self) -> None:
        events: list[Event] = []
        while self._notes and (more := self._notes.read()):
            events += more
        paths: dict[str, None] = {}
        changed: dict[str, None] = {}
        for event in events:
            if event.directory is None or not scan.is_listed(event.name):
                continue
            if event.directory == "" and event.mask & _ENDS:
                self._is_over = True
            elif event.name:
                path = scan.join(event.directory, event.name)
                if event.mask & inotify.IS_DIRECTORY:
                    self._directory_event(path, event.mask)
                else:
                    self._file_event(path, event.mask, paths, changed)
        if any(event.directory is None for event in events):
            log.info("the kernel has lost notes: looking at everything")
            self._next_full = 0.0
            # After the notes that there are: one may be of the end of a directory that is back.
            for directory in scan.directories(self._root):
                self._add(directory)
        if paths or changed:
            self._reconciler.check(paths, changed)

    def _file_event(self, path: str, mask: int, paths: dict[str, None], changed: dict[str, None]) -> None:
        if mask & inotify.CLOSED_AFTER_WRITING:
            changed[path] = None
        elif mask & (inotify.MOVED_FROM | inotify.MOVED_TO | inotify.DELETED):
            paths[path] = None
        elif mask & inotify.CREATED:
            # A file that is being written is closed some time. A link is complete at once.
            with contextlib.suppress(OSError):
                if os.stat(self._root / path).st_nlink > 1 or os.path.islink(self._root / path):
                    paths[path] = None
        elif mask & inotify.ATTRIBUTES and self._reconciler.has_seen(path):
            paths[path] = None

    def _directory_event(self, directory: str, mask: int) -> None:
        if mask & (inotify.MOVED_FROM | inotify.DELETED) and self._notes:
            self._notes.forget(directory)
        # What is not watched could not be read when it came, and perhaps can now.
        is_opened = mask & inotify.ATTRIBUTES and self._notes and not self._notes.has(directory)
        if mask & (inotify.CREATED | inotify.MOVED_TO) or is_opened:
            # Watched first, looked at afterwards: nothing falls between.
            for found in scan.directories(self._root, directory):
                self._add(found)
            for found in scan.directories(self._root, directory):
                self._at_leisure(self._reconciler.check_directory(found))
        elif mask & (inotify.MOVED_FROM | inotify.DELETED):
            for known in self._catalogue.directories():
                if known == directory or known.startswith(f"{directory}/"):
                    self._at_leisure(self._reconciler.check_directory(known))

    def _add(self, directory: str) -> None:
        if self._notes is None:
            return
        try:
            self._notes.add(directory)
        except OSError as e:
            log.warning("no notes from the kernel any more (%s): looking every %s s", e, POLL_SECONDS)
            self._notes.close()
            self._notes = None
            self._next_poll = 0.0

    def _look_around(self) -> None:
        """Look at everything when it is time, else at the directories whose time has changed."""
        now = time.monotonic()
        # The kernel has no note of a disk that is mounted over it.
        if self._identity is None or store.identity(self._root) != self._identity:
            self._is_over = True
        if now >= self._next_full:
            self._directories = {
                found: scan.settled_time(self._root / found) for found in scan.directories(self._root)
            }
            self._at_leisure(self._reconciler.check_all())
            _give_memory_back()
            self._next_full = time.monotonic() + FULL_SECONDS
        elif now >= self._next_poll:
            for directory in self._changed_directories():
                self._at_leisure(self._reconciler.check_directory(directory, quick=True))
        else:
            return
        # A huge directory is not looked at all the time.
        took = time.monotonic() - now
        self._next_poll = time.monotonic() + max(
            POLL_SECONDS if self._notes is None else SAFETY_SECONDS, 4 * took
        )

    def _changed_directories(self) -> list[str]:
        found = []
        for directory in list(self._directories):
            before = self._directories[directory]
            modified = scan.settled_time(self._root / directory)
            if before is not None and before == modified:
                continue
            found.append(directory)
            if not os.path.isdir(self._root / directory):
                del self._directories[directory]
                continue
            self._directories[directory] = modified
            for new in scan.directories(self._root, directory):
                if new not in self._directories:
                    self._directories[new] = None
                    self._add(new)
                    found.append(new)
        return found

    def _keep_catalogue(self) -> None:
        """Make a new catalogue when it has been deleted, and move what was committed into place."""
        if not self._catalogue.is_in_place():
            self._catalogue.rebuild()
            self._next_full = 0.0
        now = time.monotonic()
        if now >= self._next_checkpoint:
            self._next_checkpoint = now + _CHECKPOINT_SECONDS
            version = self._catalogue.version()
            if version != self._version:
                self._version = version
                self._catalogue.checkpoint()

    def _at_leisure(self, work: Iterator[None]) -> None:
        for _ in work:
            self._stopping.wait(_PAUSE_SECONDS)


def _give_memory_back() -> None:
    """Let the kernel have what a look at many files took, where the C library can (malloc_trim(3))."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
