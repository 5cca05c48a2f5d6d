"""Commands for what users may do, and for tokens."""

from __future__ import annotations

import sys
import time
from typing import Literal

import click

from ppctl.cli.completion import user_names
from ppctl.cli.options import Call, command

_MAX_INPUT = 4096
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


def _change(
    how: Literal["grant", "revoke"],
    call: Call,
    name: str,
    kinds: tuple[str, ...],
    projects: tuple[str, ...],
) -> int:
    from ppctl.commands import rights

    return rights.change(
        how, call.own_index(), call.host, call.out, name, kinds=kinds, projects=projects, wait=call.wait
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
    return _change("grant", call, name, permissions, projects)


@command(name="revoke", fleet=True, changes=True, short_help="Take a permission back.")
@_NAME
@_PERMISSIONS
@_PROJECT
def revoke(call: Call, name: str, permissions: tuple[str, ...], projects: tuple[str, ...]) -> int:
    """Take PERMISSION back from the user NAME; with --project only these patterns. Counts at once."""
    return _change("revoke", call, name, permissions, projects)


@command(name="reset", fleet=True, changes=True, short_help="Forget what was granted and revoked.")
@_NAME
def reset(call: Call, name: str) -> int:
    """Let the user NAME do again what every user may to whom nothing was granted: read and upload."""
    from ppctl.commands import rights

    return rights.reset(call.own_index(), call.host, call.out, name, wait=call.wait)


@command(name="create", fleet=True, changes=True, short_help="Make a token for a program.")
@click.argument("name")
@click.option("--user", required=True, metavar="NAME", help="Whose token it is.", shell_complete=user_names)
@click.option(
    "--upload", "upload", metavar="PATTERN", multiple=True, help="Projects to upload to; may be repeated."
)
@click.option("--read", is_flag=True, help="List and download.")
@click.option(
    "--expires", metavar="WHEN", default="90d", show_default=True, help="90d, 12h, a date, or never."
)
@click.option(
    "--token-stdin", is_flag=True, help="Take a token that was made before, from stdin, not a new one."
)
@click.option("--digest-stdin", is_flag=True, hidden=True)  # what --on sends to hosts
def create_token(
    call: Call,
    name: str,
    *,
    user: str,
    upload: tuple[str, ...],
    read: bool,
    expires: str,
    token_stdin: bool,
    digest_stdin: bool,
) -> int:
    """Make the token NAME and print it, alone on stdout: now and never again.

    A program logs in with it as user `__token__`, or as `Authorization: Bearer`. It may do what is said
    here and what its user may; it ends with its user. It never removes packages.

    With --on the token is the same on all hosts. If a host fails, the same command with --token-stdin and
    this token finishes the rest.
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
        secret=given_secret(token_stdin),
        digest=_line() if digest_stdin else None,
    )


def given_secret(from_stdin: bool) -> str | None:
    """Return the token on stdin, if it is to be read."""
    return _line() if from_stdin else None


def _line() -> str:
    # More than any token; never from argv, which every user of the machine can read.
    return sys.stdin.buffer.read(_MAX_INPUT).decode("utf-8", "replace").strip()


@command(name="list", fleet=True, short_help="List the tokens.")
def list_tokens(call: Call) -> int:
    """List the tokens: whose, what for, when made, when they end, when last used. Never the tokens."""
    from ppctl.commands import rights

    return rights.list_tokens(call.index(), call.host, call.out, now=time.time())


@command(name="revoke", fleet=True, changes=True, short_help="Make a token useless, at once.")
@click.argument("name")
@click.option("--missing-ok", is_flag=True, help="Do nothing where there is no such token, rather than fail.")
def revoke_token(call: Call, name: str, missing_ok: bool) -> int:
    """Remove the token NAME: from now on it is refused by every worker."""
    from ppctl.commands import rights

    return rights.revoke_token(
        call.own_index(), call.host, call.out, name, wait=call.wait, missing_ok=missing_ok
    )


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
