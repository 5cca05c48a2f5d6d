"""Who may log in: the htpasswd file, read anew when it changes.

What one login costs, and how many: ppctl.server.remembered, attempts and hashing.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ppctl.server import attempts, htpasswd
from ppctl.server.answers import MustWait
from ppctl.server.attempts import Attempts
from ppctl.server.followed import Followed
from ppctl.server.hashing import Aside, Hasher, Share
from ppctl.server.permissions import TOKEN_USER
from ppctl.server.refused import RefusedLogins
from ppctl.server.remembered import Logins

log = logging.getLogger("ppctl.server.auth")

_DECOY = f"$2y$12${'.' * 53}"
_WRONG_SECONDS = 60.0
_BY_NAME = 4
_BY_ADDRESS = 8


class Origin(NamedTuple):
    """Where a login comes from. `aside`: what its thread is in while it waits for a hash."""

    address: str = ""
    aside: Aside = contextlib.nullcontext


NOWHERE = Origin()


class Users:
    """The users of an index, and what is known of their logins. `run`: where refused ones are noted.

    Safe to use from many threads. With `wait=False` a method raises MustWait rather than compute a hash or
    read the file.
    """

    def __init__(self, path: Path, run: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = _File(path)
        self.right = Logins(clock=clock)
        self.wrong = Logins(seconds=_WRONG_SECONDS, clock=clock)
        self.attempts = Attempts(run / attempts.FILE_NAME, clock=clock)
        self.refused = RefusedLogins(run)
        self._hasher = Hasher()

    def check(self, user: str, password: str, origin: Origin = NOWHERE, *, wait: bool = True) -> bool:
        """Return whether `user` may log in with `password`, by the file as it is now.

        A name that is unknown or disabled goes the same way as a wrong password, so that names cannot be
        found out by measuring. Raises TooMany or Busy when the login is not looked at.
        """
        found = self._file.get(wait=wait)
        own = found.hashes.get(user)
        # A decoy may be a disabled user's own hash: with the mark it is not the one of a remembered login.
        key = self.right.key(user, password, own or htpasswd.DISABLED_MARK)
        if own and self.right.has(key):
            return True
        line = found.entries.get(user)
        hash = own or self._decoy(user, found.decoys)
        attempt = _Attempt(self, line, user, password, origin.address, hash, own is not None, key)
        known = attempt.recall()
        if known is None and not wait:
            raise MustWait
        return self._hasher.verify(attempt, origin.aside) if known is None else known

    def state(self) -> object:
        """Return what does not equal what it was before when the file has changed. As Followed.state."""
        return self._file.state()

    def is_active(self, user: str, *, wait: bool = True) -> bool:
        """Return whether there is such a user, and not disabled."""
        line = self._file.get(wait=wait).entries.get(user)
        return line is not None and not line.disabled

    def refuse_token(self, secret: str, origin: Origin, *, wait: bool) -> None:
        """Note a token that is none. There is nothing to guess in it; but nobody is to flood the log.

        Raises TooMany.
        """
        key = self.wrong.key(TOKEN_USER, secret, "")
        if self.wrong.has(key):
            return
        if not wait:
            raise MustWait
        self.attempts.begin(TOKEN_USER, origin.address)
        self.wrong.add(key)
        self.refused.note(TOKEN_USER, origin.address, "unknown, revoked or expired token")

    def _decoy(self, user: str, decoys: list[str]) -> str:
        """Return the hash that a login of nobody is compared with: for one name always the same one.

        It is that of a user. So names of nobody take as long as names of users do, whatever schemes and costs
        these have.
        """
        return decoys[int.from_bytes(self.right.key(user, "", "")[:8], "big") % len(decoys)]


@dataclass(frozen=True)
class _Attempt:
    """A login that is not remembered (hashing.Login). `is_somebody`: `hash` is the user's own."""

    users: Users
    line: htpasswd.Line | None
    user: str
    password: str = field(repr=False)
    address: str
    hash: str = field(repr=False)
    is_somebody: bool
    key: bytes

    @property
    def shares(self) -> Sequence[Share]:
        return Share("name", self.user, _BY_NAME), Share("address", self.address, _BY_ADDRESS)

    def recall(self) -> bool | None:
        if self.is_somebody and self.users.right.has(self.key):
            return True
        # The same wrong login once more is no guess: it costs nothing, is not counted and not noted.
        return False if self.users.wrong.has(self.key) else None

    def is_known(self) -> bool:
        return self.users.attempts.is_known(self.user, self.address)

    def begin(self) -> None:
        self.users.attempts.begin(self.user, self.address)

    def look(self) -> bool:
        """Return whether it is right; see also that others know, before the next one asks."""
        if htpasswd.verify(self.password, self.hash) and self.is_somebody:
            self.users.right.add(self.key)
            self.users.attempts.succeeded(self.user, self.address)
            return True
        self.users.wrong.add(self.key)
        self.users.refused.note(self.user if self.line else None, self.address, _reason(self.line))
        return False


class _Users(NamedTuple):
    """What the file says: everybody's line; the hashes of those who can log in.

    `decoys`: the hashes that a login could be compared with; at least one.
    """

    entries: Mapping[str, htpasswd.Line]
    hashes: Mapping[str, str]
    decoys: list[str]


class _File:
    """The entries of an htpasswd file, read again when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._followed = Followed(path, _parse)
        self._complained = False
        self.state = self._followed.state

    def get(self, *, wait: bool = True) -> _Users:
        """Return what the file says; nobody when it is missing or cannot be read."""
        try:
            found = self._followed.get(wait=wait)
        except OSError as e:
            if not self._complained:
                log.warning("nobody can log in: %s: %s", self._followed.path, e.strerror)
            self._complained = True
            return _parse(b"")
        self._complained = False
        return found


def _parse(content: bytes) -> _Users:
    entries = htpasswd.users(htpasswd.parse(htpasswd.decode(content)))
    # Nothing can be computed for other schemes, or for none (`*`): they are treated as if they were nobody's.
    possible = {name: line for name, line in entries.items() if htpasswd.scheme_of(line.hash) != "unknown"}
    hashes = {name: line.hash for name, line in possible.items() if not line.disabled}
    decoys = [line.hash.lstrip(htpasswd.DISABLED_MARK) for line in possible.values()]
    return _Users(entries, hashes, decoys or [_DECOY])


def _reason(line: htpasswd.Line | None) -> str:
    if line is None:
        return "no such user"
    return "disabled" if line.disabled else "wrong password"
