"""Commands that make, change and remove an index."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import click

from ppctl.cli.options import HOME, Call, command

PATH = click.Path(path_type=Path, resolve_path=True)

SETTINGS = click.option(
    "--settings",
    metavar="FILE",
    type=click.File("rb"),
    help="Make this (-: stdin) the index's ppctl.yml, as a part of the plan.",
)


@command(name="up", fleet=True, changes=True, short_help="Bring the index to its settings and start it.")
@click.argument("home_argument", metavar="[HOME]", required=False, type=HOME)
@click.option("--dry-run", is_flag=True, help="Only show the plan, with unified diffs.")
@click.option("--exit-code", is_flag=True, help="With --dry-run: exit with 2 when there are changes.")
@click.option("--first-user", metavar="NAME", help="Create this user unless there is one.")
@SETTINGS
def up(
    call: Call,
    *,
    home_argument: str | None,
    dry_run: bool,
    exit_code: bool,
    first_user: str | None,
    settings: BinaryIO | None,
) -> int:
    """Bring the index to its settings: plan, show, apply, wait until it answers.

    Without a ppctl.yml in HOME it begins with a commented one with the defaults. A second run changes
    nothing; a run after an interruption finishes the job.
    """
    from ppctl.commands import up as commands

    call.use_home(home_argument)
    return commands.up(
        call.home,
        call.machine(),
        dry_run=dry_run,
        exit_code=exit_code,
        wait=call.wait,
        first_user=first_user,
        given=settings.read() if settings else None,
    )


@command(name="plan", short_help="Show what `up` would do (up --dry-run).")
@click.argument("home_argument", metavar="[HOME]", required=False, type=HOME)
@click.option("--exit-code", is_flag=True, help="Exit with 2 when there are changes.")
@SETTINGS
def plan(call: Call, home_argument: str | None, exit_code: bool, settings: BinaryIO | None) -> int:
    """Show what `ppctl up` would do, with unified diffs; nothing is changed."""
    from ppctl.commands import up as commands

    call.use_home(home_argument)
    given = settings.read() if settings else None
    return commands.up(call.home, call.machine(), dry_run=True, exit_code=exit_code, wait=True, given=given)


@command(name="take-over", changes=True, short_help="Replace a server made by hand; nothing is lost.")
@click.argument("home_argument", metavar="[HOME]", required=False, type=HOME)
@click.option(
    "--program", metavar="NAME", required=True, help="Its program under supervisor; NAME.service: its unit."
)
@click.option("--packages", metavar="DIR", type=PATH, required=True, help="The directory of its packages.")
@click.option("--htpasswd", metavar="FILE", type=PATH, help="Its users; their passwords keep working.")
@click.option("--dry-run", is_flag=True, help="Only show the plan, with unified diffs.")
@click.option("--exit-code", is_flag=True, help="With --dry-run: exit with 2 when there are changes.")
@SETTINGS
def take_over(
    call: Call,
    *,
    home_argument: str | None,
    program: str,
    packages: Path,
    htpasswd: Path | None,
    dry_run: bool,
    exit_code: bool,
    settings: BinaryIO | None,
) -> int:
    """Replace a pypiserver that somebody has made by hand, under supervisor or systemd, by the index in HOME.

    Packages and users are copied, the old server is ended, its configuration set aside, and the index
    started at its place. The old files stay where they are. A second run is `ppctl up`.
    """
    from ppctl.commands import take_over as commands
    from ppctl.managers import handmade

    call.use_home(home_argument)
    return commands.take_over(
        call.home,
        call.machine(),
        commands.Old(program, handmade.find(call.host, program), packages, htpasswd),
        given=settings.read() if settings else None,
        dry_run=dry_run,
        exit_code=exit_code,
        wait=call.wait,
    )


@command(name="init", short_help="Write a commented ppctl.yml.")
@click.argument("home_argument", metavar="[HOME]", required=False, type=HOME)
@click.option("--name", help="Name of the index.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on.")
@click.option("--manager", help="supervisor, systemd or auto.")
@click.option("--system", is_flag=True, help="The index belongs to the machine (mode: system).")
@click.option("--keep", is_flag=True, help="An existing ppctl.yml that says so is fine.")
def init(call: Call, home_argument: str | None, system: bool, keep: bool, **values: object) -> int:
    """Write a ppctl.yml with every key, its meaning and its default."""
    from ppctl.commands import up as commands

    call.use_home(home_argument or (call.system_home(values.get("name")) if system else None))
    chosen = {key: value for key, value in values.items() if value is not None}
    if system:
        chosen["mode"] = "system"
    return commands.init(call.host, call.out, call.home, chosen, keep=keep)


@command(name="schema", json=False, short_help="Print the JSON schema of ppctl.yml.")
def schema(call: Call) -> None:
    """Print the JSON schema (2020-12) of ppctl.yml, for editors and other programs."""
    import json

    from ppctl import settings

    call.out.text(json.dumps(settings.json_schema(), indent=2))


@command(name="down", changes=True, short_help="Stop the index for good; the home stays.")
def down(call: Call) -> int:
    """Stop the index and make its manager forget it: it does not come back at boot. The home stays."""
    from ppctl.commands import remove

    return remove.down(call.own_index(), call.machine(), wait=call.wait)


@command(name="destroy", changes=True, short_help="Remove the index; packages only with --purge.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--purge", is_flag=True, help="Remove the packages, too.")
def destroy(call: Call, yes: bool, purge: bool) -> int:
    """Take the index down and remove what ppctl made in its home. Packages stay unless --purge."""
    from ppctl.commands import remove

    index = call.own_index()
    confirmed = yes or (
        call.is_interactive() and click.confirm(remove.what_goes(index, purge=purge), err=True)
    )
    return remove.destroy(index, call.machine(), confirmed=confirmed, purge=purge, wait=call.wait)


COMMANDS: list[click.Command] = [init, up, plan, take_over, schema, down, destroy]
