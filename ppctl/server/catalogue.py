"""What the index has, looked up by key: files, projects, hashes, metadata. Shared by the workers.

An upload is committed before it is answered, and every request asks first whether anything was committed: so
what one worker has stored is on the pages of all of them in the next request.
"""

from __future__ import annotations

import contextlib
import gzip
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ppctl.server import changes, metadata, names, scan, store
from ppctl.server.changes import Entry
from ppctl.server.current import CurrentStore
from ppctl.server.scan import Stamp

_FILE = (
    "path, name, project, pkgname, version, release, size, mtime_ns, inode, sha256, requires_python,"
    " metadata_sha256, metadata_listed,"
    " EXISTS (SELECT 1 FROM files AS s WHERE s.path = f.path || '.asc'),"
    # A provenance about another content, of a file that was replaced by hand perhaps, is none.
    " EXISTS (SELECT 1 FROM files AS s WHERE s.path = f.path || '.provenance' AND s.about_sha256 = f.sha256)"
)


class File(NamedTuple):
    """A file as the catalogue knows it. `sha256` is None as long as it has not been hashed.

    `metadata_sha256` is that of the metadata that can be asked for; `metadata_listed` whether clients may
    rely on it (see ppctl.server.metadata); `has_signature`, `has_provenance` whether such sidecars are there.
    """

    path: str
    name: str
    project: str
    pkgname: str
    version: str
    release: str
    size: int
    mtime_ns: int
    inode: int
    sha256: str | None
    requires_python: str | None
    metadata_sha256: str | None
    metadata_listed: int
    has_signature: int = 0
    has_provenance: int = 0

    @property
    def stamp(self) -> Stamp:
        """Return what the file looked like when it was entered."""
        return Stamp(self.size, self.mtime_ns, self.inode)


