"""Commands for developers' client files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ppctl.cli.options import TIMEOUT, Call, command, confirming
from ppctl.errors import UsageError
from ppctl.output import Output

if TYPE_CHECKING:
    from ppctl.clients.base import Client, Entry
    from ppctl.commands.clients import Place
    from ppctl.index import Index

Options = dict[str, Any]

_URL = "The index's URL: no home is needed then"
_LOGIN_OPTIONS = (
    click.option("--user", metavar="NAME", default="", help="The login name to write or to use."),
    click.option("--password-stdin", is_flag=True, help="Read the password from standard input."),
)
_FILE_OPTIONS = (
    click.option("--write", is_flag=True, help="Merge the section into the file."),
    click.option("--link", is_flag=True, help="Keep the file in the index's home and link to it."),
    click.option("--remove", is_flag=True, help="Take the section, or the link, out again."),
    click.option("--file", metavar="PATH", type=click.Path(), help="The file, instead of the usual one."),
    click.option("--name", metavar="NAME", help="What the index is called in the file."),
    click.option("--with-password", is_flag=True, help="Write the password too (it is asked for)."),
    click.option(
        "--read-login/--no-read-login", default=None, help="Whether installing needs a login (with --url)."
    ),
    click.option("--yes", is_flag=True, help="Do not ask before replacing a file (--link)."),
)
_OWN_OPTIONS = {
    "pypirc": [click.option("--replace", is_flag=True, help="Put a section of that name aside.")],
    "pip": [click.option("--replace", is_flag=True, help="Put another index-url aside, as a comment.")],
    "uv": [click.option("--explicit", is_flag=True, help="Only for projects that name it in their sources.")],
    "poetry": [
        click.option(
            "--priority",
            type=click.Choice(["primary", "supplemental", "explicit"]),
            default="primary",
            help="How the index stands beside the public one (primary: in its place).",
        )
    ],
}


def _with(options: list[Any] | tuple[Any, ...], function: Any) -> Any:
    for option in reversed(options):
        function = option(function)
    return function


def _client_command(name: str, short_help: str, help_text: str) -> click.Command:
    """Return the command for one format: they differ in a few options only."""

    def run(call: Call, /, **options: Any) -> int:
        return _client(call, name, options)

    url = click.option("--url", metavar="URL", help=f"{_URL} (with --name).")
    options = [*_FILE_OPTIONS, url, *_LOGIN_OPTIONS, *_OWN_OPTIONS.get(name, [])]
    return command(name=name, short_help=short_help, help=help_text)(_with(options, run))


def _client(call: Call, name: str, options: Options) -> int:
    from ppctl import homes
    from ppctl.commands import clients as commands

    action = _action(options)
    client = commands.find(name)
    place = _place(call)
    path = homes.absolute(
        Path(options["file"]) if options["file"] else client.default_path(place.env, place.user_home)
    )
    if action == "remove":
        return commands.remove(client, path, options["name"] or _entry(call, options)[0].name, place)
    entry, index = _entry(call, options)
    entry = _login(entry, options)
    if action == "link":
        if index is None:
            raise UsageError(
                "--link keeps the file in the index's home, and with --url there is none", "--write"
            )
        return commands.link(client, path, entry, index, place, confirm=confirming(options["yes"]))
    work: Callable[[Client, Path, Entry, Place], int] = commands.write if action == "write" else commands.show
    return work(client, path, entry, place)


def _action(options: Options) -> str:
    chosen = [action for action in ("write", "link", "remove") if options[action]]
    if len(chosen) > 1:
        raise click.UsageError(f"--{chosen[0]} and --{chosen[1]} exclude each other")
    if chosen == ["remove"] and (options["with_password"] or options["password_stdin"]):
        raise click.UsageError("--remove takes no password")
    if options["yes"] and chosen != ["link"]:
        raise click.UsageError("--yes is for --link: nothing else asks")
    return chosen[0] if chosen else "print"


def _place(call: Call) -> Place:
    from ppctl.commands.clients import Place

    return Place(call.host, os.environ, Path.home(), call.out)


def _entry(call: Call, options: Options) -> tuple[Entry, Index | None]:
    """Return what to write: from --url and --name, or from the index at the home."""
    from ppctl.clients import base, entry_of

    index = None
    name = options.get("name")
    if options["url"]:
        if not name and "name" in options:
            raise UsageError("--url says where the index is, but not what to call it", "--name NAME")
        entry = base.from_url(options["url"], name or "index")
    else:
        index = _index(call)
        entry = entry_of(index.settings)
        if name:
            entry = replace(base.from_url(entry.upload_url, name), read_login=entry.read_login)
    if options.get("read_login") is not None:
        entry = replace(entry, read_login=options["read_login"])
    priority = "explicit" if options.get("explicit") else options.get("priority", "primary")
    return (
        replace(entry, replace=options.get("replace", False), priority=base.Priority(priority)),
        index,
    )


def _index(call: Call) -> Index:
    from ppctl.layout import Layout

    if call.host.stat(Layout(call.home).settings) is None:
        raise UsageError(
            f"{call.home}: there is no index here (no ppctl.yml)",
            "on a developer's machine say which index: --url https://pypi.example.com --name NAME",
        )
    return call.index()


def _login(entry: Entry, options: Options) -> Entry:
    from ppctl.clients.base import check_login

    wanted = options["with_password"] or options["password_stdin"]
    if wanted and not options["user"]:
        raise UsageError("a password belongs to a user, and none is given", "--user NAME")
    entry = replace(entry, user=options["user"])
    if wanted:
        entry = replace(entry, password=_password(entry.user, stdin=options["password_stdin"]))
    check_login(entry.user, entry.password)
    return entry


def _password(user: str, *, stdin: bool) -> str:
    """Return the password for `user`: never from the arguments, which other users can see."""
    if stdin:
        from ppctl.passwords import Source, line_from_stdin

        password = line_from_stdin(Source.STDIN)
    elif sys.stdin.isatty():
        password = click.prompt(
            f"Password of {user}", hide_input=True, err=True, default="", show_default=False
        )
    else:
        raise UsageError("there is no terminal to ask for the password", "give it with --password-stdin")
    if not password:
        raise UsageError("the password is empty")
    return password


def _check(call: Call, /, **options: Any) -> int:
    from ppctl.commands import clients as commands

    entry, _ = _entry(call, options)
    entry = replace(entry, user=options["user"])
    if options["password_stdin"] and not entry.user:
        raise UsageError("a password belongs to a user, and none is given", "--user NAME")
    if entry.user:
        entry = replace(entry, password=_password(entry.user, stdin=options["password_stdin"]))
    return commands.check(entry, _place(call), options["timeout"])


_CHECK_HELP = """Prove from this machine that the index works, by doing it.

