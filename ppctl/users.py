"""The users of an index: the only writer of its `htpasswd`.

Every change happens under the users' lock as one atomic replacement, and is in the audit log before it
is in the file: there is no change without a line. Lines that are not understood, comments and the order
survive byte for byte. The server notices the new file by itself.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ppctl import audit, homes, passwords, permissions
from ppctl.audit import Note
from ppctl.errors import PpctlError, UsageError
from ppctl.host import Host
from ppctl.index import Index, require_account
from ppctl.server import htpasswd
from ppctl.server.htpasswd import DISABLED_MARK
from ppctl.server.permissions import TOKEN_USER, Permissions, Rights
from ppctl.server.text import printable


@dataclass(frozen=True)
class User:
    """A user as the file has it; `scheme` is how the password is hashed. The hash stays out of `repr`."""

    name: str
    scheme: str
    weak: bool
    disabled: bool
    hash: str = field(repr=False)


@dataclass(frozen=True)
class Edit:
    """One change of one user, as the audit log names it.

    `rights`: what the user may do from now on. Without them it is a change of `htpasswd`, which is to have
    `hash`; None: no such user.
    """

    action: str
    name: str
    hash: str | None = field(default=None, repr=False)
    detail: str = ""
    rights: Rights | None = None


class _File:
    """The parsed `htpasswd` while the lock is held."""

    def __init__(self, lines: list[htpasswd.Line], home: Path) -> None:
        self.lines = lines
        self.home = home

    def by_name(self) -> dict[str, htpasswd.Line]:
        return htpasswd.users(self.lines)

    def require(self, name: str) -> htpasswd.Line:
        known = self.by_name()
        if name not in known:
            raise no_such_user(name, list(known), self.home)
        return known[name]

    def put(self, name: str, hash: str) -> None:
        """Set the user's hash on the user's own line; a new user goes to the end.

        Further lines of the same user go: an old password must not outlive its change.
        """
        try:
            made = htpasswd.entry(name, hash)
        except ValueError as e:
            again = homes.command(self.home, "passwd", name)
            raise PpctlError(f"{printable(name)}: {e}", f"set a new password: {again}") from e
        old = self.by_name().get(name)
        if old is None:
            if self.lines and not self.lines[-1].raw.endswith("\n"):
                self.lines[-1] = replace(self.lines[-1], raw=self.lines[-1].raw + "\n")
            self.lines.append(made)
            return
        self.lines = [
            made if line is old else line for line in self.lines if line is old or line.name != name
        ]

    def drop(self, name: str) -> None:
        self.lines = [line for line in self.lines if line.name != name]


def users(index: Index, host: Host) -> list[User]:
    """Return the users in the file's order. Raises PpctlError when the file cannot be read."""
    return [_user(line) for line in _read(index, host).by_name().values()]


def find(index: Index, host: Host, name: str) -> User:
    """Return the user `name`. Raises PpctlError, with the names that come close, when there is none."""
    return _user(_read(index, host).require(name))


def require_free(index: Index, host: Host, name: str) -> None:
    """Raise UserExists when there is a user `name`, PpctlError when none can be added yet."""
    require_account(index, host)
    if name in _read(index, host).by_name():
        raise UserExists(name, index.home)


def add(index: Index, host: Host, name: str, hash: str, *, detail: str = "", wait: bool = True) -> User:
    """Add a user and return it. Raises UserExists when there is one of that name."""
    with _locked(index, host, f"adduser {name}", wait) as file:
        if name in file.by_name():
            raise UserExists(name, index.home)
        file.put(name, hash)
        made = _user(file.require(name))
        _save(index, host, file, [Note("adduser", name, _join(made.scheme, detail))])
    return made


def set_hash(
    index: Index, host: Host, name: str, hash: str, *, detail: str = "", wait: bool = True
) -> tuple[User, User]:
    """Replace the user's hash on its own line; a disabled user stays disabled.

    Returns the user before and after. Raises PpctlError when there is no such user.
    """
    with _locked(index, host, f"passwd {name}", wait) as file:
        line = file.require(name)
        before = _user(line)
        wanted = f"{DISABLED_MARK}{hash}" if line.disabled else hash
        if line.hash != wanted:
            file.put(name, wanted)
            after = _user(file.require(name))
            change = after.scheme if before.scheme == after.scheme else f"{before.scheme} -> {after.scheme}"
            _save(index, host, file, [Note("passwd", name, _join(change, detail))])
        return before, _user(file.require(name))


def remove(
    index: Index, host: Host, names: Sequence[str], *, wait: bool = True, missing_ok: bool = False
) -> list[str]:
    """Remove users, all or none, and return their names; with `missing_ok` those that are there.

    Raises PpctlError when one does not exist.
    """
    wanted = list(dict.fromkeys(names))
    with _locked(index, host, f"deluser {' '.join(wanted)}", wait) as file:
        if missing_ok:
            wanted = [name for name in wanted if name in file.by_name()]
        for name in wanted:
            file.require(name)
        for name in wanted:
            file.drop(name)
        if wanted:
            _save(index, host, file, [Note("deluser", name) for name in wanted])
    return wanted


def disable(index: Index, host: Host, name: str, *, wait: bool = True) -> bool:
    """Refuse the user's logins but keep the password. Returns whether anything changed."""
    with _locked(index, host, f"disable {name}", wait) as file:
        line = file.require(name)
        if line.disabled:
            return False
        file.put(name, DISABLED_MARK + line.hash)
        _save(index, host, file, [Note("disable", name)])
        return True


