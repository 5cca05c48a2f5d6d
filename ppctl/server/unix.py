"""HTTP over the UNIX sockets in `run/`."""

from __future__ import annotations

import http.client
import os
import socket
from pathlib import Path


class UnixConnection(http.client.HTTPConnection):
    """A connection to whoever listens on the socket `path`; `timeout` is in seconds."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect. Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def listen(path: Path) -> socket.socket:
    """Return a listening socket at `path`, for the owner and the group.

    It takes its place by a rename: whoever connects finds an old socket or this one, never none.
    Raises OSError.
    """
    # Short: a path in sockaddr_un has 107 bytes (unix(7)).
    temporary = path.with_name(f".{path.stem[-2:]}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    before = os.umask(0o117)
    try:
        made.bind(str(temporary))
    finally:
        os.umask(before)
    made.listen(64)
    temporary.rename(path)
    return made


def of_worker(run: Path, number: int) -> Path:
    """Return the socket on which a worker says who it is."""
    return run / f"worker-{number}.sock"
