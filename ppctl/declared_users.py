"""Users as an inventory declares them: who is to be there, with which password.

The declaration is compared with the file; what differs becomes a list of edits. A password that the file's
hash already matches is left alone: hashing it again would give another salt, and so a change every time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec
from msgspec import Struct

from ppctl import passwords, permissions, users
from ppctl.errors import UsageError
from ppctl.server import htpasswd
from ppctl.server.permissions import ORDINARY, Permissions, Rights, describe, to_data
from ppctl.server.text import printable
from ppctl.users import Edit, User

Verify = Callable[[str, str], bool]
Hash = Callable[[str], str]


class State(str, Enum):
    """Whether a user is to be there."""

    PRESENT = "present"
    ABSENT = "absent"


class DeclaredRights(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a user may do: this and nothing else. `upload`: patterns of project names."""

    read: bool = False
    upload: list[str] = []
    admin: bool = False


class Declared(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One user. Without password and hash the user must be there, and keeps the password.

    Without `permissions` the user keeps those, too; a new one may do what every user may.
    """

    name: str
    password: str | None = None
    password_hash: str | None = None
    state: State = State.PRESENT
    disabled: bool = False
    permissions: DeclaredRights | None = None

    @property
    def rights(self) -> Rights | None:
        """What the user is to be allowed. Raises UsageError for patterns that make no sense."""
        said = self.permissions
        if said is None:
            return None
        return Rights(said.read, permissions.check_patterns(said.upload, "permissions.upload"), said.admin)

    def __repr__(self) -> str:
        # The generated one would show the password.
        return f"Declared({self.name!r})"


class Declaration(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Users of an index. `exclusive`: whoever is not listed goes. `allow_weak`: weak hashes are taken."""

    users: list[Declared]
    exclusive: bool = False
    allow_weak: bool = False


def load(content: bytes, where: str) -> Declaration:
    """Return the declaration in `content`: JSON or YAML. Raises UsageError; no message shows a secret."""
    import yaml

    try:
        text = content.decode("utf-8")
        # JSON first: it is what programs send, and quicker to read.
        data = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except UnicodeDecodeError:
        raise UsageError(f"{where}: not UTF-8 text") from None
    except (ValueError, yaml.YAMLError):
        # The parsers' messages show the text around the mistake, and that may be a password.
        raise UsageError(f"{where}: neither JSON nor YAML") from None
    try:
        found = msgspec.convert(data, Declaration)
    except msgspec.ValidationError as e:
        raise UsageError(f"{where}: {e}") from None
    _check(found, where)
    return found


def dump(found: list[User], granted: Permissions) -> dict[str, Any]:
    """Return these users as a declaration in plain data: with their hashes, but without any password.

    What they may do is always said, so that whoever is brought in line with them can do no more.
    """
    return {
        "users": [
            {
                "name": user.name,
                "password_hash": user.hash.removeprefix(htpasswd.DISABLED_MARK),
                "disabled": user.disabled,
                "permissions": to_data(granted.of(user.name)),
            }
            for user in found
        ]
    }


def edits(
    wanted: Declaration, found: Mapping[str, User], granted: Permissions, verify: Verify, make_hash: Hash
) -> list[Edit]:
    """Return what makes the `found` users the wanted ones. Raises UsageError, before anything is changed.

    `granted`: what they may do.
    """
    made: list[Edit] = []
    for user in wanted.users:
        old = found.get(user.name)
        if user.state is State.ABSENT:
            made += [Edit("deluser", user.name)] if old else []
            continue
        made += _changed(user, old, verify, make_hash) if old else [_new(user, make_hash)]
        made += _allowed(user, granted.of(user.name) if old else ORDINARY)
    if wanted.exclusive:
        listed = {user.name for user in wanted.users}
        made += [Edit("deluser", name, detail="not declared") for name in found if name not in listed]
    return made


def short_ones(wanted: Declaration, made: Sequence[Edit]) -> list[str]:
    """Return who is given a short password by these edits."""
    given = {edit.name for edit in made if edit.action in ("adduser", "passwd")}
    return [
        user.name
        for user in wanted.users
        if user.name in given and user.password is not None and passwords.is_short(user.password)
    ]


def _new(user: Declared, make_hash: Hash) -> Edit:
    hash = _hash(user, make_hash)
    if hash is None:
        raise UsageError(f"{printable(user.name)}: a new user needs a password or a password_hash")
    detail = htpasswd.scheme_of(hash) + (", disabled" if user.disabled else "")
    return Edit("adduser", user.name, _marked(hash, disabled=user.disabled), detail)


def _changed(user: Declared, old: User, verify: Verify, make_hash: Hash) -> list[Edit]:
    """Return at most one edit for the password and one for enabling or disabling."""
    kept = old.hash.removeprefix(htpasswd.DISABLED_MARK)
    hash = kept
    if user.password_hash is not None:
        hash = user.password_hash
    elif user.password is not None and (old.weak or not verify(user.password, kept)):
        hash = make_hash(user.password)
    made = []
    if hash != kept:
        scheme = htpasswd.scheme_of(hash)
        detail = scheme if scheme == old.scheme else f"{old.scheme} -> {scheme}"
        made.append(Edit("passwd", user.name, _marked(hash, disabled=old.disabled), detail))
    if user.disabled != old.disabled:
        action = "disable" if user.disabled else "enable"
        made.append(Edit(action, user.name, _marked(hash, disabled=user.disabled)))
    return made


def _allowed(user: Declared, now: Rights) -> list[Edit]:
    wanted = user.rights
    if wanted is None or wanted == now:
        return []
    return [Edit("permissions", user.name, detail=describe(wanted), rights=wanted)]


def _hash(user: Declared, make_hash: Hash) -> str | None:
    if user.password_hash is not None:
        return user.password_hash
    return None if user.password is None else make_hash(user.password)


def _marked(hash: str, *, disabled: bool) -> str:
    return htpasswd.DISABLED_MARK + hash if disabled else hash


def _check(declaration: Declaration, where: str) -> None:
    seen = set()
    for number, user in enumerate(declaration.users):
        path = f"{where}: users.{number}"
        if user.name in seen:
            raise UsageError(f"{path}: {printable(user.name)} is listed twice")
        seen.add(user.name)
        try:
            users.check_name(user.name)
            _ = user.rights
            if user.password is not None and user.password_hash is not None:
                raise UsageError("password and password_hash exclude each other")
            if user.password is not None:
                htpasswd.check_password(user.password)
            if user.password_hash is not None:
                passwords.check_hash(user.password_hash, allow_weak=declaration.allow_weak)
        except (ValueError, UsageError) as e:
            reason = e.message if isinstance(e, UsageError) else str(e)
            hint = e.hint if isinstance(e, UsageError) else ""
            raise UsageError(f"{path} ({printable(user.name)}): {reason}", hint) from None