def enable(index: Index, host: Host, name: str, *, wait: bool = True) -> bool:
    """Accept the user's old password again. Returns whether anything changed."""
    with _locked(index, host, f"enable {name}", wait) as file:
        line = file.require(name)
        if not line.disabled:
            return False
        hash = line.hash.removeprefix(DISABLED_MARK)
        if not hash:
            raise PpctlError(
                f"{printable(name)} has no password to go back to",
                f"give it one first: {homes.command(index.home, 'passwd', printable(name))}",
            )
        file.put(name, hash)
        _save(index, host, file, [Note("enable", name)])
        return True


Decide = Callable[[dict[str, User], Permissions], Sequence[Edit]]
"""Returns the edits for the users as they are, and for what they may do."""


def edit(index: Index, host: Host, decide: Decide, *, wait: bool = True) -> Sequence[Edit]:
    """Make the edits that `decide` returns, all of them or none; return them.

    `decide` is called under the lock, so it must be quick.
    """
    with _locked(index, host, "users apply", wait) as file:
        edits = decide(
            {name: _user(line) for name, line in file.by_name().items()}, permissions.read(index, host)
        )
        rights = {each.name: each.rights for each in edits if each.rights is not None}
        lines = [each for each in edits if each.rights is None]
        for each in lines:
            file.drop(each.name) if each.hash is None else file.put(each.name, each.hash)
        if edits:
            notes = [Note(each.action, each.name, each.detail) for each in edits]
            _save(index, host, file, notes, rights)
    return edits


def ensure_first_user(index: Index, host: Host, name: str) -> str | None:
    """Add the user `name` with a generated password, and return that, if the index never had a user.

    Returns None, having changed nothing, when there is a user, or when the last one was removed on
    purpose: then nobody expects an account to appear. Raises UsageError for a name that cannot work.
    """
    check_name(name)
    with _locked(index, host, "first user", wait=True) as file:
        if file.by_name() or any(entry.action == "deluser" for entry in audit.read(index, host)):
            return None
        password = passwords.generate()
        file.put(name, htpasswd.hash_password(password, index.settings.password.bcrypt_cost))
        _save(index, host, file, [Note("adduser", name, "bcrypt, first user, generated password")])
    return password


def check_name(name: str) -> None:
    """Raise UsageError with the reason when `name` cannot be the name of a user."""
    try:
        htpasswd.check_name(name)
    except ValueError as e:
        raise UsageError(f"{printable(name)}: {e}" if name else str(e)) from None
    if name == TOKEN_USER:
        raise UsageError(f"{name}: this is the name that goes with tokens", "choose another name")


def no_such_user(name: str, known: Sequence[str], home: Path) -> PpctlError:
    """Return the error for a `name` that is not among the `known` ones of the index at `home`."""
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {printable(' or '.join(close))}? " if close else ""
    return PpctlError(
        f"there is no user {printable(name)}", f"{hint}`{homes.command(home, 'users')}` lists them"
    )


class UserExists(PpctlError):
    """The `name` of a new user is taken in the index at `home`."""

    def __init__(self, name: str, home: Path) -> None:
        super().__init__(
            f"there is a user {printable(name)} already",
            f"to change the password: {homes.command(home, 'passwd', printable(name))}",
        )


@contextlib.contextmanager
def _locked(index: Index, host: Host, purpose: str, wait: bool) -> Iterator[_File]:
    require_account(index, host)
    with host.lock(index.layout.users_lock, purpose=f"ppctl {printable(purpose)}", wait=wait):
        yield _read(index, host)


def _read(index: Index, host: Host) -> _File:
    path = index.layout.htpasswd
    found = host.stat(path)
    if found and found.kind == "link":
        # An atomic write would replace the link and leave two files that drift apart.
        raise PpctlError(
            f"{path}: is a link to {found.target}; ppctl keeps the users in a file of its own",
            f"put the file itself there: cp --remove-destination {found.target} {path}",
        )
    content = host.read(path) or b""
    if b"\0" in content:
        raise PpctlError(
            f"{path}: damaged: there are NUL bytes in it, as a crash of the machine can leave them",
            "restore it from a backup, or move it away and add the users again",
        )
    return _File(htpasswd.parse(htpasswd.decode(content)), index.home)


def _save(
    index: Index, host: Host, file: _File, notes: Sequence[Note], rights: Mapping[str, Rights] | None = None
) -> None:
    """Announce the changes in the audit log, then replace the files.

    A new user gets no moment in which everything is allowed, so what is said about a namesake goes and the
    permissions are there first. A user who goes is refused before what was granted is forgotten.
    """
    new = [note.user for note in notes if note.action == "adduser"]
    gone = [note.user for note in notes if note.action == "deluser"]
    content = htpasswd.encode(htpasswd.serialise(file.lines))
    with audit.announced(index, host, notes):
        permissions.adjust(index, host, forget=new, put=rights or {})
        if content != host.read(index.layout.htpasswd):
            index.write(host, index.layout.htpasswd, content)
        permissions.adjust(index, host, forget=gone)


def _user(line: htpasswd.Line) -> User:
    return User(
        line.name or "", htpasswd.scheme_of(line.hash), htpasswd.is_weak(line.hash), line.disabled, line.hash
    )


def _join(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
