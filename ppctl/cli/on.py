"""`--on PATTERN`: the same command line, but for hosts of an inventory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from ppctl.errors import UsageError

if TYPE_CHECKING:
    from ppctl.cli.options import Call
    from ppctl.fleet import Target

# Options that mean something else on many hosts, or that Ansible has its own for.
_LOCAL = {"home", "quiet", "as_json", "on", "inventory", "index", "ask_become_pass", "ask_vault_pass"}
_SECRET = {"password_stdin", "generate", "hash_stdin", "password"}
_NOT_ON = {
    "follow": "--follow",
    "first_user": "--first-user",
    "settings": "--settings",
    "home_argument": "HOME",
    "exit_code": "--exit-code",
}
_BCRYPT_COST = 12  # the settings of the hosts are not known here


def take_target(values: dict[str, Any], home: str) -> Target | None:
    """Take the options of --on out of `values`. Returns the target, None without --on. Raises UsageError."""
    pattern = values.pop("on")
    inventory, index = values.pop("inventory"), values.pop("index")
    become, vault = values.pop("ask_become_pass"), values.pop("ask_vault_pass")
    if pattern is None:
        if inventory or index or become or vault:
            raise click.UsageError("--inventory, --index and the passwords to ask for go with --on PATTERN")
        return None
    if index and home:
        raise click.UsageError("--index and --home exclude each other")
    from ppctl.fleet import Target

    return Target(pattern, inventory, index, home, become, vault)


def run(call: Call, context: click.Context, target: Target, values: Mapping[str, Any]) -> int:
    """Run the command of `context` on the hosts. Returns the exit code."""
    from ppctl.commands import fleet

    for name, shown in _NOT_ON.items():
        if values.get(name):
            raise UsageError(f"{shown} and --on exclude each other")
    command = context.command_path.partition(" ")[2]
    if command == "up":
        for shown, given in (
            ("--index", target.index),
            ("--home", target.home),
            ("--no-wait", not call.wait),
        ):
            if given:
                raise UsageError(f"up --on does what the inventory says, without {shown}")
        return fleet.up(target, call.out, dry_run=values["dry_run"])
    argv = [*command.split(), *_arguments(context.command, values)]
    if not call.wait:
        argv.append("--no-wait")
    if "hash_stdin" in values:
        return _with_password(call, target, argv, values)
    if command == "token create":
        return _with_token(call, target, values)
    if command in ("deluser", "token revoke") and not values["missing_ok"]:
        argv.append("--missing-ok")  # so that the same command again finishes the rest
    if command == "users" and values["diff"]:
        return fleet.differences(target, call.out)
    return fleet.command(target, argv, call.out)


def _arguments(command: click.Command, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the command's own options and arguments as they would be typed on the host."""
    for parameter in command.params:
        name = parameter.name or ""
        value = values.get(name)
        if name in _LOCAL | _SECRET or name in _NOT_ON or not value or value == parameter.default:
            continue
        if isinstance(parameter, click.Argument):
            yield from value if isinstance(value, tuple) else [str(value)]
        elif value is True:
            yield parameter.opts[-1]
        else:
            for each in value if isinstance(value, tuple) else [value]:
                yield from (parameter.opts[-1], str(each))


def _with_password(call: Call, target: Target, argv: list[str], values: Mapping[str, Any]) -> int:
    """Ask for the password once, hash it once, and send only the hash."""
    from ppctl import passwords, users
    from ppctl.cli.users import _one_name, _source
    from ppctl.commands import fleet
    from ppctl.commands.users import warn_of_short

    source, allow_weak = _source(dict(values))
    name = _one_name(values["names"])
    users.check_name(name)
    credentials = passwords.obtain(source, cost=_BCRYPT_COST, allow_weak=allow_weak)
    argv += ["--hash-stdin"]
    if argv[0] == "adduser" and "--keep" not in argv:
        argv.append("--keep")  # so that the same command again finishes the rest
    better = target.command(["passwd", name, "--generate"], [target.pattern])
    warn_of_short(call.out, credentials, better)
    if credentials.generated is not None:
        call.out.text(credentials.generated)
    made = {} if credentials.generated is None else {"password": credentials.generated}
    return fleet.command(target, argv, call.out, stdin=credentials.hash, made=made)


def _with_token(call: Call, target: Target, values: Mapping[str, Any]) -> int:
    """Make a token here, and send the hosts only what they keep of it. It ends everywhere at once."""
    import time

    from ppctl import tokens
    from ppctl.cli.rights import given_secret
    from ppctl.commands import fleet

    token, secret = tokens.create(
        values["name"],
        values["user"],
        read=values["read"],
        upload=values["upload"],
        expires=values["expires"],
        now=time.time(),
        secret=given_secret(values["token_stdin"]),
    )
    argv = ["token", "create", token.name, "--user", token.user, "--digest-stdin"]
    argv += [word for pattern in token.rights.upload for word in ("--upload", pattern)]
    argv += ["--read"] if token.rights.read else []
    argv += ["--expires", tokens.moment(token.expires)]
    call.out.text(secret)
    call.out.progress("keep it: to finish the rest, should a host fail, it is needed again (--token-stdin)")
    return fleet.command(
        target,
        argv if call.wait else [*argv, "--no-wait"],
        call.out,
        stdin=token.digest,
        made={"token": secret},
    )