Lists and downloads; with --user uploads a throw-away package, downloads it again and removes it.
Exit code 1 if something does not work.
"""


_CHECK_OPTIONS = (click.option("--url", metavar="URL", help=f"{_URL}."), *_LOGIN_OPTIONS, TIMEOUT)
_CHECK = command(name="check", short_help="Prove that the index works from here.", help=_CHECK_HELP)(
    _with(_CHECK_OPTIONS, _check)
)


class _Clients(click.Group):
    """`ppctl client`: one subcommand for each format, made when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names, as `ppctl client --list` shows them."""
        from ppctl.clients import CLIENTS

        return [*CLIENTS, "check"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:  # noqa: ARG002
        """Return the subcommand. Raises UsageError naming the nearest."""
        if cmd_name == "check":
            return _CHECK
        from ppctl.commands.clients import find

        client = find(cmd_name)
        return _client_command(cmd_name, client.description, f"The {client.description}. {_HELP}")


_HELP = """Printed, unless an option says what to do with it.

In a file that is there only our own section is touched: every other byte stays. No password is written
unless --with-password asks for it.
"""


@click.group(cls=_Clients, invoke_without_command=True, short_help="Files for pip, uv, poetry, …; check.")
@click.option("--list", "listing", is_flag=True, help="List the clients and their files.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print one JSON document.")
@click.pass_context
def client(context: click.Context, listing: bool, as_json: bool) -> None:
    """Files for developers' clients: pip, uv, poetry, …; and a check that the index works from here."""
    if context.invoked_subcommand:
        return
    if not listing:
        click.echo(context.get_help())
        return
    from ppctl.commands import clients as commands

    out = Output("client --list", json=as_json)
    context.find_root().meta["ppctl.output"] = out
    context.exit(commands.listing(_place(Call(out, None))))


COMMANDS: list[click.Command] = [
    _client_command(
        "pypirc", "The repository for twine, flit and hatch.", f"The section of ~/.pypirc. {_HELP}"
    ),
    client,
]
