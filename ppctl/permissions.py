"""What users may do and the tokens they have: the only writer of `permissions.json`.

Every change happens under the users' lock as one atomic replacement, and is in the audit log first. The
server notices the new file by itself. What the file means: ppctl.server.permissions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from ppctl import audit, homes
from ppctl.audit import Note
from ppctl.errors import PpctlError, UsageError
from ppctl.host import Host
from ppctl.index import Index, require_account
from ppctl.server import permissions
from ppctl.server.permissions import EVERYTHING, ORDINARY, Permissions, Rights, Token
from ppctl.server.text import printable

KINDS = ("read", "upload", "admin")


def read(index: Index, host: Host) -> Permissions:
    """Return the permissions of an index. Raises PpctlError when the file makes no sense."""
    path = index.layout.permissions
    content = host.read(path)
    if content is None:
        return Permissions()
    try:
        return permissions.parse(content)
    except ValueError as e:
        raise PpctlError(
            f"{path}: damaged: {e}; until it is mended nobody may do what needs a login",
            "restore it from a backup, or move it away: then every user may read and upload, without tokens",
        ) from e


def grant(
    index: Index, host: Host, user: str, *, kinds: Sequence[str], projects: Sequence[str], wait: bool
) -> tuple[Rights, bool]:
    """Let a user do more; one who was not limited may from now on do only this.

    Returns what the user may do now, and whether that changed. Raises UsageError for bad patterns.
    """
    wanted = _rights(kinds, projects)

    def add(old: Rights | None) -> Rights:
        old = old or Rights()
        if EVERYTHING in (*old.upload, *wanted.upload):
            upload: tuple[str, ...] = (EVERYTHING,)
        else:
            upload = tuple(dict.fromkeys((*old.upload, *wanted.upload)))
        return Rights(old.read or wanted.read, upload, old.admin or wanted.admin)

    return _change(index, host, Note("grant", user, permissions.describe(wanted)), add, wait=wait)


def revoke(
    index: Index, host: Host, user: str, *, kinds: Sequence[str], projects: Sequence[str], wait: bool
) -> tuple[Rights, bool]:
    """Let a user do less. Returns what the user may do now, and whether that changed.

    `projects`: only these patterns of the permission to upload. Raises UsageError for those not granted.
    """
    unwanted = _rights(kinds, projects)

    def take(old: Rights | None) -> Rights:
        old = old or ORDINARY
        missing = [pattern for pattern in unwanted.upload if projects and pattern not in old.upload]
        if missing:
            raise UsageError(
                f"{printable(user)} has no permission to upload {' '.join(missing)}"
                f" (has: {permissions.describe(old)})",
                "a pattern is taken back as it was given",
            )
        upload = tuple(p for p in old.upload if projects and p not in unwanted.upload)
        return Rights(
            old.read and not unwanted.read,
            upload if unwanted.upload else old.upload,
            old.admin and not unwanted.admin,
        )

    return _change(index, host, Note("revoke", user, permissions.describe(unwanted)), take, wait=wait)


def reset(index: Index, host: Host, user: str, *, wait: bool) -> bool:
    """Let a user do what every user may who was never limited. Returns whether that changed."""
    _, changed = _change(index, host, Note("reset", user, "as any user"), lambda _: None, wait=wait)
    return changed


def add_token(index: Index, host: Host, token: Token, *, wait: bool) -> bool:
    """Add a token. Returns whether it is new; raises PpctlError when there is another one of that name."""
    with _locked(index, host, f"token create {token.name}", wait) as found:
        there = found.tokens.get(token.name)
        if there and there.digest == token.digest:
            return False
        if there:
            raise PpctlError(
                f"there is a token {token.name} already",
                f"choose another name, or revoke it: {homes.command(index.home, 'token revoke', token.name)}",
            )
        changed = replace(found, tokens={**found.tokens, token.name: token})
        what = f"{token.name}: {permissions.describe(token.rights)}"
        _save(index, host, changed, Note("token create", token.user, what))
        return True


def remove_token(
    index: Index, host: Host, name: str, *, wait: bool, missing_ok: bool = False
) -> Token | None:
    """Remove a token and return it. Raises PpctlError when there is no such token, unless that is ok."""
    with _locked(index, host, f"token revoke {name}", wait) as found:
        if name not in found.tokens and missing_ok:
            return None
        if name not in found.tokens:
            raise PpctlError(
                f"there is no token {printable(name)}",
                f"`{homes.command(index.home, 'token list')}` lists them",
            )
        others = {key: token for key, token in found.tokens.items() if key != name}
        token = found.tokens[name]
        _save(index, host, replace(found, tokens=others), Note("token revoke", token.user, name))
    return token


def adjust(
    index: Index, host: Host, *, forget: Collection[str] = (), put: Mapping[str, Rights] | None = None
) -> None:
    """Forget what is said about users, and their tokens; put what others may do.

    For ppctl.users, which holds the lock and has told the audit log.
    """
    if not forget and not put:
        return
    found = read(index, host)
    users = {name: rights for name, rights in found.users.items() if name not in forget}
    for name, rights in (put or {}).items():
        users.pop(name, None)
        if rights != ORDINARY:  # who may do what every user may needs no entry
            users[name] = rights
    tokens = {name: token for name, token in found.tokens.items() if token.user not in forget}
    kept = Permissions(users, tokens)
    if kept != found:
        index.write(host, index.layout.permissions, permissions.serialise(kept))


def check_patterns(projects: Sequence[str], where: str) -> tuple[str, ...]:
    """Return patterns of project names in their normal form. Raises UsageError that begins with `where`."""
    try:
        return tuple(dict.fromkeys(permissions.check_pattern(each) for each in projects))
    except ValueError as e:
        raise UsageError(f"{where}: {e}", "for example team-*") from None


def _rights(kinds: Sequence[str], projects: Sequence[str]) -> Rights:
    if projects and "upload" not in kinds:
        raise UsageError("--project goes with the permission to upload", "name it: upload --project PATTERN")
    patterns = check_patterns(projects, "--project") or (EVERYTHING,)
    return Rights("read" in kinds, patterns if "upload" in kinds else (), "admin" in kinds)


def _change(
    index: Index,
    host: Host,
    note: Note,
    decide: Callable[[Rights | None], Rights | None],
    *,
    wait: bool,
) -> tuple[Rights, bool]:
    user = note.user
    with _locked(index, host, f"user {note.action} {user}", wait) as found:
        old = found.users.get(user)
        new = decide(old)
        if new == old:
            return found.of(user), False
        others = {name: rights for name, rights in found.users.items() if name != user}
        changed = replace(found, users=others if new is None else {**others, user: new})
        _save(index, host, changed, note)
        return changed.of(user), True


@contextlib.contextmanager
def _locked(index: Index, host: Host, purpose: str, wait: bool) -> Iterator[Permissions]:
    require_account(index, host)
    with host.lock(index.layout.users_lock, purpose=f"ppctl {printable(purpose)}", wait=wait):
        yield read(index, host)


def _save(index: Index, host: Host, new: Permissions, note: Note) -> None:
    with audit.announced(index, host, [note]):
        index.write(host, index.layout.permissions, permissions.serialise(new))
