"""Whether a request may do what it asks for, on the routes that are answered before pypiserver's."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from pypiserver.bottle_wrapper import parse_auth

from ppctl.server.answers import Answer, plain

CHALLENGE = ("WWW-Authenticate", 'Basic realm="pypi"')


class Access:
    """The index's rules: which of the actions `list` and `download` need a login, and who may log in."""

    def __init__(self, login: Collection[str], check: Callable[[str, str], bool]) -> None:
        self._login = frozenset(login)
        self._check = check

    def is_public(self, action: str) -> bool:
        """Return whether everybody may do it."""
        return action not in self._login

    def refuse(self, environ: dict[str, Any], action: str) -> Answer | None:
        """Return the answer to a request that must not do `action`; None when it may.

        Without a login, and with a wrong one: 401 and a challenge (RFC 9110, section 15.5.2).
        """
        if action not in self._login:
            return None
        login = parse_auth(environ.get("HTTP_AUTHORIZATION", ""))
        if login and self._check(*login):
            return None
        return plain(401, "Wrong user name or password" if login else "A login is needed", CHALLENGE)
