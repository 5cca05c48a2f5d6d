"""The command line: parse, then call one function in `ppctl.commands` with explicit arguments.

Nothing heavy is imported here: `ppctl --help` is to answer at once. Each command imports what it
calls when it runs.
"""

from __future__ import annotations

import click

from ppctl import __version__
from ppctl.cli import clients, completion, doctor, fleet, operate, packages, rights, setup, users
from ppctl.cli.options import HELP_OPTIONS, HOME, SectionedGroup

SECTIONS = {
    "The index": setup.COMMANDS,
    "Users": [*users.COMMANDS, *rights.COMMANDS],
    "Packages": packages.COMMANDS,
    "Operating": [*operate.COMMANDS, *doctor.COMMANDS],
    "Developers' client files": clients.COMMANDS,
    "Fleet": fleet.COMMANDS,
    "The shell": completion.COMMANDS,
}


@click.group(
    cls=SectionedGroup,
    sections=SECTIONS,
    context_settings={**HELP_OPTIONS, "max_content_width": 100},
)
@click.version_option(__version__, prog_name="ppctl")
@click.option("-C", "--home", type=HOME, help="The index's home (also PPCTL_HOME).")
@click.pass_context
def cli(context: click.Context, home: str | None) -> None:
    """Deploy and operate private Python package indexes.

    A first index on this machine: ppctl up. Then: ppctl adduser NAME, ppctl status, ppctl pypirc.
    """
    context.obj = {"home": home}
