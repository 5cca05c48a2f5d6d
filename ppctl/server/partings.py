"""Connections after their last answer.

They are closed when the client has closed (RFC 9112, section 9.6), or when it takes too long.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

SECONDS = 2.0
"""How long a client may take to close a connection after the last answer on it."""


class Partings:
    """Those of one worker; `forget` unwatches and closes one. For the event loop alone."""

    def __init__(self, poller: selectors.BaseSelector, forget: Callable[[Any], object]) -> None:
        self._poller = poller
        self._forget = forget
        self._waiting: deque[Any] = deque()

    def add(self, conn: Any) -> None:
        """Tell the client that nothing more comes, and wait until it closes."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._forget(conn)
            return
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + SECONDS
        self._waiting.append(conn)
        self._poller.register(conn.sock, selectors.EVENT_READ, partial(self._on_readable, conn))

    def end_late(self) -> None:
        """Close those whose time is over."""
        while self._waiting and self._waiting[0].timeout <= time.monotonic():
            self._forget(self._waiting.popleft())

    def _on_readable(self, conn: Any, client: Any) -> None:
        """Throw away what a client still sends; closing with unread bytes would reset the connection."""
        try:
            more = client.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self._waiting.remove(conn)
            self._forget(conn)
