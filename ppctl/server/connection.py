"""Connections to clients that may be slow: waiting for one holds up nobody, and is not for ever."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

WINDOW_SECONDS = 30.0
"""So much waiting for a client is allowed until it must have moved LEAST_BYTES; then it begins anew."""

LEAST_BYTES = 15_000
"""What a client must send, or take, in that time: 500 bytes a second."""

_LARGEST_BLOCK = 1 << 30
# More waits in the kernel: gunicorn keeps what nobody has asked for yet, and copies it for each who asks.
_LARGEST_READ = 1 << 17


Aside = Callable[[], AbstractContextManager[Any]]


def aside_of(environ: dict[str, Any]) -> Aside:
    """Return what the thread of a request is to be in while it waits for something else than its client."""
    found: Aside = getattr(environ.get("gunicorn.socket"), "aside", contextlib.nullcontext)
    return found


class Places:
    """How many requests are being worked on. One whose client is being waited for does not count.

    `wake` is called in the thread that waits, when that frees a place that was asked for in vain.
    """

    def __init__(self, count: int, most: int, wake: Callable[[], object]) -> None:
        self._count = count
        self._most = most
        self._wake = wake
        self._lock = threading.Lock()
        self._working = 0
        self._begun = 0
        self._is_wanted = False

    def is_free(self) -> bool:
        """Return whether a request could be begun now."""
        with self._lock:
            return self._look()

    def take(self) -> bool:
        """Take a place for a request; returns whether there was one."""
        with self._lock:
            is_free = self._look()
            self._working += is_free
            self._begun += is_free
            return is_free

    def give_back(self) -> None:
        """End a request; whoever does looks for the next one."""
        with self._lock:
            self._working -= 1
            self._begun -= 1

    def pause(self) -> None:
        """Begin to wait for a request's client."""
        with self._lock:
            self._working -= 1
            is_due = self._is_wanted and self._look()
        if is_due:
            self._wake()

    def resume(self) -> None:
        """Go on with a request, also when all places are taken meanwhile."""
        with self._lock:
            self._working += 1

    def _look(self) -> bool:
        is_free = self._working < self._count and self._begun < self._most
        self._is_wanted = not is_free
        return is_free


class ClientSocket(socket.socket):
    """A connection to a client; while a thread waits for it, its place in `places` is free.

    For the kernel it never blocks. A timeout of None stands for the rule above: waiting goes on while the
    client moves. Reading and writing raise TimeoutError when it does not.
    """

    def __init__(self, accepted: socket.socket, places: Places | None) -> None:
        # What is not given would be asked of the kernel.
        family, kind, protocol = accepted.family, accepted.type, accepted.proto
        super().__init__(family, kind, protocol, accepted.detach())
        super().setblocking(False)
        self._places = places
        self._timeout: float | None = None
        self._waited = 0.0
        self._moved = 0

    def setblocking(self, flag: bool) -> None:
        """Choose between waiting as the rule says, and not at all."""
        self._timeout = None if flag else 0.0

    def settimeout(self, value: float | None) -> None:
        """Set how long one wait may take at most, in seconds; None: as the rule says."""
        self._timeout = value

    def gettimeout(self) -> float | None:
        """Return what has been set."""
        return self._timeout

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Return what has come, at most so many bytes; b"" when the client has closed."""
        size = min(bufsize, _LARGEST_READ)
        while True:
            try:
                found = super().recv(size, flags)
            except BlockingIOError:
                self._wait(select.POLLIN)
            else:
                self._moved += len(found)
                return found

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send all of `data`."""
        left = memoryview(data)
        while left:
            try:
                sent = super().send(left, flags)
            except BlockingIOError:
                self._wait(select.POLLOUT)
            else:
                self._moved += sent
                left = left[sent:]

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send `count` bytes of a file, by the kernel. Raises OSError also when the file has fewer."""
        left = os.fstat(file.fileno()).st_size - offset if count is None else count
        total = left
        while left > 0:
            try:
                sent = os.sendfile(self.fileno(), file.fileno(), offset, min(left, _LARGEST_BLOCK))
            except BlockingIOError:
                self._wait(select.POLLOUT)
                continue
            if sent == 0:
                # The client was promised more: closing is the only way to tell it.
                raise BrokenPipeError(errno.EPIPE, "the file has become shorter")
            self._moved += sent
            offset += sent
            left -= sent
        return total

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Be in here while the request waits for something else: its place is free meanwhile."""
        if self._places:
            self._places.pause()
        try:
            yield
        finally:
            if self._places:
                self._places.resume()

    def _wait(self, event: int) -> None:
        """Wait until the client moves. Raises TimeoutError, or BlockingIOError when told not to wait."""
        if self._timeout == 0.0:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if self._waited >= WINDOW_SECONDS:
            self._begin_window()
        rest = WINDOW_SECONDS - self._waited
        started = time.monotonic()
        has_moved = self._poll(event, rest if self._timeout is None else min(rest, self._timeout))
        self._waited += time.monotonic() - started
        if has_moved:
            return
        if self._timeout is not None:
            raise TimeoutError("timed out")
        self._begin_window()
        self._wait(event)

    def _poll(self, event: int, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.fileno(), event)
        with self.aside():
            # Rounded up: poll(2) counts in milliseconds, and 0 of them would be no wait.
            return bool(poll.poll(seconds * 1000 + 1))

    def _begin_window(self) -> None:
        if self._moved < LEAST_BYTES:
            raise TimeoutError("the client is too slow")
        self._waited, self._moved = 0.0, 0
