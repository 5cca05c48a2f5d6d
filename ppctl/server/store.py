"""The catalogue's file: an SQLite database in WAL mode, shared by the workers, made anew when it is broken.

Everything in it is derived from the packages. So whatever is wrong with it (deleted, truncated, garbage), the
answer is always the same: a new file, filled from the disk, takes its place by a rename, and every worker
sees that its own is no longer the one at the path.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ppctl.server import changes, names, scan
from ppctl.server.digest import examine

log = logging.getLogger("ppctl.server.catalogue")

VERSION = 3
"""The number of the schema. It is in the file's name: during an upgrade two releases run side by side."""

BUSY_SECONDS = 10.0
HASH_SECONDS = 0.5
"""So long is spent on hashes before a new catalogue is used; the others follow."""

_SMALL = 8 << 20
# SQLite's words (sqlite3_errstr), since Python 3.10 tells no numbers.
_FAULTS = {
    "disk is full": errno.ENOSPC,
    "readonly database": errno.EROFS,
    "disk I/O error": errno.EIO,
    "unable to open database file": errno.EIO,
}
_CACHE_KB = 512

_SCHEMA = """
CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    directory TEXT NOT NULL,
    name TEXT NOT NULL,
    project TEXT NOT NULL,
    pkgname TEXT NOT NULL,
    version TEXT NOT NULL,
    release TEXT NOT NULL,
    sort BLOB NOT NULL,
    sidecar TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    sha256 TEXT,
    about_sha256 TEXT,
    requires_python TEXT,
    metadata_sha256 TEXT,
    metadata_listed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX files_by_project ON files (project, sort, path);
CREATE INDEX files_by_name ON files (name);
CREATE INDEX files_by_directory ON files (directory);
CREATE INDEX files_by_inode ON files (inode);
CREATE INDEX files_without_hash ON files (size) WHERE sha256 IS NULL;
CREATE TABLE metadata (id INTEGER PRIMARY KEY, gzipped BLOB NOT NULL);
CREATE TABLE projects (name TEXT PRIMARY KEY, change INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE gone (name TEXT PRIMARY KEY, change INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE changes (last INTEGER NOT NULL, names INTEGER NOT NULL);
INSERT INTO changes VALUES (1, 1);
"""

Identity = tuple[int, int]

_numbers = itertools.count()


class Store:
    """The connections of one worker to one catalogue file; `number` is another one for each that is opened.

    They are never closed by hand: another thread may be using them. They go when nobody refers to them.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raises sqlite3.Error when it is not there or not a catalogue."""
        self.number = next(_numbers)
        self.identity = identity(path)
        self.reader = connect(path)
        self.writer = connect(path)
        # For the event loop alone, which waits for no lock.
        self.quick = connect(path)
        # Commits never wait for a checkpoint: the watcher makes them.
        self.writer.execute("PRAGMA wal_autocheckpoint = 0")
        self.read_lock = threading.Lock()
        self.write_lock = threading.Lock()
        self.reader.execute("SELECT last FROM changes").fetchone()[0]


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to the existing file `path`. Raises sqlite3.Error."""
    found = sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    # After a power cut the last changes may be missing; they are found again.
    found.execute("PRAGMA synchronous = NORMAL")
    # The kernel has the file in memory, once for all workers.
    found.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
    return found


def identity(path: Path | str) -> Identity | None:
    """Return what tells this file from another one at the same path; None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def error_number(error: BaseException) -> int | None:
    """Return the errno of what the system has refused, to us or to SQLite; None for other errors."""
    if isinstance(error, OSError):
        return error.errno
    if not isinstance(error, sqlite3.OperationalError):
        return None
    return next((number for words, number in _FAULTS.items() if words in str(error)), None)


def open_store(path: Path, packages: Path, broken: Identity | None = None) -> Store:
    """Open the catalogue `path` of the directory `packages`; make a new one where there is none.

    `broken` is the identity of one that is known to be unusable. Raises sqlite3.Error or OSError when a new
    one cannot be made either (disk full).
    """
    with locked(path, fcntl.LOCK_EX):
        if identity(path) not in (None, broken):
            try:
                return Store(path)
            except (sqlite3.Error, TypeError) as e:
                log.warning("the catalogue %s cannot be used: %s", path, e)
        _make(path, packages)
        return Store(path)


@contextlib.contextmanager
def locked(path: Path, how: int) -> Iterator[None]:
    """Keep others from making the catalogue meanwhile; with LOCK_EX also from opening and changing it."""
    lock = path.with_suffix(".lock")
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, how)
            found = os.fstat(descriptor)
            if identity(lock) == (found.st_dev, found.st_ino):  # not deleted with the catalogue meanwhile
                yield
                return
        finally:
            os.close(descriptor)


def _make(path: Path, packages: Path) -> None:
    temporary = path.with_suffix(".new")
    _remove(temporary)
    # For the workers only: it names packages that perhaps not every user of this machine may list.
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as made:
        # Made to last only when it is complete.
        made.execute("PRAGMA synchronous = OFF")
        made.executescript(f"BEGIN; {_SCHEMA}")
        count = _fill(made, packages)
        _hash_some(made, packages)
        made.execute("COMMIT")
        made.execute("PRAGMA journal_mode = WAL")
    for ending in ("-wal", "-shm"):
        Path(f"{path}{ending}").unlink(missing_ok=True)
    temporary.rename(path)
    log.info("made a new catalogue of %d files: %s", count, path)


def _remove(path: Path) -> None:
    for ending in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{ending}").unlink(missing_ok=True)


def _fill(made: sqlite3.Connection, packages: Path) -> int:
    """Enter the files by their names; the watcher hashes them later.

    For a while pages have links without a hash: better than no links, which would break installations.
    """
    made.executemany(
        "INSERT INTO files (path, directory, name, project, pkgname, version, release, sort, sidecar, size,"
        " mtime_ns, inode) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        _rows(packages),
    )
    made.execute("INSERT INTO projects SELECT DISTINCT project, 1 FROM files WHERE sidecar = ''")
    count: int = made.execute("SELECT count(*) FROM files").fetchone()[0]
    return count


def _hash_some(made: sqlite3.Connection, packages: Path) -> None:
    """Hash as many files as can be in a moment: all those of a small index."""
    until = time.monotonic() + HASH_SECONDS
    rows = made.execute("SELECT path FROM files WHERE size < ? ORDER BY size LIMIT 1000", (_SMALL,))
    for (path,) in rows.fetchall():
        if time.monotonic() > until:
            return
        with contextlib.suppress(OSError):
            entry = examine(packages, path)
            if entry:
                changes.put(made, entry)


def _rows(packages: Path) -> Iterator[tuple[object, ...]]:
    for directory in scan.directories(packages):
        with contextlib.suppress(OSError):
            for name, entry in scan.files(packages, directory):
                path = scan.join(directory, name)
                said = names.parse(path)
                found = scan.look(entry.path) if said else None
                if said and found:
                    yield (path, directory, name, *said, *found)
