"""The packages on disk: a file is there completely or not at all, also after a crash.

Stock pypiserver writes into the final name, so that an upload under way is listed and served truncated, and
one that is broken off stays for ever.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from pypiserver.backend import Backend
from pypiserver.core import PkgFile

from ppctl.server import metadata, scan
from ppctl.server.catalogue import Catalogue, File
from ppctl.server.changes import Entry
from ppctl.server.names import normalize

log = logging.getLogger("ppctl.server.backend")

LEFTOVER_SECONDS = 3600.0
"""Temporary files of killed workers are removed when nobody has written to them for so long."""

# pypiserver neither lists nor serves names that begin with a dot.
_TEMPORARY_PREFIX = ".ppctl-upload-"
_CHUNK = 1 << 20
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class NameRefused(ValueError):
    """A file name that could be uploaded, but would never be listed."""


class FileBackend(Backend):  # type: ignore[misc]
    """pypiserver's backend for a directory: looked up in the catalogue; uploads appear all at once."""

    def __init__(self, config: object, catalogue: Catalogue, *, overwrite: bool) -> None:
        super().__init__(config)
        self._catalogue = catalogue
        self._overwrite = overwrite
        self._packages = catalogue.packages.resolve()

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
        return self._catalogue.has_name(filename) or os.path.lexists(self._packages / filename)

    def digest(self, pkg: PkgFile) -> str | None:
        """Return the hash of a file as links have it; None while it is not known. Never reads the file."""
        file = self._catalogue.file(pkg.relfn)
        return f"{self.hash_algo}={file.sha256}" if file and file.sha256 else None

    def add_package(self, filename: str, stream: BinaryIO) -> None:
        """Store the rest of `stream` as `filename`; it is on every page of every worker afterwards.

        Raises FileExistsError when it is there and must not be overwritten, also when another upload of the
        same name won the race; NameRefused; OSError when the disk says no.
        """
        if filename.startswith("."):
            raise NameRefused(f"{filename}: a file name that begins with a dot is never listed")
        final = self._packages / filename
        with _temporary(self._packages) as temporary:
            digest = _copy(stream, temporary)
            with open(temporary, "rb") as file:
                found = scan.stamp(os.fstat(file.fileno()))
                entry = Entry(filename, found, digest, metadata.read(file, filename))
            if self._overwrite:
                temporary.replace(final)
            else:
                _place(temporary, final)
        _sync_directory(self._packages)
        self._enter(entry, final)
        log.info("stored %s (%d bytes)", filename, found.size)

    def _enter(self, entry: Entry, final: Path) -> None:
        """Put the file on the pages. Raises OSError when that cannot be done, and takes the file back."""
        try:
            self._catalogue.put([entry])
        except (sqlite3.Error, OSError) as e:
            if not self._overwrite:
                final.unlink(missing_ok=True)
            number = errno.ENOSPC if "full" in str(e) else errno.EIO
            raise OSError(number, f"the catalogue cannot be written: {e}", str(self._catalogue.path)) from e

    def remove_package(self, pkg: PkgFile) -> None:
        """Remove a file. Raises OSError when the disk says no; one that has gone already is no error."""
        if scan.look(self._packages / pkg.relfn) is None:
            log.warning("told to remove %s, but it has gone already", pkg.relfn)
        Path(self._packages / pkg.relfn).unlink(missing_ok=True)
        self._catalogue.remove([pkg.relfn])
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


def remove_leftovers(directory: Path, *, now: float | None = None) -> list[Path]:
    """Remove what killed workers have left in `directory`. Returns the paths removed; never raises."""
    now = time.time() if now is None else now
    removed = []
    with contextlib.suppress(OSError):
        for path in directory.glob(f"{_TEMPORARY_PREFIX}*"):
            with contextlib.suppress(OSError):
                if now - path.lstat().st_mtime > LEFTOVER_SECONDS:
                    path.unlink()
                    removed.append(path)
    return removed


@contextlib.contextmanager
def _temporary(directory: Path) -> Iterator[Path]:
    """Give a name for a temporary file in `directory`; it is gone afterwards, whatever happens."""
    # Not made of the final name, which may be as long as names can be.
    path = directory / f"{_TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _copy(stream: BinaryIO, path: Path) -> str:
    """Write `stream` to the new file `path` and to the disk. Returns its SHA-256."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    digest = hashlib.sha256()
    with open(os.open(path, flags, 0o644), "wb") as file:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _place(temporary: Path, final: Path) -> None:
    """Give the file its final name. Raises FileExistsError rather than replacing another one."""
    try:
        os.link(temporary, final)  # atomic, and fails if the name is taken: link(2)
    except OSError as e:
        if e.errno not in _NO_HARD_LINKS:
            raise
        _place_without_link(temporary, final)


def _place_without_link(temporary: Path, final: Path) -> None:
    """The same on file systems without hard links (vFAT, some network mounts): the workers take turns."""
    directory = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if os.path.lexists(final):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final))
        temporary.rename(final)
    finally:
        os.close(directory)


def _sync_directory(path: Path) -> None:
    """Make a new name last (power loss; fsync(2))."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
