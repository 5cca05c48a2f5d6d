"""Whether a request may do what it asks for."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Collection
from typing import Any

from pypiserver.bottle_wrapper import parse_auth

from ppctl.server.accounts import Accounts
from ppctl.server.answers import Answer, Header, plain
from ppctl.server.attempts import TooMany
from ppctl.server.auth import Origin
from ppctl.server.connection import aside_of
from ppctl.server.hashing import Busy
from ppctl.server.permissions import TOKEN_USER, Identity
from ppctl.server.remembered import Allowed

CHALLENGE = ("WWW-Authenticate", 'Basic realm="pypi"')
IDENTITY = "ppctl.identity"
"""Where the environment of a request says who it comes from, once that is known."""

_BEARER = "bearer "


class Refusal(Exception):
    """The request must not do what it asks for. `status` is that of HTTP, the message says why."""

    def __init__(self, status: int, message: str, *headers: Header) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class Access:
    """The index's rules: which of `list`, `download` and `upload` need a login, and who may log in."""

    def __init__(self, login: Collection[str], accounts: Accounts) -> None:
        self._login = frozenset(login)
        self._accounts = accounts
        self._allowed = Allowed()

    def is_public(self, action: str) -> bool:
        """Return whether everybody may do it."""
        return action not in self._login

    def refuse(self, environ: dict[str, Any], action: str, *, wait: bool = True) -> Answer | None:
        """Return the answer to a request that must not `list` or `download`; None when it may.

        Raises MustWait when that is not known at once, unless it may be waited for.
        """
        if action not in self._login:
            return None
        said = environ.get("HTTP_AUTHORIZATION", "")
        known = None if wait else self._allowed.get(said, action, self._accounts.basis())
        if known:
            environ[IDENTITY] = known
            return None
        login = parse_auth(said)
        if not login:
            return plain(401, "A login is needed", CHALLENGE)
        user, password = login
        try:
            self.authorise(environ, user, password, action, wait=wait)
        except Refusal as e:
            return plain(e.status, str(e), *e.headers)
        if not wait and user != TOKEN_USER:  # a token expires, and its use is noted
            self._allowed.add(said, action, environ[IDENTITY])
        return None

    def authorise(
        self, environ: dict[str, Any], user: str, password: str, action: str, *, wait: bool = True
    ) -> None:
        """Note in `environ` who the request comes from. Raises Refusal: 401, or 403 without permission.

        401 and a challenge for a wrong login (RFC 9110, section 15.5.2): 403 means something else to clients:
        uv gives up on the index, pip does not ask for another password. 429 after too many wrong ones, 503
        when too many come at once, with a time after which pip and uv try again by themselves.
        """
        try:
            identity = self._accounts.identify(user, password, _origin(environ), wait=wait)
        except TooMany as e:
            raise Refusal(429, str(e), ("Retry-After", str(math.ceil(e.seconds)))) from None
        except Busy:
            raise Refusal(503, "Too many logins at once", ("Retry-After", "1")) from None
        if identity is None:
            is_token = user == TOKEN_USER
            message = "Unknown, revoked or expired token" if is_token else "Wrong user name or password"
            raise Refusal(401, message, CHALLENGE)
        environ[IDENTITY] = identity
        if action == "upload":
            if not identity.may_upload_something():
                raise Refusal(403, f"{_who(identity)} may not upload")
        elif not identity.may_read():
            raise Refusal(403, f"{_who(identity)} may not read")


def check_upload(identity: Identity | None, project: str, owner: str | None = None) -> None:
    """Raise Refusal unless whoever it is may upload to a project. None: uploads need no login."""
    if identity and not identity.may_upload(project, owner):
        whose = f", which belongs to {owner}" if owner and owner != identity.user else ""
        raise Refusal(403, f"{_who(identity)} may not upload to {project}{whose}")


def check_removal(identity: Identity | None, project: str, owner: str | None = None) -> None:
    """Raise Refusal unless whoever it is may remove files of a project."""
    if identity and not identity.may_remove(project, owner):
        raise Refusal(403, f"{_who(identity)} may not remove files of {project}")


def bearer_as_basic(environ: dict[str, Any]) -> None:
    """Make of a bearer token (RFC 6750) a login as pypiserver and the access log know it."""
    said = environ.get("HTTP_AUTHORIZATION", "")
    if said[: len(_BEARER)].lower() == _BEARER:
        login = f"{TOKEN_USER}:{said[len(_BEARER) :].strip()}".encode("latin-1", "replace")
        environ["HTTP_AUTHORIZATION"] = f"Basic {b64encode(login).decode()}"


def _origin(environ: dict[str, Any]) -> Origin:
    return Origin(environ.get("REMOTE_ADDR") or "", aside_of(environ))


def _who(identity: Identity) -> str:
    return f"the token {identity.token.name} of {identity.user}" if identity.token else identity.user
