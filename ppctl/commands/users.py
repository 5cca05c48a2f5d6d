"""The user commands: in which order things are asked and done, and what people and programs are told."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict

from ppctl import audit, homes, passwords, permissions, users
from ppctl.host import Host
from ppctl.index import Index
from ppctl.output import Output
from ppctl.passwords import Source
from ppctl.server import htpasswd
from ppctl.server.permissions import describe, to_data
from ppctl.server.text import printable

_AT_ONCE = "works at once, no restart needed"


def adduser(
    index: Index,
    host: Host,
    out: Output,
    name: str,
    source: Source,
    *,
    allow_weak: bool,
    wait: bool,
    keep: bool = False,
) -> int:
    """Add the user `name` with a password from `source`; with `keep` one who is there stays as is.

    Returns the exit code.
    """
    users.check_name(name)
    cost = index.settings.password.bcrypt_cost
    try:
        users.require_free(index, host, name)  # before anybody types a password
        credentials = passwords.obtain(source, cost=cost, allow_weak=allow_weak)
        made = users.add(index, host, name, credentials.hash, detail=_how(source), wait=wait)
    except users.UserExists:
        if not keep:
            raise
        there = users.find(index, host, name)
        out.info(f"{name} is there already and stays as before")
        return out.result({"changed": False, "user": name, **_data(there)})
    _say(out, credentials, f"added {name}: {_AT_ONCE}")
    warn_of_short(out, credentials, homes.command(index.home, "passwd", name, "--generate"))
    return _result(out, made, credentials, changed=True)


def passwd(
    index: Index, host: Host, out: Output, name: str, source: Source, *, allow_weak: bool, wait: bool
) -> int:
    """Give the user `name` a new password from `source`. Returns the exit code."""
    users.find(index, host, name)  # before anybody types a password
    credentials = passwords.obtain(source, cost=index.settings.password.bcrypt_cost, allow_weak=allow_weak)
    before, after = users.set_hash(index, host, name, credentials.hash, detail=_how(source), wait=wait)
    shown, changed = printable(name), before.hash != after.hash
    if changed:
        _say(out, credentials, f"changed the password of {shown}: {_AT_ONCE}")
    else:
        _say(out, credentials, f"{shown} has this hash already: nothing was changed")
    warn_of_short(out, credentials, homes.command(index.home, "passwd", shown, "--generate"))
    if before.weak and not after.weak:
        _say(out, credentials, f"the password was stored as {before.scheme}, now as {after.scheme}")
    if after.disabled:
        out.warn(f"{shown} is still disabled: {homes.command(index.home, 'enable', shown)}")
    return _result(out, after, credentials, changed=changed)


def deluser(
    index: Index, host: Host, out: Output, names: Sequence[str], *, wait: bool, missing_ok: bool = False
) -> int:
    """Remove users, all or none; with `missing_ok` those that are there. Returns the exit code."""
    removed = users.remove(index, host, names, wait=wait, missing_ok=missing_ok)
    text = f"removed {printable(', '.join(removed))}: {_AT_ONCE}"
    out.info(text if removed else "nothing to do: there is no such user")
    return out.result({"changed": bool(removed), "removed": removed})


def disable(index: Index, host: Host, out: Output, name: str, *, wait: bool) -> int:
    """Refuse the logins of the user `name`. Returns the exit code."""
    changed = users.disable(index, host, name, wait=wait)
    return _switched(out, name, disabled=True, changed=changed)


def enable(index: Index, host: Host, out: Output, name: str, *, wait: bool) -> int:
    """Accept the logins of the user `name` again. Returns the exit code."""
    changed = users.enable(index, host, name, wait=wait)
    return _switched(out, name, disabled=False, changed=changed)


def list_users(index: Index, host: Host, out: Output) -> int:
    """Show the users. Returns the exit code."""
    found = users.users(index, host)
    changes = audit.last_changes(audit.read(index, host))
    granted = permissions.read(index, host).users
    if not found:
        out.text(f"no users yet; the first one: {homes.command(index.home, 'adduser', 'NAME')}")
    else:
        out.table(
            ["name", "may", "scheme", "weak", "disabled", "last change"],
            [
                [
                    printable(user.name),
                    describe(granted[user.name]) if user.name in granted else "read, upload",
                    user.scheme,
                    _mark(user.weak),
                    _mark(user.disabled),
                    changes.get(user.name, "-"),
                ]
                for user in found
            ],
        )
    weak = [printable(user.name) for user in found if user.weak]
    if weak:
        moves = homes.command(index.home, "passwd", "NAME")
        out.warn(f"too easily guessed from the file: {', '.join(weak)}; `{moves}` moves to bcrypt")
    return out.result(
        {
            "users": [
                {
                    "name": user.name,
                    **_data(user),
                    "permissions": to_data(granted[user.name]) if user.name in granted else None,
                    "last_change": changes.get(user.name),
                    "hash_id": _hash_id(user),
                }
                for user in found
            ]
        }
    )


def show_audit(
    index: Index, host: Host, out: Output, *, last: int | None, user: str | None, logins: bool
) -> int:
    """Show the audit log, oldest first: the `last` entries, only those of `user`. Returns the exit code.

    `logins`: the refused logins instead.
    """
    found = audit.refused_logins(index, host) if logins else audit.read(index, host)
    entries = [entry for entry in found if user is None or entry.user == user]
    if last is not None:
        entries = entries[-last:]
    if not entries:
        out.progress("no login was refused" if logins else "there are no entries")
    for entry in entries:
        if entry.action == audit.UNREADABLE:
            out.text(printable(f"not written by ppctl: {entry.detail}"))
            continue
        what = f"{entry.action} {entry.user}" + (f" ({entry.detail})" if entry.detail else "")
        out.text(printable(f"{entry.time}  {entry.by}  {what}"))
    return out.result({"entries": [asdict(entry) for entry in entries]})


def _switched(out: Output, name: str, *, disabled: bool, changed: bool) -> int:
    shown, state = printable(name), "disabled" if disabled else "enabled"
    out.info(
        f"{state} {shown}: {_AT_ONCE}" if changed else f"{shown} is {state} already: nothing was changed"
    )
    return out.result({"changed": changed, "user": name, "disabled": disabled})


def _say(out: Output, credentials: passwords.Credentials, text: str) -> None:
    # A generated password stands alone on stdout, so that `$(ppctl adduser x --generate)` is the password.
    if credentials.generated is None:
        out.info(text)
    else:
        out.progress(text)


def warn_of_short(out: Output, credentials: passwords.Credentials, better: str) -> None:
    """Warn of a short password, without saying how short; `better` is what to type for a long one."""
    if credentials.short:
        out.warn(f"the password has {passwords.SOON_GUESSED}")
        out.hint(f"{better} makes one up")


def _result(out: Output, user: users.User, credentials: passwords.Credentials, *, changed: bool) -> int:
    data: dict[str, object] = {"changed": changed, "user": user.name, **_data(user)}
    if credentials.generated is not None:
        out.text(credentials.generated)
        data["password"] = credentials.generated
    return out.result(data)


def _data(user: users.User) -> dict[str, object]:
    """Return what programs are told of a user: never the hash."""
    return {"scheme": user.scheme, "weak": user.weak, "disabled": user.disabled}


def _hash_id(user: users.User) -> str:
    """Return what is the same for the same password hash, disabled or not, and tells nothing of it."""
    return hashlib.sha256(user.hash.removeprefix(htpasswd.DISABLED_MARK).encode()).hexdigest()[:12]


def _mark(value: bool) -> str:
    return "yes" if value else "-"


def _how(source: Source) -> str:
    return {Source.GENERATE: "generated password", Source.HASH_STDIN: "ready hash"}.get(source, "")
