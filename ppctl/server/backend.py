"""pypiserver's backend: the packages on disk, looked up in the catalogue; uploads appear all at once.

Stock pypiserver writes into the final name, so that an upload under way is listed and served truncated, and
one that is broken off stays for ever.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import BinaryIO

from pypiserver.backend import Backend
from pypiserver.core import PkgFile

from ppctl.server import digest, drafts, kept, metadata, scan, store
from ppctl.server.catalogue import Catalogue, File
from ppctl.server.changes import Entry
from ppctl.server.drafts import Draft
from ppctl.server.metadata import Metadata
from ppctl.server.names import normalize
from ppctl.server.spelling import PROVENANCE, SIDECARS

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
        return bool(self._there(filename))

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

    def may_be(self, filename: str, said: str) -> bool:
        """Return whether a file of this name may be the one with this SHA-256, as far as is known at once."""
        found = (self._catalogue.file(path) for path in self._there(filename))
        return bool(said) and any(file is None or file.sha256 in (None, said) for file in found)

    def store(self, draft: Draft, filename: str, about: Metadata | None, *, is_again: bool = False) -> None:
        """Let a file appear with its sidecars; they are on every page of every worker afterwards.

        `is_again`: it was there before this upload began, and may be the same, whose uploader has got no
        answer. Raises FileExistsError when there is another one and it must not be overwritten, also when an
        upload of the same name won the race; OSError when the disk says no.
        """
        if is_again and (there := self._there(filename)):
            if not self._is_stored(draft, there):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), filename)
            log.info("%s came again", filename)
            return
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

    def _is_stored(self, draft: Draft, paths: Iterable[str]) -> bool:
        """Return whether all of an upload is at one of these paths, and see that it is on all pages.

        Its worker may have been killed before it could do that. Who signs once more makes another signature
        of the same file: the first one stays. Raises OSError.
        """
        endings = ("", *draft.sidecars)
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                found = [digest.examine(self._packages, f"{path}{ending}") for ending in endings]
                entries = [entry for entry in found if entry]
                proofs = [entry for entry in entries if entry.path.endswith(PROVENANCE)]
                is_whole = all(entry.about_sha256 == draft.sha256 for entry in proofs)
                if is_whole and len(entries) == len(endings) and entries[0].sha256 == draft.sha256:
                    kept.sync_directory((self._packages / path).parent)
                    self._catalogue.put(entries)
                    return True
        return False

    def _there(self, filename: str) -> list[str]:
        """Return the paths of the files of this name, also those in sub-directories."""
        # One that has just been removed by hand is perhaps still known.
        paths = {filename, *self._catalogue.paths(filename)}
        return [path for path in sorted(paths) if os.path.lexists(self._packages / path)]

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
