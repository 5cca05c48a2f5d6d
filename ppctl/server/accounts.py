"""Who a request comes from: a user with a password, or one of a user's tokens."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from ppctl.server import permissions
from ppctl.server.answers import MustWait
from ppctl.server.auth import NOWHERE, Origin, Users
from ppctl.server.followed import Followed
from ppctl.server.moment import Once
from ppctl.server.permissions import TOKEN_USER, Identity, Permissions, Rights, Token

log = logging.getLogger("ppctl.server.accounts")

USES = "tokens"
"""The directory below `run` in which a file for each token has the time of its last use."""

_NOTE_USE_SECONDS = 60.0

_Index = tuple[Permissions, dict[str, Token]]

_NOTHING: _Index = (Permissions(), {})


class Accounts:
    """The users, their permissions and their tokens. Safe to use from many threads.

    With `wait=False` a method raises MustWait rather than compute a hash, or read or write a file.
    """

    def __init__(
        self, users: Users, file: Path, run: Path, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._users = users
        self._file = Followed(file, _parse)
        self._uses = run / USES
        self._clock = clock
        self._noted: dict[str, float] = {}
        self._complained = False
        self._basis = Once(lambda: (users.state(), self._file.state()))

    def identify(
        self, user: str, password: str, origin: Origin = NOWHERE, *, wait: bool = True
    ) -> Identity | None:
        """Return who this login is; None for a wrong one. `origin`: where it comes from.

        If the permissions cannot be read nobody may do anything that needs a login. Raises TooMany or Busy
        for a login that is not looked at.
        """
        if user == TOKEN_USER:
            identity = self._by_token(password, wait=wait)
            if identity is None:
                self._users.refuse_token(password, origin, wait=wait)
            return identity
        if not self._users.check(user, password, origin, wait=wait):
            return None
        found = self._permissions(wait=wait)
        return Identity(user, found[0].of(user) if found else Rights())

    def basis(self) -> object:
        """Return what does not equal what it was before when a file that decides about users has changed.

        For the event loop. Raises OSError, and MustWait when a file has to be read.
        """
        return self._basis.get()

    def _by_token(self, secret: str, *, wait: bool) -> Identity | None:
        found = self._permissions(wait=wait)
        # The digest is looked up, not compared: how long that takes says nothing about the token.
        token = found[1].get(permissions.digest(secret)) if found else None
        if found is None or token is None:
            return None
        if token.has_expired(self._clock()) or not self._users.is_active(token.user, wait=wait):
            return None
        self._note_use(token, wait=wait)
        return Identity(token.user, found[0].of(token.user), token)

    def _permissions(self, *, wait: bool) -> _Index | None:
        """Return the permissions and the tokens by digest; None when they cannot be read."""
        try:
            found = self._file.get(wait=wait)
        except FileNotFoundError:
            return _NOTHING
        except (OSError, ValueError) as e:
            if not self._complained:
                log.error("nobody may do what needs a login: %s cannot be read: %s", self._file.path, e)
            self._complained = True
            return None
        self._complained = False
        return found

    def _note_use(self, token: Token, *, wait: bool) -> None:
        """Leave the time as that of a file: no more than one write a minute, none of them together."""
        now = self._clock()
        if abs(now - self._noted.get(token.digest, 0.0)) < _NOTE_USE_SECONDS:
            return
        if not wait:
            raise MustWait
        self._noted[token.digest] = now
        with contextlib.suppress(OSError):
            self._uses.mkdir(mode=0o750, exist_ok=True)
            path = self._uses / token.digest[:16]
            path.touch(mode=0o640)
            os.utime(path, (now, now))


def _parse(content: bytes) -> _Index:
    found = permissions.parse(content)
    return found, {token.digest: token for token in found.tokens.values()}


def last_use(run: Path, token: Token) -> float | None:
    """Return when a token was last used (to a minute), as seconds since the epoch; None for never."""
    try:
        return os.stat(run / USES / token.digest[:16]).st_mtime
    except OSError:
        return None
