"""The command that says what is wrong with an index."""

from __future__ import annotations

import click

from ppctl.cli.options import Call, command


@command(name="doctor", fleet=True, short_help="Say what is wrong with the index, and what mends it.")
def doctor(call: Call) -> int:
    """Examine the index: what is wrong, where, and the command that mends it. Nothing is changed.

    Exit code 0: no problem (there may be warnings, and checks that could not be made). 1: a problem.
    """
    from ppctl.commands import doctor as commands

    return commands.doctor(call.home, call.machine())


COMMANDS: list[click.Command] = [doctor]
