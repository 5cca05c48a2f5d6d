"""The command that says what is wrong with an index."""

from __future__ import annotations

import click

from ppctl.cli.options import Call, command


@command(name="doctor", fleet=True, short_help="Say what is wrong with the index, and what mends it.")
@click.option("--upstream", is_flag=True, help="Ask the other index which of your names it has, too.")
def doctor(call: Call, upstream: bool) -> int:
    """Examine the index: what is wrong, where, and the command that mends it. Nothing is changed.

    With --upstream the list of all projects is fetched from `upstream_url` (ten megabytes from the public
    index) and compared here: no name of yours is told.

    Exit code 0: no problem (there may be warnings, and checks that could not be made). 1: a problem.
    """
    from ppctl.commands import doctor as commands

    return commands.doctor(call.home, call.machine(), upstream=upstream)


COMMANDS: list[click.Command] = [doctor]
