"""Commands that operate an index that is up."""

from __future__ import annotations

import click

from ppctl.cli.options import TIMEOUT, Call, command

WORKER = click.option(
    "--worker", "numbers", metavar="N", type=int, multiple=True, help="Only this worker; may be repeated."
)


@command(name="status", fleet=True, short_help="Show whether the index is well.")
def status(call: Call) -> int:
    """Show whether the index is well: workers, address, contents.

    Exit code 0: healthy. 1: degraded (some workers do not answer) or down.
    """
    from ppctl.commands import status as commands

    return commands.status(call.index(), call.machine())


@command(name="start", fleet=True, changes=True, short_help="Start the workers.")
def start(call: Call) -> int:
    """Start the workers that do not run, and wait until they serve."""
    from ppctl.commands import operate

    return operate.start(call.own_index(), call.machine(), wait=call.wait)


@command(name="stop", fleet=True, changes=True, short_help="Stop the workers.")
def stop(call: Call) -> int:
    """Stop every worker gracefully: transfers in flight finish."""
    from ppctl.commands import operate

    return operate.stop(call.own_index(), call.machine(), wait=call.wait)


@command(
    name="restart", fleet=True, changes=True, short_help="Restart the workers one by one; no request is lost."
)
@WORKER
def restart(call: Call, numbers: tuple[int, ...]) -> int:
    """Restart the workers one by one: each must serve again before the next one stops.

    The manager holds the listening socket all the time, so no request is lost.
    """
    from ppctl.commands import operate

    return operate.restart(call.own_index(), call.machine(), numbers=numbers, wait=call.wait)


@command(name="logs", fleet=True, short_help="Show the workers' logs.")
@click.option(
    "-n",
    "--lines",
    metavar="N",
    type=click.IntRange(0),
    default=50,
    show_default=True,
    help="The last N lines of each.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines are written, until Ctrl-C.")
@WORKER
def logs(call: Call, numbers: tuple[int, ...], lines: int, follow: bool) -> int:
    """Show the last lines of the workers' logs."""
    from ppctl.commands import operate

    if follow and call.out.json:
        raise click.UsageError("--follow and --json exclude each other")
    return operate.logs(call.index(), call.machine(), numbers=numbers, lines=lines, follow=follow)


@command(name="verify", changes=True, short_help="Prove on this host that the index works.")
@TIMEOUT
def verify(call: Call, timeout: float) -> int:
    """Prove that the index works, by using it: every worker, listing, and a real package.

    A throw-away package is uploaded, downloaded and removed by a user that exists only meanwhile, so no
    password is needed. Exit code 1 if something does not work.
    """
    from ppctl.commands import verify as commands

    return commands.verify(call.own_index(), call.machine(), timeout=timeout, wait=call.wait)


COMMANDS: list[click.Command] = [status, start, stop, restart, verify, logs]
