"""Reading a file without waiting for the disk."""

from __future__ import annotations

import os

from ppctl.server.answers import MustWait


def read(descriptor: int, length: int, first: int, *, wait: bool) -> bytes:
    """Return a part of a file, less where it ends. Raises MustWait instead of waiting for the disk."""
    if wait:
        return os.pread(descriptor, length, first)
    buffer = bytearray(length)
    try:
        count = os.preadv(descriptor, [buffer], first, os.RWF_NOWAIT)  # preadv2(2)
    except OSError as e:  # not in memory, or a file system that cannot tell
        raise MustWait from e
    if count != length:
        raise MustWait
    return bytes(buffer)
