"""Commands for the users of an index."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from ppctl.cli.completion import user_names
from ppctl.cli.options import Call, command
from ppctl.errors import UsageError

if TYPE_CHECKING:
    from ppctl.passwords import Source

_NEVER_IN_ARGV = (
    "a password on the command line can be read by every user of this machine (ps, shell history)"
)
_INSTEAD = (
    "leave it out to be asked, or use --password-stdin or --generate; where it was a real one, change it"
)


def _password_options(function: Callable[..., int]) -> Callable[..., int]:
    """Add NAME and the options that say where the password comes from."""
    # NAME takes many so that a password typed behind it gets our message: click's would show it.
    for option in reversed(
        [
            click.argument("names", metavar="NAME", nargs=-1, required=True, shell_complete=user_names),
            click.option("--password-stdin", is_flag=True, help="Read the password from stdin: one line."),
            click.option(
                "--generate",
                is_flag=True,
                help="Make up a password; it is printed once, alone on stdout (--json: `password`).",
            ),
            click.option("--hash-stdin", is_flag=True, help="Read a ready htpasswd hash from stdin."),
            click.option("--allow-weak", is_flag=True, help="With --hash-stdin: also take a weak hash."),
            click.option("--password", "-p", is_flag=False, flag_value="", hidden=True),
        ]
    ):
        function = option(function)
    return function


def _source(options: dict[str, Any]) -> tuple[Source, bool]:
    """Return where the password comes from and whether a weak hash will do. Raises UsageError."""
    from ppctl.passwords import Source

    if options["password"] is not None:
        raise UsageError(_NEVER_IN_ARGV, _INSTEAD)
    chosen = [
        source
        for source, given in (
            (Source.STDIN, options["password_stdin"]),
            (Source.GENERATE, options["generate"]),
            (Source.HASH_STDIN, options["hash_stdin"]),
        )
        if given
    ]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(source.value for source in chosen)} exclude each other")
    source = chosen[0] if chosen else Source.PROMPT
    if options["allow_weak"] and source is not Source.HASH_STDIN:
        raise UsageError("--allow-weak goes with --hash-stdin: ppctl itself makes bcrypt hashes only")
    return source, options["allow_weak"]


def _one_name(names: tuple[str, ...]) -> str:
    if len(names) > 1:
        # What stands behind the name may be a password: it is not repeated here.
        raise UsageError(f"expected one NAME; and {_NEVER_IN_ARGV}", _INSTEAD)
    return names[0]


@command(name="adduser", fleet=True, changes=True, short_help="Add a user.")
@_password_options
@click.option("--keep", is_flag=True, help="Leave a user of that name alone instead of failing.")
def adduser(call: Call, names: tuple[str, ...], keep: bool, **options: Any) -> int:
    """Add the user NAME. Asks for the password, twice, unless an option says where it comes from.

    The password is stored as bcrypt; the cost is `password.bcrypt_cost` in ppctl.yml. The user can log in
    at once, no restart is needed. Passwords are never taken from the command line.
    """
    source, allow_weak = _source(options)
    name = _one_name(names)
    from ppctl.commands import users

    return users.adduser(
        call.own_index(), call.host, call.out, name, source, allow_weak=allow_weak, wait=call.wait, keep=keep
    )


@command(name="passwd", fleet=True, changes=True, short_help="Change a user's password.")
@_password_options
def passwd(call: Call, names: tuple[str, ...], **options: Any) -> int:
    """Change the password of the user NAME. Asks for it, twice, unless an option says where it comes from.

    Passwords stored with another scheme move to bcrypt. The old password is refused at once; a disabled
    user stays disabled.
    """
    source, allow_weak = _source(options)
    name = _one_name(names)
    from ppctl.commands import users

    return users.passwd(
        call.own_index(), call.host, call.out, name, source, allow_weak=allow_weak, wait=call.wait
    )


@command(name="deluser", fleet=True, changes=True, short_help="Remove users.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=user_names)
@click.option("--missing-ok", is_flag=True, help="Skip names that no user has instead of failing.")
def deluser(call: Call, names: tuple[str, ...], missing_ok: bool) -> int:
    """Remove the users NAME..., all or none of them. Their logins are refused at once.

    It does not ask: to keep a user's password for later, use `ppctl disable`.
    """
    from ppctl.commands import users

    return users.deluser(call.own_index(), call.host, call.out, names, wait=call.wait, missing_ok=missing_ok)


@command(
    name="disable", fleet=True, changes=True, short_help="Refuse a user's logins, but keep the password."
)
@click.argument("name", shell_complete=user_names)
def disable(call: Call, name: str) -> int:
    """Refuse the logins of the user NAME, at once, but keep the password for `ppctl enable`."""
    from ppctl.commands import users

    return users.disable(call.own_index(), call.host, call.out, name, wait=call.wait)


@command(name="enable", fleet=True, changes=True, short_help="Accept a disabled user's logins again.")
@click.argument("name", shell_complete=user_names)
def enable(call: Call, name: str) -> int:
    """Accept the logins of the disabled user NAME again, with the old password."""
    from ppctl.commands import users

    return users.enable(call.own_index(), call.host, call.out, name, wait=call.wait)


@command(name="users", fleet=True, short_help="List the users.", cls=click.Group, invoke_without_command=True)
@click.option("--diff", is_flag=True, help="With --on: show only where the hosts differ.")
def list_users(call: Call, diff: bool) -> int:
    """List the users: how the password is stored, whether that is weak, disabled or not, the last change.

    The last change is from the audit log; `-`: not changed by ppctl.
    """
    if diff:
        raise click.UsageError("--diff goes with --on PATTERN")
    from ppctl.commands import users

    return users.list_users(call.index(), call.host, call.out)


@command(name="apply", changes=True, short_help="Make the users those that a file declares.")
@click.argument("declaration", metavar="FILE", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Only show what would be changed.")
def apply_users(call: Call, declaration: BinaryIO, dry_run: bool) -> int:
    """Make the users those that FILE declares (-: stdin), all of it or nothing.

    FILE is YAML or JSON: `users`, a list of `name` with `password` or `password_hash`, `state` (present or
    absent), `disabled` and `permissions` (`read`, `upload` with a list of patterns, `admin`); `exclusive:
    true` removes whoever is not listed. A password that is right already is left alone. Not read from the
    command line, so that no password can be on it.
    """
    from ppctl import declared_users, index
    from ppctl.commands import declared

    wanted = declared_users.load(declaration.read(), getattr(declaration, "name", "<stdin>"))
    found = index.load_to_look(call.host, call.home) if dry_run else call.own_index()
    return declared.apply(found, call.host, call.out, wanted, dry_run=dry_run, wait=call.wait)


@command(name="export", short_help="Print the users with their hashes, for `apply`.")
def export_users(call: Call) -> int:
    """Print the users with their password hashes, in the form that `ppctl users apply` takes."""
    from ppctl.commands import declared

    return declared.export(call.index(), call.host, call.out)


@command(name="copy", short_help="Bring the users of hosts in line with those of one host.")
@click.option("--from", "source", metavar="HOST", required=True, help="The host whose users are copied.")
@click.option("--on", "pattern", metavar="PATTERN", required=True, help="The hosts that get them.")
@click.option("-i", "--inventory", metavar="PATH", multiple=True, help="Ansible's inventory.")
@click.option("--index", metavar="NAME", default="", help="The index on the hosts.")
@click.option(
    "-K", "--ask-become-pass", is_flag=True, help="Ask for sudo's password, for each of the two steps."
)
@click.option("--ask-vault-pass", is_flag=True, help="Ask for the vault's password, the same.")
@click.option("--exclusive", is_flag=True, help="Remove users that HOST has not.")
def copy_users(
    call: Call,
    *,
    source: str,
    pattern: str,
    inventory: tuple[str, ...],
    index: str,
    ask_become_pass: bool,
    ask_vault_pass: bool,
    exclusive: bool,
) -> int:
    """Copy the users, with their password hashes, from one host to others."""
    from ppctl.commands import fleet
    from ppctl.fleet import Target

    home = str(call.asked_home or "")
    return fleet.copy_users(
        Target(source, inventory, index, home, ask_become_pass, ask_vault_pass),
        Target(pattern, inventory, index, home, ask_become_pass, ask_vault_pass),
        call.out,
        exclusive=exclusive,
    )


list_users.add_command(copy_users)  # type: ignore[attr-defined]
list_users.add_command(apply_users)  # type: ignore[attr-defined]
list_users.add_command(export_users)  # type: ignore[attr-defined]


@command(name="audit", fleet=True, short_help="Show who changed which user, and when.")
@click.option("-n", "--last", type=click.IntRange(min=1), metavar="N", help="Only the last N entries.")
@click.option("--user", metavar="NAME", help="Only the entries about this user.", shell_complete=user_names)
@click.option("--logins", is_flag=True, help="Show the logins that the workers have refused instead.")
def audit(call: Call, last: int | None, user: str | None, logins: bool) -> int:
    """Show the audit log, oldest first: when, who, what, and which user. It holds no secrets.

    With --logins: refused logins; when, from which address, as which user, and why. A name that no user has
    is `?`, since it may be a password that was typed into the wrong field. The oldest ones are thrown away.
    """
    from ppctl.commands import users

    return users.show_audit(call.index(), call.host, call.out, last=last, user=user, logins=logins)


COMMANDS: list[click.Command] = [adduser, passwd, deluser, disable, enable, list_users, audit]
