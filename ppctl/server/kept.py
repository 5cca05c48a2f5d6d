"""Files that the workers write and that cannot be derived from the packages."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("ppctl.server.kept")


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold a lock file, so that one thread of one worker at a time is in here."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write(path: Path, content: bytes) -> None:
    """Replace a file by one that is on the disk; for one at a time, in `alone`. Raises OSError."""
    # Always the same name: what a killed worker has left goes with the next change.
    temporary = path.with_name(f"{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(temporary, flags, 0o644), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of `content`: a disk that becomes full takes a part first. Raises OSError."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


class Twice:
    """A file beside the packages, and its copy in `run`; where it is gone, it comes back from that.

    Who copies `packages/*` to another disk, or lets `rsync --delete` loose, loses what begins with a dot:
    what is yanked or quarantined would be offered again, and projects be anybody's.
    For one at a time, in `alone`.
    """

    def __init__(self, path: Path, copy: Path) -> None:
        self.path = path
        self._copy = copy

    def read(self) -> bytes | None:
        """Return its content, None when there is none. Raises OSError."""
        if (content := content_of(self.path)) is None and (content := content_of(self._copy)) is not None:
            log.warning("%s was gone: it is back from its copy %s", self.path, self._copy)
            write(self.path, content)
        return content

    def write(self, content: bytes) -> None:
        """Replace both. Raises OSError."""
        write(self.path, content)
        with contextlib.suppress(OSError):  # the next start mends the copy
            write(self._copy, content)

    def mend(self) -> None:
        """Let both be the same: what is beside the packages counts. Raises OSError."""
        content = self.read()
        if content is not None and content != content_of(self._copy):
            write(self._copy, content)


def content_of(path: Path) -> bytes | None:
    """Return the content of a file, None when there is none. Raises OSError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def sync_directory(path: Path) -> None:
    """Make a new name last a power loss (fsync(2): that takes the directory, too). Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
