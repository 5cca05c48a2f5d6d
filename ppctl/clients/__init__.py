"""Developers' client files: one small pure module for each format, and one helper that writes them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from ppctl.clients.base import Client, Entry, client_name
from ppctl.clients.env import Env
from ppctl.clients.hatch import Hatch
from ppctl.clients.netrc import Netrc
from ppctl.clients.pdm import Pdm
from ppctl.clients.pip import Pip
from ppctl.clients.poetry import Poetry
from ppctl.clients.pypirc import Pypirc
from ppctl.clients.uv import Uv

if TYPE_CHECKING:
    from ppctl.settings import Settings

__all__ = ["CLIENTS", "Client", "Entry", "entry_of", "next_steps"]

_TWINE = Env("twine", "variables for twine alone: upload (a file: ppctl pypirc)")

CLIENTS: dict[str, Client] = {
    client.name: client
    for client in (Pypirc(), Pip(), Uv(), Poetry(), Pdm(), Hatch(), Netrc(), Env(), _TWINE)
}
"""Every format, by the name that is typed."""


def entry_of(settings: Settings, user: str = "") -> Entry:
    """Return what client files say about the index with these settings; `user`: the login name to use."""
    from ppctl.settings import Action

    return Entry(
        client_name(settings.name),
        settings.simple_url,
        settings.upload_url,
        user=user,
        read_login=bool(settings.login & {Action.LIST, Action.DOWNLOAD}),
    )


def next_steps(entry: Entry) -> list[str]:
    """Return what a developer types next: installing with pip and with uv, uploading with twine.

    The lines work as they are, with the package's name in the place of PACKAGE, without any file
    written before. `entry.user` is the login in them (USER if it is not known); no password ever is.
    """
    user = entry.user or "USER"
    named = Entry(entry.name, entry.simple_url, entry.upload_url, user, read_login=entry.read_login)
    url = shlex.quote(named.reading_url)
    trusted = f" --trusted-host {entry.host}" if entry.is_plain_http else ""
    uv = f"uv pip install --default-index {url} PACKAGE"
    if entry.read_login:
        # uv does not ask for a password itself; it keeps what this command has asked for.
        uv = f"uv auth login {shlex.quote(entry.simple_url)} --username {shlex.quote(user)} && {uv}"
    return [
        f"pip install{trusted} --index-url {url} PACKAGE",
        uv,
        f"twine upload --repository-url {shlex.quote(entry.upload_url)} --username {shlex.quote(user)}"
        " dist/*",
    ]
