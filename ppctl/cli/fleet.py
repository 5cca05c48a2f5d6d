"""Commands for many hosts."""

from __future__ import annotations

import click

from ppctl.cli.options import Call, command


@command(name="wheelhouse", short_help="Build what offline hosts install from.")
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option(
    "--python",
    "pythons",
    default="3.11,3.13",
    show_default=True,
    metavar="VERSIONS",
    help="The hosts' versions of Python (Debian 12 has 3.11, Debian 13 has 3.13).",
)
@click.option(
    "--platform", "platforms", default="", metavar="NAMES", help="x86_64, aarch64. Default: as here."
)
@click.option(
    "--glibc",
    type=click.IntRange(17, 99),
    default=28,
    show_default=True,
    metavar="N",
    help="The oldest C library of the hosts: 2.N (RHEL 8: 28, RHEL 9: 34, Debian 12: 36).",
)
@click.option("--index-url", metavar="URL", default="", help="Download from this index.")
@click.option(
    "--find-links", metavar="DIR", default="", help="Take wheels from this directory only: no internet."
)
def wheelhouse(
    call: Call, *, folder: str, pythons: str, platforms: str, glibc: int, index_url: str, find_links: str
) -> int:
    """Build in DIR what hosts without internet install from: ppctl, the server, and all they need.

    Everything is checked by hash, here and on the hosts. The Ansible roles copy it to each host once.
    """
    from pathlib import Path

    from ppctl import homes
    from ppctl.commands import wheelhouse as commands
    from ppctl.wheelhouse import Source

    if index_url and find_links:
        raise click.UsageError("--index-url and --find-links exclude each other")

    return commands.build(
        homes.absolute(Path(folder)),
        call.host,
        call.out,
        pythons=_names(pythons),
        platforms=_names(platforms),
        glibc=glibc,
        source=Source(index_url, find_links),
    )


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


COMMANDS: list[click.Command] = [wheelhouse]
