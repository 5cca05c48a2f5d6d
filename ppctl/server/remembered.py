"""Logins that were looked at a short while ago."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from ppctl.server.permissions import Identity

REMEMBER_SECONDS = 300.0
REMEMBER_LOGINS = 1024

_ALLOWED_SECONDS = 5.0
_MOST_ALLOWED = 256


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


class Allowed:
    """Who was allowed what a moment ago, as long as nothing has changed. For one thread.

    `header` is the whole of `Authorization`: it need not be taken apart, the login not be looked up and its
    rights not be weighed. Kept is a keyed hash.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._keyed = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=16)
        self._clock = clock
        self._basis: object = None
        self._known: dict[bytes, tuple[float, Identity]] = {}

    def get(self, header: str, action: str, basis: object) -> Identity | None:
        """Return who is allowed to do it. `basis`: what that is decided by; with another one nobody is."""
        if basis != self._basis or len(self._known) > _MOST_ALLOWED:
            self._basis = basis
            self._known.clear()
            return None
        until, identity = self._known.get(self._key(header, action), (0.0, None))
        return identity if until > self._clock() else None

    def add(self, header: str, action: str, identity: Identity) -> None:
        """Allow it, on the basis that was asked about last."""
        self._known[self._key(header, action)] = self._clock() + _ALLOWED_SECONDS, identity

    def _key(self, header: str, action: str) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(f"{action} {header}".encode("utf-8", "surrogatepass"))
        return keyed.digest()
