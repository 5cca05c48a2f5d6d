"""pypiserver's backend: the packages on disk, looked up in the catalogue; uploads appear all at once.

Stock pypiserver writes into the final name, so that an upload under way is listed and served truncated, and
one that is broken off stays for ever.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import BinaryIO

from pypiserver.backend import Backend
from pypiserver.core import PkgFile

from ppctl.server import digest, drafts, metadata, scan, store
from ppctl.server.catalogue import Catalogue, File
from ppctl.server.changes import Entry
from ppctl.server.drafts import Draft
from ppctl.server.metadata import Metadata
from ppctl.server.names import SIDECARS, normalize

log = logging.getLogger("ppctl.server.backend")

_CHUNK = 1 << 20


class FileBackend(Backend):  # type: ignore[misc]
    """pypiserver's backend for a directory: looked up in the catalogue; uploads appear all at once."""

    def __init__(self, config: object, catalogue: Catalogue, *, overwrite: bool) -> None:
        super().__init__(config)
        self._catalogue = catalogue
        self._overwrite = overwrite
        self._packages = catalogue.packages.resolve()
        self._lock = catalogue.path.with_name(drafts.LOCK_NAME)

    def get_all_packages(self) -> Iterable[PkgFile]:
        """Yield every file."""
        return (self._package(file) for file in self._catalogue.all_files())

    def get_projects(self) -> Iterable[str]:
        """Return the normalised names of all projects."""
        return self._catalogue.projects()

    def find_project_packages(self, project: str) -> Iterable[PkgFile]:
        """Yield the files of a project, whose name may be in any form."""
        return (self._package(file) for file in self._catalogue.files(normalize(project)))

    def find_version(self, name: str, version: str) -> Iterable[PkgFile]:
        """Yield the files of a version; the name as it is in the files' names."""
        files = self._catalogue.files(normalize(name))
        return (self._package(f) for f in files if f.pkgname == name and f.version == version)

    def package_count(self) -> int:
        """Return the number of files."""
        return self._catalogue.count()

    def exists(self, filename: str) -> bool:
        """Return whether there is a file of this name, also in a sub-directory."""
        # One that has just been removed by hand is perhaps still known.
        return any(os.path.lexists(self._packages / p) for p in (filename, *self._catalogue.paths(filename)))

    def digest(self, pkg: PkgFile) -> str | None:
        """Return the hash of a file as links have it; None while it is not known. Never reads the file."""
        file = self._catalogue.file(pkg.relfn)
        return f"{self.hash_algo}={file.sha256}" if file and file.sha256 else None

    def add_package(self, filename: str, stream: BinaryIO) -> None:
        """Store the rest of `stream`, unchecked: uploads come by `store`. Raises as `store` does."""
        with drafts.draft(self._packages) as draft:
            while chunk := stream.read(_CHUNK):
                draft.write(chunk)
            with draft.open() as file:
                found = metadata.read(file, filename)
            self.store(draft, filename, found)

    def draft(self) -> AbstractContextManager[Draft]:
        """Give an upload a place on the disk where nobody sees it. Raises OSError."""
        return drafts.draft(self._packages)

    def store(self, draft: Draft, filename: str, about: Metadata | None) -> None:
        """Let a file appear with its sidecars; they are on every page of every worker afterwards.

        Raises FileExistsError when it is there and must not be overwritten, also when another upload of the
        same name won the race; OSError when the disk says no.
        """
        found = scan.stamp(draft.place(filename, overwrite=self._overwrite, lock=self._lock))
        entries = [Entry(filename, found, draft.sha256, about)]
        gone = []
        for ending in SIDECARS:
            path = f"{filename}{ending}"
            stamp = scan.look(self._packages / path) if ending in draft.sidecars else None
            if stamp:
                entries.append(digest.entry_of_sidecar(path, stamp, draft.sidecars[ending]))
            else:
                gone.append(path)
        try:
            self._catalogue.put(entries, gone)
        except (sqlite3.Error, OSError) as e:
            draft.take_back(filename, self._lock)
            number = store.error_number(e) or errno.EIO
            raise OSError(number, f"the catalogue cannot be written: {e}", str(self._catalogue.path)) from e
        log.info("stored %s (%d bytes)", filename, draft.size)

    def remove_package(self, pkg: PkgFile) -> None:
        """Remove a file. Raises OSError when the disk says no; one that has gone already is no error."""
        if scan.look(self._packages / pkg.relfn) is None:
            log.warning("told to remove %s, but it has gone already", pkg.relfn)
        drafts.remove(self._packages / pkg.relfn, self._lock)
        self._catalogue.remove([pkg.relfn, *(f"{pkg.relfn}{ending}" for ending in SIDECARS)])
        log.info("removed %s", pkg.relfn)

    def _package(self, file: File) -> PkgFile:
        package = PkgFile(
            pkgname=file.pkgname,
            version=file.version,
            fn=str(self._packages / file.path),
            root=str(self._packages),
            relfn=file.path,
        )
        package.digest = f"{self.hash_algo}={file.sha256}" if file.sha256 else None
        return package
