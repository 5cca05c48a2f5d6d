"""Reading a package file once: its hash and its metadata, in steps, so that a large one holds up nothing."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from pathlib import Path

from ppctl.server import attestations, metadata, names, scan, spelling
from ppctl.server.changes import Entry
from ppctl.server.scan import Stamp

_CHUNK = 1 << 20
_MAX_SIDECAR = 4 << 20


class Examination:
    """One file that is being read. Raises OSError when it is gone, unreadable or no regular file."""

    def __init__(self, packages: Path, path: str) -> None:
        self.path = path
        self._file = io.FileIO(os.open(packages / path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
        found = os.fstat(self._file.fileno())
        if not stat.S_ISREG(found.st_mode):
            self._file.close()
            raise FileNotFoundError(f"{path}: not a regular file")
        self._stamp = scan.stamp(found)
        self._hash = hashlib.sha256()

    def read(self, limit: int) -> bool:
        """Read up to about `limit` more bytes. Returns whether the end has been reached."""
        while limit > 0:
            chunk = self._file.read(_CHUNK)
            if not chunk:
                return True
            self._hash.update(chunk)
            limit -= len(chunk)
        return False

    def finish(self) -> Entry | None:
        """Return what is to be entered; None when the file has been changed while it was read."""
        sha256 = self._hash.hexdigest()
        if names.split_sidecar(self.path)[1]:
            content = os.pread(self._file.fileno(), _MAX_SIDECAR, 0)
            entry = entry_of_sidecar(self.path, self._stamp, content, sha256)
        else:
            about = metadata.read(self._file, os.path.basename(self.path))
            entry = Entry(self.path, self._stamp, sha256, about)
        is_same = scan.stamp(os.fstat(self._file.fileno())) == self._stamp
        self.close()
        return entry if is_same else None

    def close(self) -> None:
        """Give the file up."""
        self._file.close()


def examine(packages: Path, path: str) -> Entry | None:
    """Return what is to be entered about a file; None when it changes meanwhile. Raises OSError."""
    found = Examination(packages, path)
    try:
        found.read(1 << 62)
        return found.finish()
    finally:
        found.close()


def entry_of_sidecar(path: str, stamp: Stamp, content: bytes, sha256: str | None = None) -> Entry:
    """Return what is to be entered about a signature or provenance with this content."""
    about = attestations.subject_hash(content) if path.endswith(spelling.PROVENANCE) else None
    return Entry(path, stamp, sha256 or hashlib.sha256(content).hexdigest(), about_sha256=about)
