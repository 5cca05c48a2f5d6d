"""Which of an index's workers watches the packages: the one that holds a lock; when it ends, another one.

When it does not answer on its own socket (SIGSTOP, a debugger), another one watches beside it until it does:
what two find out is the same. Its state in /proc would say no more, and cannot be read in systemd's sandbox.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ppctl.server.unix import UnixConnection

log = logging.getLogger("ppctl.server.watch")

ELECTION_SECONDS = 0.3
ASK_SECONDS = 1.0
"""How often the worker that watches is asked whether it is there."""

SILENT_SECONDS = 2.0
"""So long it may take to answer."""

_BACK_SECONDS = 0.2
_MAX_NAME = 4096


@contextlib.contextmanager
def elected(lock: Path, own: Path | None, stopping: threading.Event) -> Iterator[Callable[[], bool]]:
    """Wait until this worker is to watch, or has to stop. Gives what tells whether it still is to.

    `own`: the socket on which this worker answers; None: nobody stands in for it.
    """
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        has_lock = is_beside = False
        next_question = time.monotonic() + ASK_SECONDS
        while not stopping.is_set() and not (has_lock or is_beside):
            has_lock = _take(descriptor, own)
            if not has_lock and time.monotonic() >= next_question:
                is_beside = _is_silent(descriptor, SILENT_SECONDS)
                next_question = time.monotonic() + ASK_SECONDS
            if not (has_lock or is_beside):
                stopping.wait(ELECTION_SECONDS)
        if is_beside:
            log.warning("the worker that watches the packages does not answer: watching beside it")
        yield (lambda: True) if has_lock else _Beside(descriptor)
    finally:
        os.close(descriptor)


class _Beside:
    """Tells whether to go on watching beside the worker that has the lock."""

    def __init__(self, lock: int) -> None:
        self._lock = lock
        self._next_question = 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now < self._next_question:
            return True
        self._next_question = now + ASK_SECONDS
        return _is_silent(self._lock, _BACK_SECONDS)


def _take(lock: int, own: Path | None) -> bool:
    """Take the lock and leave the name of our socket in its file. Returns whether it was free."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    with contextlib.suppress(OSError):  # the disk is full
        os.ftruncate(lock, 0)
        os.pwrite(lock, os.fsencode(own or ""), 0)
    return True


def _is_silent(lock: int, seconds: float) -> bool:
    """Return whether the worker that has the lock is there and does not answer."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        name = os.fsdecode(os.pread(lock, _MAX_NAME, 0))
        if name:
            with contextlib.closing(UnixConnection(Path(name), seconds)) as connection:
                try:
                    connection.request("GET", "/_ppctl/worker", headers={"Connection": "close"})
                    connection.getresponse().read()
                except (TimeoutError, BlockingIOError):  # the latter: nobody takes the earlier questions
                    return True
    return False
