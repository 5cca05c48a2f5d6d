"""A file that nobody else sees, for what would take too much memory; the kernel has it at hand if it can."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ppctl.server import at_hand


class Spool:
    """Bytes on the disk, by their place. They go with the process, or when nobody refers to the spool."""

    def __init__(self, directory: Path) -> None:
        """Make an empty one in a directory. Raises OSError."""
        # Open as long as the spool is used: whoever sends from it may be the last.
        self._file = tempfile.TemporaryFile(prefix="spool-", dir=directory, buffering=0)  # noqa: SIM115
        self.size = 0

    def add(self, content: bytes) -> int:
        """Append bytes and return their place. Raises OSError when there is no room. One at a time."""
        place = self.size
        left = memoryview(content)
        while left:
            left = left[os.pwrite(self._file.fileno(), left, place + len(content) - len(left)) :]
        self.size += len(content)
        return place

    def read(self, place: int, length: int, *, wait: bool) -> bytes:
        """Return bytes that were added. Raises MustWait when they are not in memory, unless it may `wait`."""
        return at_hand.read(self._file.fileno(), length, place, wait=wait)
