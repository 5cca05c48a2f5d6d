"""Commands for the packages of an index."""

from __future__ import annotations

import click

from ppctl.cli.completion import user_names
from ppctl.cli.options import Call, command, confirming

_REASON = click.option("--reason", default="", metavar="TEXT", help="Shown by pip and uv.")


@command(name="list", short_help="List the projects, or the files of one.")
@click.argument("project", required=False)
@click.option("--former", is_flag=True, help="Names that were here and have no files any more.")
def list_packages(call: Call, project: str | None, former: bool) -> int:
    """List the projects of the index; with PROJECT its files, their versions and what is yanked."""
    if project and former:
        raise click.UsageError("PROJECT and --former exclude each other")
    from ppctl.commands import packages

    return packages.list_packages(call.index(), call.host, call.out, project, former=former)


@command(name="yank", short_help="Let nobody install a version by chance.")
@click.argument("project")
@click.argument("version")
@_REASON
def yank(call: Call, project: str, version: str, reason: str) -> int:
    """Yank VERSION of PROJECT (PEP 592): installers take it only where it is asked for by this very version.

    Its files stay. At once, on all workers.
    """
    from ppctl.commands import packages

    return packages.yank(call.own_index(), call.host, call.out, project, version, reason=reason)


@command(name="unyank", short_help="Take a yank back.")
@click.argument("project")
@click.argument("version")
def unyank(call: Call, project: str, version: str) -> int:
    """Take back that VERSION of PROJECT was yanked."""
    from ppctl.commands import packages

    return packages.unyank(call.own_index(), call.host, call.out, project, version)


@command(name="status", short_help="Mark a project as archived, deprecated or quarantined.")
@click.argument("project")
@click.argument("status", type=click.Choice(["active", "archived", "deprecated", "quarantined"]))
@_REASON
def status(call: Call, project: str, status: str, reason: str) -> int:
    """Say what the STATUS of PROJECT is (PEP 792). The files of a quarantined project are not listed."""
    from ppctl.commands import packages

    return packages.status(call.own_index(), call.host, call.out, project, status, reason=reason)


@command(name="owner", short_help="Say whose project it is.")
@click.argument("project")
@click.argument("user", required=False, shell_complete=user_names)
@click.option("--nobody", is_flag=True, help="It belongs to nobody: everybody who may upload, may.")
def owner(call: Call, project: str, user: str | None, nobody: bool) -> int:
    """Make USER the owner of PROJECT; without USER say who is. Counts with `ownership: true` in ppctl.yml."""
    if user and nobody:
        raise click.UsageError("USER and --nobody exclude each other")
    from ppctl.commands import packages

    found = call.own_index() if user or nobody else call.index()
    return packages.owner(found, call.host, call.out, project, user, nobody=nobody)


@command(name="remove", short_help="Remove the files of a version.")
@click.argument("project")
@click.argument("version")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(call: Call, project: str, version: str, yes: bool) -> int:
    """Remove the files of VERSION of PROJECT for good. At once, on all workers."""
    from ppctl.commands import packages

    return packages.remove(call.own_index(), call.host, call.out, project, version, confirm=confirming(yes))


@command(name="forget", short_help="Let a name be looked for upstream again.")
@click.argument("project")
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(call: Call, project: str, yes: bool) -> int:
    """Forget that PROJECT, which has no files any more, was ever in this index.

    Names that were here are never looked for in another index (`upstream` in ppctl.yml), so that nobody who
    registers one there gets installed here. `ppctl packages list --former` shows them.
    """
    from ppctl.commands import packages

    return packages.forget(call.own_index(), call.host, call.out, project, confirm=confirming(yes))


@click.group(short_help="List, yank, mark and remove packages.")
def packages() -> None:
    """The packages of a running index: list, yank, mark and remove them."""


for _command in (list_packages, yank, unyank, status, owner, remove, forget):
    packages.add_command(_command)

COMMANDS: list[click.Command] = [packages]
