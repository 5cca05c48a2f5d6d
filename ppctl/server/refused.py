"""The log of refused logins: who, from where, when and why. Bounded, and never with a password.

Lines are those of the audit log (ppctl.audit): JSON, which escapes control characters, so nobody forges one.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from datetime import datetime, timezone
from pathlib import Path

from ppctl.server import kept

FILE_NAME = "refused-logins.log"
OLD_NAME = "refused-logins.log.1"
MAX_BYTES = 1 << 20
"""When the log is longer it becomes the old one, and the old one goes: twice this much is kept at most."""

NOBODY = "?"
"""Stands for a name that no user has: it is often a password that was typed into the wrong field."""


class RefusedLogins:
    """The log, shared by the workers. Safe to use from many threads; never raises."""

    def __init__(self, run: Path) -> None:
        self._path = run / FILE_NAME
        self._old = run / OLD_NAME
        self._lock = run / "refused-logins.lock"

    def note(self, user: str | None, address: str, reason: str) -> None:
        """Add a line. `user`: a name that is known; None for others."""
        said = {
            "time": datetime.fromtimestamp(time.time(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "by": address or "this machine",
            "action": "login",
            "user": user or NOBODY,
            "detail": reason,
            "failed": True,
        }
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(self._path, flags, 0o640), "ab", buffering=0) as file:
                file.write((json.dumps(said) + "\n").encode())
                is_long = file.tell() > MAX_BYTES
            if is_long:
                self._turn()

    def _turn(self) -> None:
        with kept.alone(self._lock):
            if self._path.stat().st_size > MAX_BYTES:  # no other worker was quicker
                self._path.replace(self._old)
