"""Locks between all ppctl of this machine: whoever has one says so to those who wait for it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ppctl.errors import PpctlError
from ppctl.host import WaitAnnouncer, telling


@contextlib.contextmanager
def held(
    path: Path, user: str, purpose: str, announce: WaitAnnouncer | None, *, wait: bool
) -> Iterator[None]:
    """Hold the lock file `path` for the time of a `with` block; `user` and `purpose` are told to who waits.

    `announce` is told for whom this one waits. Raises PpctlError when it is held and `wait` is false.
    """
    descriptor = _locked(path, announce, wait=wait)
    try:
        note = {"pid": os.getpid(), "user": user, "purpose": purpose, "since": int(time.time())}
        with contextlib.suppress(OSError):  # a full disk: what is to be done may be to make room
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(note).encode(), 0)
        yield
    finally:
        os.close(descriptor)  # releases the lock


def is_running(pid: int) -> bool:
    """Return whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _locked(path: Path, announce: WaitAnnouncer | None, *, wait: bool) -> int:
    """Return the open lock file, locked. One that was removed meanwhile would keep nobody out."""
    while True:
        with telling("lock", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _get(descriptor, path, announce, wait=wait)
            if _is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _get(descriptor: int, path: Path, announce: WaitAnnouncer | None, *, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(descriptor)
        if not wait:
            raise PpctlError(
                f"{path}: another ppctl is at work on this index: {holder}",
                "wait until it has finished, or leave out --no-wait",
            ) from None
        if announce:
            announce(f"waiting for another ppctl that is at work on this index: {holder}")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether the open file is the one at `path`."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _holder(descriptor: int) -> str:
    """Return who holds the lock. Whoever got it just now has yet to say so in the place of the last one."""
    found = "unknown process"
    for _ in range(30):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            note = json.loads(os.pread(descriptor, 4096, 0))
            found = f"`{note['purpose']}` by {note['user']} (pid {note['pid']})"
            if is_running(note["pid"]):
                break
        time.sleep(0.01)
    return found