class Catalogue(CurrentStore):
    """The catalogue in `directory` of the package files under `packages`. For many threads.

    Every method may raise sqlite3.Error or OSError when the disk is full or does not answer.
    `remember` is told the names of projects before they come and before they go.
    `wait=False` is for the event loop, and for no other thread: it waits for none, but raises MustWait.
    """

    def __init__(
        self, directory: Path, packages: Path, remember: Callable[[set[str]], None] = lambda _: None
    ) -> None:
        super().__init__(directory / f"catalogue-{store.VERSION}.db", packages)
        self._remember = remember

    def has(self, project: str) -> bool:
        """Return whether a project has files."""
        return self._one("SELECT 1 FROM projects WHERE name = ?", project) is not None

    def last_changes(self) -> tuple[int, int]:
        """Return the number of the last change, and of the last one that was to the projects' names."""
        found: tuple[int, int] = self._one("SELECT last, names FROM changes")
        return found

    def changed_since(self, number: int) -> list[str]:
        """Return the projects that have changed since the change of this number, also those that went."""
        query = "SELECT name FROM projects WHERE change > ? UNION ALL SELECT name FROM gone WHERE change > ?"
        return [name for (name,) in self._all(query, number, number)]

    def projects(self) -> list[str]:
        """Return the names of all projects, sorted."""
        # In one row: for each row, threads would wait for the interpreter's lock. No name has a slash.
        (found,) = self._one("SELECT group_concat(name, '/') FROM projects")
        return sorted(found.split("/")) if found else []

    def files(self, project: str) -> list[File]:
        """Return the files of a project by version and path, as pypiserver sorts them."""
        query = f"SELECT {_FILE} FROM files AS f WHERE project = ? AND sidecar = '' ORDER BY sort, path"  # noqa: S608
        return [File(*row) for row in self._all(query, project)]

    def file(self, path: str, *, wait: bool = True) -> File | None:
        """Return the file at a path relative to the packages; None when it is not known."""
        query = f"SELECT {_FILE} FROM files AS f WHERE path = ?"  # noqa: S608
        row = self._one(query, path, wait=wait)
        return File(*row) if row else None

    def paths(self, name: str) -> list[str]:
        """Return the paths of the files of this name, in whatever directories."""
        return [path for (path,) in self._all("SELECT path FROM files WHERE name = ?", name)]

    def metadata(self, path: str, *, wait: bool = True) -> bytes | None:
        """Return the metadata of a file, gzipped; None when there is none."""
        query = "SELECT gzipped FROM metadata JOIN files USING (id) WHERE path = ?"
        found = self._one(query, path, wait=wait)
        return found[0] if found else None

    def count(self) -> int:
        """Return the number of files."""
        found: int = self._all("SELECT count(*) FROM files WHERE sidecar = ''")[0][0]
        return found

    def all_files(self) -> Iterator[File]:
        """Yield every file by directory, name of the project and version, as pypiserver sorts them."""
        query = (
            f"SELECT {_FILE} FROM files AS f WHERE sidecar = ''"  # noqa: S608
            " ORDER BY directory, pkgname, sort, path"
        )
        # A connection of its own: an answer that is fetched slowly would keep this one in the past.
        if not self.is_in_place():
            self.rebuild()
        with contextlib.closing(store.connect(self.path)) as db:
            for row in db.execute(query):
                yield File(*row)

    def stamps(self, paths: Collection[str]) -> dict[str, Stamp]:
        """Return what those of the files at `paths`, a few hundred, that are known looked like."""
        marks = ", ".join("?" * len(paths))
        query = f"SELECT path, size, mtime_ns, inode FROM files WHERE path IN ({marks})"  # noqa: S608
        return {path: Stamp(*found) for path, *found in self._all(query, *paths)}

    def count_in(self, directory: str) -> int:
        """Return the number of files in one directory, without those in its own."""
        found: int = self._one("SELECT count(*) FROM files WHERE directory = ?", directory)[0]
        return found

    def paths_in(self, directory: str, limit: int) -> Iterator[list[str]]:
        """Yield the paths of the files in one directory, up to `limit` at once."""
        query = "SELECT id, path FROM files WHERE directory = ? AND id > ? ORDER BY id LIMIT ?"
        last = 0
        while found := self._all(query, directory, last, limit):
            last = found[-1][0]
            yield [path for _, path in found]

    def directories(self) -> list[str]:
        """Return the directories that have files."""
        return [found for (found,) in self._all("SELECT DISTINCT directory FROM files")]

    def without_hash(self, limit: int) -> list[str]:
        """Return some of the files that have not been hashed, small ones first."""
        query = "SELECT path FROM files WHERE sha256 IS NULL ORDER BY size LIMIT ?"
        return [path for (path,) in self._all(query, limit)]

    def same_content(self, found: Stamp) -> Entry | None:
        """Return what is known about a file that looks like this, wherever it was: it has only been moved."""
        query = (
            "SELECT path, sha256, about_sha256 FROM files"
            " WHERE inode = ? AND size = ? AND mtime_ns = ? AND sha256 NOTNULL"
        )
        row = self._one(query, found.inode, found.size, found.mtime_ns)
        if row is None:
            return None
        body = self.metadata(row[0])
        about = metadata.parse(gzip.decompress(body), row[0]) if body else None
        return Entry(row[0], found, row[1], about, row[2])

    def put(self, entries: Sequence[Entry], gone: Sequence[str] = ()) -> None:
        """Enter files, or what is new about them; forget those that are `gone`. All or none.

        What is not so on the disk is left out: since the caller has looked there, or changed it, another one
        has stored or removed the file, and enters that himself.
        """

        def work(db: sqlite3.Connection) -> set[str]:
            # In the transaction: who changes the file after this look enters it after this entry.
            kept = [entry for entry in entries if self._look(entry.path) == entry.stamp]
            left = [path for path in gone if self._look(path) is None]
            come: set[str] = set().union(*(changes.put(db, entry) for entry in kept))
            # Also those that came in with a new catalogue: from now on nothing else tells that they were
            # here. Not those that were removed before: meanwhile an operator may have let the name go.
            went: set[str] = set().union(*(changes.remove(db, path) for path in left))
            said = (names.parse(entry.path) for entry in kept)
            self._remember({each.project for each in said if each and not each.sidecar} | went)
            return come | went

        self._writing(work)

    def remove(self, paths: Iterable[str]) -> None:
        """Forget files that have been removed. Unknown ones are none."""
        self.put((), list(paths))

    def _look(self, path: str) -> Stamp | None:
        return scan.look(self.packages / path)

    def _all(self, query: str, *values: object) -> list[Any]:
        return self._reading(lambda used: used.reader.execute(query, values).fetchall())

    def _one(self, query: str, *values: object, wait: bool = True) -> Any:
        if wait:
            return self._reading(lambda used: used.reader.execute(query, values).fetchone())
        return self._at_once(lambda used: used.quick.execute(query, values).fetchone())
