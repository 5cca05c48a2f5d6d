"""`ppctl users apply` and `ppctl users export`: users as an inventory declares them."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

from ppctl import declared_users, index, permissions, users
from ppctl.declared_users import Declaration
from ppctl.host import Host
from ppctl.index import Index
from ppctl.output import Output
from ppctl.passwords import SOON_GUESSED
from ppctl.server import htpasswd
from ppctl.server.permissions import Permissions
from ppctl.server.text import printable
from ppctl.users import Edit, User

_DONE = {
    "adduser": "added",
    "passwd": "changed the password of",
    "deluser": "removed",
    "disable": "disabled",
    "enable": "enabled",
    "permissions": "changed the permissions of",
}


def apply(found: Index, host: Host, out: Output, wanted: Declaration, *, dry_run: bool, wait: bool) -> int:
    """Make the users of the index the declared ones, all of it or nothing. Returns the exit code."""
    # Checking and making bcrypt hashes takes long, so it is done before the lock is taken: the same
    # question under the lock is answered from memory, unless somebody has changed the user meanwhile.
    verify = functools.cache(htpasswd.verify)
    cost = found.settings.password.bcrypt_cost
    make_hash = functools.cache(lambda password: htpasswd.hash_password(password, cost))

    def decide(there: dict[str, User], granted: Permissions) -> list[Edit]:
        return declared_users.edits(wanted, there, granted, verify, make_hash)

    there = {user.name: user for user in users.users(found, host)}
    made: Sequence[Edit] = decide(there, permissions.read(found, host))
    if made and not dry_run:
        index.require_access(found, host)
        made = users.edit(found, host, decide, wait=wait)
    for edit in made:
        detail = f"  ({edit.detail})" if edit.detail else ""
        what = f"{edit.action} {printable(edit.name)}" if dry_run else f"{_DONE[edit.action]} {edit.name}"
        out.info(printable(what) + detail)
    if not made:
        out.info("nothing to change")
    short = declared_users.short_ones(wanted, made)
    if short:
        out.warn(f"{printable(', '.join(short))}: the password has {SOON_GUESSED}")
    changes = [{"action": edit.action, "user": edit.name, "detail": edit.detail} for edit in made]
    data = {"changed": bool(made), "changes": changes, "short_passwords": short, "dry_run": dry_run}
    return out.result(data)


def export(found: Index, host: Host, out: Output) -> int:
    """Print the users as a declaration that `apply` takes: with their hashes. Returns the exit code."""
    declaration = declared_users.dump(users.users(found, host), permissions.read(found, host))
    out.text(json.dumps(declaration, indent=2, ensure_ascii=False))
    return out.result(declaration)
