"""Permissions and tokens: what people and programs are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from ppctl import homes, permissions, tokens, users
from ppctl.host import Host
from ppctl.index import Index
from ppctl.output import Output
from ppctl.server import accounts
from ppctl.server.permissions import Rights, Token, describe, to_data
from ppctl.server.text import printable
from ppctl.settings import Action

CHANGES = {"grant": permissions.grant, "revoke": permissions.revoke}


def change(
    how: Literal["grant", "revoke"],
    index: Index,
    host: Host,
    out: Output,
    name: str,
    *,
    kinds: Sequence[str],
    projects: Sequence[str],
    wait: bool,
) -> int:
    """Let a user do more, or only this (grant), or less (revoke). Returns the exit code."""
    users.find(index, host, name)
    rights, changed = CHANGES[how](index, host, name, kinds=kinds, projects=projects, wait=wait)
    return _changed(index, out, name, rights, changed=changed)


def reset(index: Index, host: Host, out: Output, name: str, *, wait: bool) -> int:
    """Let a user do what every user may. Returns the exit code."""
    if name not in permissions.read(index, host).users:  # something may be said of one who is no more
        users.find(index, host, name)
    changed = permissions.reset(index, host, name, wait=wait)
    shown = printable(name)
    out.info(
        f"{shown} may read and upload everything again" if changed else f"{shown} was not limited anyway"
    )
    return out.result({"changed": changed, "user": name, "permissions": None})


def create_token(
    index: Index,
    host: Host,
    out: Output,
    name: str,
    *,
    user: str,
    read: bool,
    upload: Sequence[str],
    expires: str,
    now: float,
    wait: bool,
    secret: str | None = None,
    digest: str | None = None,
) -> int:
    """Make a token, and print it once. Returns the exit code.

    `secret`: one that was made before; `digest`: what is kept of one that was made on another machine.
    """
    users.find(index, host, user)
    token, secret = tokens.create(
        name, user, read=read, upload=upload, expires=expires, now=now, secret=secret
    )
    if digest is not None:
        token = replace(token, digest=tokens.check_digest(digest))
    changed = permissions.add_token(index, host, token, wait=wait)
    # It stands alone on stdout, so that `$(ppctl token create …)` is the token.
    already = "" if changed else ", there already"
    out.progress(f"token {name} of {printable(user)}: {describe(token.rights)}; {_end(token)}{already}")
    if digest is None:
        out.text(secret)
        out.progress("shown only now; the user name that goes with it is __token__")
    lacking = _beyond(token.rights, permissions.read(index, host).of(user))
    if lacking:
        out.warn(f"{printable(user)} may not {lacking}, so the token may not, either")
    shown = {"token": secret} if digest is None else {}
    return out.result({"changed": changed, **shown, **_data(index, token)})


def list_tokens(index: Index, host: Host, out: Output, *, now: float) -> int:
    """Show the tokens. Returns the exit code."""
    found = sorted(permissions.read(index, host).tokens.values(), key=lambda token: token.name)
    if not found:
        one = homes.command(index.home, "token create", "NAME", "--user", "USER", "--upload", "PATTERN")
        out.text(f"no tokens; make one: {one}")
    else:
        out.table(
            ["token", "user", "may", "made", "ends", "last use"],
            [
                [
                    token.name,
                    printable(token.user),
                    describe(token.rights),
                    tokens.moment(token.created),
                    f"{tokens.moment(token.expires)}{' (over)' if token.has_expired(now) else ''}",
                    _last_use(index, token) or "-",
                ]
                for token in found
            ],
        )
    return out.result(
        {"tokens": [{**_data(index, token), "expired": token.has_expired(now)} for token in found]}
    )


def revoke_token(
    index: Index, host: Host, out: Output, name: str, *, wait: bool, missing_ok: bool = False
) -> int:
    """Make a token useless. Returns the exit code."""
    token = permissions.remove_token(index, host, name, wait=wait, missing_ok=missing_ok)
    if token is None:
        out.info(f"there is no token {printable(name)}: nothing to revoke")
    else:
        out.info(f"revoked the token {name} of {printable(token.user)}: it is refused from now on")
    return out.result({"changed": token is not None, "name": name, "user": token and token.user})


def _changed(index: Index, out: Output, name: str, rights: Rights, *, changed: bool) -> int:
    already = "" if changed else " already: nothing was changed"
    out.info(f"{printable(name)} may: {describe(rights)}{already}")
    if Action.UPLOAD not in index.settings.login:
        out.warn("uploads need no login (`login` in ppctl.yml), so everybody may upload everything")
    return out.result({"changed": changed, "user": name, "permissions": to_data(rights)})


def _beyond(wanted: Rights, had: Rights) -> str:
    """Return what a token was made for that its user must not do; "" when there is nothing."""
    words = ["read"] if wanted.read and not had.may_read() else []
    if wanted.upload and not (had.admin or had.upload):
        words.append("upload")
    return " or ".join(words)


def _end(token: Token) -> str:
    return "it never ends" if token.expires is None else f"until {tokens.moment(token.expires)}"


def _last_use(index: Index, token: Token) -> str | None:
    used = accounts.last_use(index.layout.run, token)
    return None if used is None else tokens.moment(used)


def _data(index: Index, token: Token) -> dict[str, Any]:
    return {
        "name": token.name,
        "user": token.user,
        "read": token.rights.read,
        "upload": list(token.rights.upload),
        "created": tokens.moment(token.created),
        "expires": None if token.expires is None else tokens.moment(token.expires),
        "last_use": _last_use(index, token),
    }
