"""Commands for what users may do, and for tokens."""

from __future__ import annotations

import time

import click

from ppctl.cli.completion import user_names
from ppctl.cli.options import Call, command

_KINDS = ("read", "upload", "admin")

_NAME = click.argument("name", shell_complete=user_names)
_PERMISSIONS = click.argument(
    "permissions", metavar="PERMISSION...", type=click.Choice(_KINDS), nargs=-1, required=True
)
_PROJECT = click.option(
    "--project",
    "projects",
    metavar="PATTERN",
    multiple=True,
    help="Upload to projects whose names match only, such as 'team-*'; may be repeated.",
)


@command(name="grant", fleet=True, changes=True, short_help="Let a user do something, and only that.")
@_NAME
@_PERMISSIONS
@_PROJECT
def grant(call: Call, name: str, permissions: tuple[str, ...], projects: tuple[str, ...]) -> int:
    """Let the user NAME do what PERMISSION says: read, upload or admin. Counts at once.

    A user to whom nothing was ever granted may read and upload everything, as with plain pypiserver. From
    the first grant on a user may do what was granted and nothing else: name everything in one command, such
    as `ppctl user grant ci-bot read upload --project 'team-*'`. `admin` is everything, whoever owns it.
    """
    from ppctl.commands import rights

    return rights.grant(
        call.own_index(), call.host, call.out, name, kinds=permissions, projects=projects, wait=call.wait
    )


@command(name="revoke", fleet=True, changes=True, short_help="Take a permission back.")
@_NAME
@_PERMISSIONS
@_PROJECT
def revoke(call: Call, name: str, permissions: tuple[str, ...], projects: tuple[str, ...]) -> int:
    """Take PERMISSION back from the user NAME; with --project only these patterns. Counts at once."""
    from ppctl.commands import rights

    return rights.revoke(
        call.own_index(), call.host, call.out, name, kinds=permissions, projects=projects, wait=call.wait
    )


@command(name="reset", fleet=True, changes=True, short_help="Forget what was granted and revoked.")
@_NAME
def reset(call: Call, name: str) -> int:
    """Let the user NAME do again what every user may to whom nothing was granted: read and upload."""
    from ppctl.commands import rights

    return rights.reset(call.own_index(), call.host, call.out, name, wait=call.wait)


@command(name="create", changes=True, short_help="Make a token for a program.")
@click.argument("name")
@click.option("--user", required=True, metavar="NAME", help="Whose token it is.", shell_complete=user_names)
@click.option(
    "--upload", "upload", metavar="PATTERN", multiple=True, help="Projects to upload to; may be repeated."
)
@click.option("--read", is_flag=True, help="List and download.")
@click.option(
    "--expires", metavar="WHEN", default="90d", show_default=True, help="90d, 12h, a date, or never."
)
def create_token(
    call: Call, name: str, *, user: str, upload: tuple[str, ...], read: bool, expires: str
) -> int:
    """Make the token NAME and print it, alone on stdout: now and never again.

    A program logs in with it as user `__token__`, or as `Authorization: Bearer`. It may do what is said
    here and what its user may; it ends with its user. It never removes packages.
    """
    from ppctl.commands import rights

    return rights.create_token(
        call.own_index(),
        call.host,
        call.out,
        name,
        user=user,
        read=read,
        upload=upload,
        expires=expires,
        now=time.time(),
        wait=call.wait,
    )


@command(name="list", short_help="List the tokens.")
def list_tokens(call: Call) -> int:
    """List the tokens: whose, what for, when made, when they end, when last used. Never the tokens."""
    from ppctl.commands import rights

    return rights.list_tokens(call.index(), call.host, call.out, now=time.time())


@command(name="revoke", changes=True, short_help="Make a token useless, at once.")
@click.argument("name")
def revoke_token(call: Call, name: str) -> int:
    """Remove the token NAME: from now on it is refused by every worker."""
    from ppctl.commands import rights

    return rights.revoke_token(call.own_index(), call.host, call.out, name, wait=call.wait)


@click.group(short_help="Grant and revoke permissions.")
def user() -> None:
    """What users may do. `ppctl users` shows it."""


@click.group(short_help="Make, list and revoke tokens.")
def token() -> None:
    """Tokens for programs, such as CI jobs: they may do little, and end by themselves."""


for _command in (grant, revoke, reset):
    user.add_command(_command)
for _command in (create_token, list_tokens, revoke_token):
    token.add_command(_command)

COMMANDS: list[click.Command] = [user, token]
