"""How the catalogue is changed: in transactions that number the changes of every project they touch."""

from __future__ import annotations

import gzip
import hashlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from ppctl.server import names, scan
from ppctl.server.metadata import Metadata
from ppctl.server.scan import Stamp

_PUT = """
INSERT INTO files (path, directory, name, project, pkgname, version, release, sort, sidecar,
                   size, mtime_ns, inode, sha256, about_sha256, requires_python, metadata_sha256,
                   metadata_listed)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET
    size = excluded.size, mtime_ns = excluded.mtime_ns, inode = excluded.inode, sha256 = excluded.sha256,
    about_sha256 = excluded.about_sha256, requires_python = excluded.requires_python,
    metadata_sha256 = excluded.metadata_sha256, metadata_listed = excluded.metadata_listed
"""


@dataclass(frozen=True)
class Entry:
    """What is entered about a file whose content is known.

    `about_sha256` is the hash of the file that a provenance is about.
    """

    path: str
    stamp: Stamp
    sha256: str
    metadata: Metadata | None = None
    about_sha256: str | None = None


Work = Callable[[sqlite3.Connection], set[str]]


def commit(db: sqlite3.Connection, work: Work) -> None:
    """Do `work`, which returns the projects that it has touched, in one transaction. Raises sqlite3.Error."""
    db.execute("BEGIN IMMEDIATE")
    try:
        touched = work(db)
        if touched:
            _number(db, touched)
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def put(db: sqlite3.Connection, entry: Entry) -> set[str]:
    """Enter a file, or what is new about it. A file that pypiserver would not list is left out."""
    said = names.parse(entry.path)
    if said is None:
        return set()
    about = entry.metadata
    found: tuple[str | None, str | None, int] = (None, None, 0)
    if about:
        digest = hashlib.sha256(about.body).hexdigest()
        found = (about.requires_python, digest, int(about.is_reliable))
    hashes = (entry.sha256, entry.about_sha256)
    db.execute(_PUT, (entry.path, *scan.split(entry.path), *said, *entry.stamp, *hashes, *found))
    number = db.execute("SELECT id FROM files WHERE path = ?", (entry.path,)).fetchone()
    db.execute("DELETE FROM metadata WHERE id = ?", number)
    if about:
        # Level 6 without a time: the same metadata has the same bytes, whoever has entered it.
        body = gzip.compress(about.body, 6, mtime=0)
        db.execute("INSERT INTO metadata VALUES (?, ?)", (*number, body))
    return {said.project}


def remove(db: sqlite3.Connection, path: str) -> set[str]:
    """Forget a file."""
    found = db.execute("SELECT id, project FROM files WHERE path = ?", (path,)).fetchone()
    if found is None:
        return set()
    db.execute("DELETE FROM metadata WHERE id = ?", found[:1])
    db.execute("DELETE FROM files WHERE id = ?", found[:1])
    return {found[1]}


def _number(db: sqlite3.Connection, touched: set[str]) -> None:
    """Give the touched projects the number of this change; note whether their names have changed."""
    db.execute("UPDATE changes SET last = last + 1")
    change: int = db.execute("SELECT last FROM changes").fetchone()[0]
    is_changed = False
    for project in touched:
        was = db.execute("SELECT 1 FROM projects WHERE name = ?", (project,)).fetchone()
        # What belongs to a file is none: a signature alone makes no project.
        has = db.execute(
            "SELECT 1 FROM files WHERE project = ? AND sidecar = '' LIMIT 1", (project,)
        ).fetchone()
        is_changed = is_changed or was != has
        # One that is gone keeps its number: who has its page has to hear of it.
        entered, left = ("projects", "gone") if has else ("gone", "projects")
        db.execute(f"INSERT OR REPLACE INTO {entered} VALUES (?, ?)", (project, change))  # noqa: S608
        db.execute(f"DELETE FROM {left} WHERE name = ?", (project,))  # noqa: S608
    if is_changed:
        db.execute("UPDATE changes SET names = ?", (change,))
