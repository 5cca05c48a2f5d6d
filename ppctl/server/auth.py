"""Who may log in: the htpasswd file, read anew when it changes, and a short memory of verified logins."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from ppctl.server import htpasswd
from ppctl.server.answers import MustWait
from ppctl.server.followed import Followed

log = logging.getLogger("ppctl.server.auth")

REMEMBER_SECONDS = 300.0
REMEMBER_LOGINS = 1024

_STRIPES = 16
_DEFAULT_COST = "12"


class Users:
    """The users of an index. Safe to use from many threads.

    With `wait=False` a method raises MustWait rather than compute a hash or read the file. It raises nothing
    else.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._file = _File(path)
        self._logins = Logins(clock=clock)
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]

    def check(self, user: str, password: str, *, wait: bool = True) -> bool:
        """Return whether `user` may log in with `password`, by the file as it is now.

        A name that is unknown or disabled costs as much time as a wrong password, so that names cannot be
        found out by measuring.
        """
        entries = self._file.entries(wait=wait)
        line = entries.get(user)
        if line is None or line.disabled:
            if not wait:
                raise MustWait
            htpasswd.verify(password, self._file.decoy())
            return False
        key = self._logins.key(user, password, line.hash)
        if self._logins.has(key):
            return True
        if not wait:
            raise MustWait
        # A client's first requests come together: one computes the hash (0.2 s), the others wait for it.
        with self._stripes[key[0] % _STRIPES]:
            if self._logins.has(key):
                return True
            if not htpasswd.verify(password, line.hash):
                return False
            self._logins.add(key)
            return True

    def is_active(self, user: str, *, wait: bool = True) -> bool:
        """Return whether there is such a user, and not disabled."""
        line = self._file.entries(wait=wait).get(user)
        return line is not None and not line.disabled


class Logins:
    """Verified logins, remembered for a short time and in bounded number. Wrong ones are not.

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
        """Return whether the login was verified a short while ago."""
        with self._lock:
            until = self._until.get(key)
            if until is not None and until <= self._clock():
                del self._until[key]
                return False
            return until is not None

    def add(self, key: bytes) -> None:
        """Remember a verified login; the oldest one is forgotten when there are too many."""
        with self._lock:
            self._until[key] = self._clock() + self._seconds
            self._until.move_to_end(key)
            while len(self._until) > self._limit:
                self._until.popitem(last=False)


class _File:
    """The entries of an htpasswd file, read again when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._followed = Followed(path, _parse)
        self._complained = False

    def entries(self, *, wait: bool = True) -> Mapping[str, htpasswd.Line]:
        """Return each user's line. Nobody's when the file is missing or cannot be read."""
        return self._get(wait=wait)[0]

    def decoy(self) -> str:
        """Return a hash that nothing matches and that costs what this file's hashes cost."""
        return self._get()[1]

    def _get(self, *, wait: bool = True) -> tuple[Mapping[str, htpasswd.Line], str]:
        try:
            found = self._followed.get(wait=wait)
        except OSError as e:
            if not self._complained:
                log.warning("nobody can log in: %s: %s", self._followed.path, e.strerror)
            self._complained = True
            return {}, _decoy({})
        self._complained = False
        return found


def _parse(content: bytes) -> tuple[Mapping[str, htpasswd.Line], str]:
    entries = htpasswd.users(htpasswd.parse(htpasswd.decode(content)))
    return entries, _decoy(entries)


def _decoy(entries: Mapping[str, htpasswd.Line]) -> str:
    """Return a bcrypt hash of nothing, of the cost that most users' hashes have."""
    found = (re.match(r"!?\$2[aby]\$(\d\d)\$", line.hash) for line in entries.values())
    costs = Counter(match[1] for match in found if match)
    cost = costs.most_common(1)[0][0] if costs else _DEFAULT_COST
    return f"$2y${cost}${'.' * 53}"
