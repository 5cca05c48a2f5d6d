"""Checks of what users may do, and of their tokens."""

from __future__ import annotations

from collections.abc import Iterator

from ppctl import permissions as permissions_module
from ppctl.checks.base import Finding, NotApplicable, Subject, listed, problem, warning
from ppctl.errors import PpctlError
from ppctl.server import htpasswd
from ppctl.server.permissions import Permissions, Token
from ppctl.settings import Action
from ppctl.tokens import SOON, moment


def permissions(subject: Subject) -> Iterator[Finding]:
    """A file that makes no sense, and permissions that count for nothing."""
    path = subject.layout.permissions
    if subject.host.read(path) is None:
        raise NotApplicable
    try:
        found = permissions_module.read(subject.index, subject.host)
    except PpctlError as e:
        yield problem(e.message.removeprefix(f"{path}: "), where=path, mend=e.hint)
        return
    if found.users and Action.UPLOAD not in subject.settings.login:
        yield warning(
            "uploads need no login, so everybody may upload everything, whatever is granted",
            where=subject.layout.settings,
            mend=subject.edit("add `upload` to `login`"),
        )
    strangers = sorted(set(found.users) - set(_lines(subject)))
    if strangers:
        yield warning(
            f"permissions of users who are no more: {listed(strangers)}",
            where=path,
            mend="; ".join(subject.ppctl("user reset", "--", name) for name in strangers),
        )


def tokens(subject: Subject) -> Iterator[Finding]:
    """Tokens that have ended, will end soon, or whose user is gone."""
    try:
        found: Permissions = permissions_module.read(subject.index, subject.host)
    except PpctlError:
        raise NotApplicable from None  # told by the other check
    if not found.tokens:
        raise NotApplicable
    active = set(_active(subject))
    for token in found.tokens.values():
        yield from _token(subject, token, active)


def _token(subject: Subject, token: Token, active: set[str]) -> Iterator[Finding]:
    revoke = subject.ppctl("token revoke", token.name)
    if token.has_expired(subject.now):
        yield warning(f"the token {token.name} ended on {moment(token.expires)}", mend=revoke)
    elif token.user not in active:
        yield warning(
            f"the token {token.name} is refused: its user {token.user} is disabled or gone", mend=revoke
        )
    elif token.expires is not None and token.expires - subject.now < _soon(token):
        scope = [word for pattern in token.rights.upload for word in ("--upload", pattern)]
        scope += ["--read"] if token.rights.read else []
        yield warning(
            f"the token {token.name} of {token.user} ends on {moment(token.expires)}",
            mend="make one to follow it: "
            + subject.ppctl("token create", f"{token.name}-2", "--user", token.user, *scope),
        )


def _soon(token: Token) -> float:
    """Return how long before its end a token is warned of: one for a day was meant to end soon."""
    return min(SOON, ((token.expires or 0.0) - token.created) / 4)


def _lines(subject: Subject) -> dict[str, htpasswd.Line]:
    content = subject.host.read(subject.layout.htpasswd) or b""
    return htpasswd.users(htpasswd.parse(htpasswd.decode(content)))


def _active(subject: Subject) -> list[str]:
    return [name for name, line in _lines(subject).items() if not line.disabled]
