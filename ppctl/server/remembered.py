"""Logins that were looked at a short while ago."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

REMEMBER_SECONDS = 300.0
REMEMBER_LOGINS = 1024


class Logins:
    """Logins, remembered for a short time and in bounded number.

    A login is kept as an HMAC over name, password and stored hash, with a random key that never leaves the
    process. So no password is kept, and a changed, disabled or removed one is forgotten at once: its key is
    never asked for again.
    """

    def __init__(
        self,
        *,
        seconds: float = REMEMBER_SECONDS,
        limit: int = REMEMBER_LOGINS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secret = secrets.token_bytes(32)
        self._seconds = seconds
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def key(self, user: str, password: str, hash: str) -> bytes:
        """Return the key of a login. Different logins have different ones."""
        parts = [part.encode("utf-8", "surrogatepass") for part in (user, password, hash)]
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._secret, message, hashlib.sha256)

    def has(self, key: bytes) -> bool:
        """Return whether the login was added a short while ago."""
        with self._lock:
            until = self._until.get(key)
            if until is not None and until <= self._clock():
                del self._until[key]
                return False
            return until is not None

    def add(self, key: bytes) -> None:
        """Remember a login; the oldest one is forgotten when there are too many."""
        with self._lock:
            self._until[key] = self._clock() + self._seconds
            self._until.move_to_end(key)
            while len(self._until) > self._limit:
                self._until.popitem(last=False)
