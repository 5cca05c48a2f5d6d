"""What users and tokens may do: the content of `permissions.json`, and the rules.

A user who is not in the file may do what stock pypiserver lets every user do: read, upload to any project,
and remove what can be uploaded. A user who is in the file may do what stands there and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from ppctl.server import spelling

VERSION = 1
EVERYTHING = "*"

TOKEN_USER = "__token__"  # noqa: S105 - the user name that goes with a token, as on pypi.org
TOKEN_PREFIX = "ppctl_"  # noqa: S105 - so that scanners for leaked secrets can know one
SECRET = re.compile(r"ppctl_[A-Za-z0-9_-]{43}")
DIGEST = re.compile(r"[0-9a-f]{64}")
TOKEN_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

_TOKEN_BYTES = 32
_PATTERN = re.compile(r"[a-z0-9*?-]+")


@dataclass(frozen=True)
class Rights:
    """What somebody may do. `upload`: patterns of normalised project names (fnmatch: * and ?)."""

    read: bool = False
    upload: tuple[str, ...] = ()
    admin: bool = False

    def may_read(self) -> bool:
        """Return whether listing and downloading is allowed."""
        return self.read or self.admin

    def may_upload(self, project: str) -> bool:
        """Return whether uploading to the project of this normalised name is allowed."""
        return self.admin or any(fnmatchcase(project, pattern) for pattern in self.upload)

    def names(self, project: str) -> bool:
        """Return whether the project is allowed by more than a general `*`."""
        return self.admin or any(p != EVERYTHING and fnmatchcase(project, p) for p in self.upload)


ORDINARY = Rights(read=True, upload=(EVERYTHING,))
"""What a user may who is not in the file."""


@dataclass(frozen=True)
class Token:
    """A token: it may do what stands in it and its user may, too. Times are seconds since the epoch."""

    name: str
    user: str
    digest: str
    rights: Rights
    created: float
    expires: float | None = None

    def has_expired(self, now: float) -> bool:
        """Return whether its time is over."""
        return self.expires is not None and now >= self.expires


@dataclass(frozen=True)
class Permissions:
    """The whole file."""

    users: Mapping[str, Rights] = field(default_factory=dict)
    tokens: Mapping[str, Token] = field(default_factory=dict)

    def of(self, user: str) -> Rights:
        """Return what a user may do."""
        return self.users.get(user, ORDINARY)


@dataclass(frozen=True)
class Identity:
    """Who a request comes from: a user, perhaps by one of the user's tokens."""

    user: str
    rights: Rights = ORDINARY
    token: Token | None = None

    @property
    def label(self) -> str:
        """The user's name as logs have it, with that of the token."""
        return f"{self.user}/{self.token.name}" if self.token else self.user

    def may_read(self) -> bool:
        """Return whether listing and downloading is allowed."""
        return self.rights.may_read() and (self.token is None or self.token.rights.read)

    def may_upload_something(self) -> bool:
        """Return whether there may be a project that uploads are allowed to."""
        scope = self.token.rights if self.token else ORDINARY
        return bool(scope.upload) and (self.rights.admin or bool(self.rights.upload))

    def may_upload(self, project: str, owner: str | None = None) -> bool:
        """Return whether uploading to a project is allowed; `owner`: the user whose project it is."""
        if self.token and not self.token.rights.may_upload(project):
            return False
        if owner is not None and owner != self.user and not self.rights.names(project):
            return False
        return self.rights.may_upload(project)

    def may_remove(self, project: str, owner: str | None = None) -> bool:
        """Return whether removing files is allowed: as uploading is, but never by a token."""
        return self.token is None and self.may_upload(project, owner)


def check_pattern(pattern: str) -> str:
    """Return a pattern of project names in its normal form. Raises ValueError with the reason."""
    normal = spelling.normal(pattern)
    if not _PATTERN.fullmatch(normal):
        raise ValueError(f"{pattern!r} is no pattern of project names: letters, digits, . _ - and * and ?")
    return normal


def new_secret() -> str:
    """Return the text of a new token: 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def digest(secret: str) -> str:
    """Return what is kept of a token.

    A plain SHA-256: there is nothing to guess in 256 random bits, a slow hash would only slow down its use.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def parse(content: bytes) -> Permissions:
    """Return what the file says. Raises ValueError when it is no such file."""
    data = json.loads(content)
    try:
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']!r}; this ppctl reads version {VERSION}")
        return Permissions(
            {name: from_data(found) for name, found in data["users"].items()},
            {name: _token(name, found) for name, found in data["tokens"].items()},
        )
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError("not a file of permissions") from e


def serialise(permissions: Permissions) -> bytes:
    """Return the content of a file with these permissions; `parse` of it is `permissions` again."""
    data = {
        "version": VERSION,
        "users": {name: to_data(rights) for name, rights in sorted(permissions.users.items())},
        "tokens": {
            token.name: {
                "user": token.user,
                "digest": token.digest,
                **to_data(token.rights),
                "created": token.created,
                "expires": token.expires,
            }
            for token in sorted(permissions.tokens.values(), key=lambda token: token.name)
        },
    }
    return (json.dumps(data, indent=2) + "\n").encode()


def to_data(rights: Rights) -> dict[str, Any]:
    """Return rights as plain data."""
    return {"read": rights.read, "upload": list(rights.upload), "admin": rights.admin}


def describe(rights: Rights) -> str:
    """Return rights in a few words."""
    words = ["admin"] if rights.admin else []
    words += ["read"] if rights.read else []
    if rights.upload:
        some = "" if EVERYTHING in rights.upload else f" {_join(rights.upload)}"
        words.append(f"upload{some}")
    return ", ".join(words) or "nothing"


def _join(patterns: Iterable[str]) -> str:
    return " ".join(patterns)


def from_data(found: Mapping[str, Any]) -> Rights:
    """Return the rights that `to_data` made `found` of. Raises ValueError, KeyError or TypeError."""
    read, upload, admin = found["read"], found["upload"], found["admin"]
    if not isinstance(read, bool) or not isinstance(admin, bool) or not isinstance(upload, list):
        raise ValueError("not a file of permissions")
    return Rights(read, tuple(check_pattern(pattern) for pattern in upload), admin)


def _token(name: str, found: dict[str, Any]) -> Token:
    expires = found["expires"]
    if not TOKEN_NAME.fullmatch(name):
        raise ValueError("the name of a token makes no sense")
    return Token(
        name=name,
        user=str(found["user"]),
        digest=str(found["digest"]),
        rights=from_data(found),
        created=float(found["created"]),
        expires=None if expires is None else float(expires),
    )
