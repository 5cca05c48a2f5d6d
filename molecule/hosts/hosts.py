#!/usr/bin/env python3
"""Boot real Debian hosts on this machine: systemd as PID 1, sshd, an address of their own.

A host is an overlay over a shared root file system, in a network namespace on a bridge that leads
nowhere else, run by systemd-nspawn. README.md beside this file tells more.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import base
import life
import offline
from host import Host, all_hosts, exec_argv, load
from shared import HostsError

FAILED = 125  # our own exit code, as `exec` returns the command's


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="hosts.py", description=(__doc__ or "").partition("\n")[0])
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, suite: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        default_run = os.environ.get("PPCTL_HOSTS_RUN", "main")
        sub.add_argument("--run", default=default_run, help="keeps parallel runs apart (%(default)s)")
        if suite:
            sub.add_argument("--suite", default="bookworm", choices=base.SUITES)
        return sub

    boot = command("up", "boot hosts; prints a JSON object for each", suite=True)
    boot.add_argument("names", nargs="+", metavar="NAME[:OCTET]")
    boot.add_argument("--owner", type=int, metavar="PID", help="remove them once this process is gone")
    boot.add_argument("--wheels", type=Path, metavar="FOLDER", help="what the hosts see as /opt/wheels")
    inside = command("exec", "run a command in a host")
    inside.add_argument("--user", help="run it as this user (root)")
    inside.add_argument("name", metavar="NAME")
    inside.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND...")
    command("reboot", "reboot a host and wait").add_argument("name", metavar="NAME")
    command("list", "print a JSON object for each host of every run")
    end = command("down", "remove hosts")
    end.add_argument("names", nargs="*", metavar="NAME")
    end.add_argument("--all", action="store_true", help="every host of this run")
    end.add_argument("--stale", action="store_true", help="hosts of any run whose owner is gone")
    command("check", "say what this machine lacks for booting hosts, and fail, if anything")
    command("base", "build the root file system unless it is there; prints its folder", suite=True)
    debs = command("debs", "add Debian packages to what hosts see as /opt/debs", suite=True)
    debs.add_argument("packages", nargs="+", metavar="PACKAGE")
    wheels = command("wheels", "build a folder of wheels for `up --wheels`; prints it", suite=True)
    wheels.add_argument("requirements", nargs="*", metavar="REQUIREMENT")
    wheels.add_argument(
        "-r",
        dest="files",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a requirements file, a lock file or a pyproject.toml",
    )
    return top


def main() -> None:
    """Parse the command line and call what it names."""
    args = parser().parse_args()
    os.umask(0o022)  # the hosts' files are made here
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    match args.command:
        case "up":
            show(life.up(args.names, args.run, args.suite, args.owner, args.wheels))
        case "exec":
            argv = exec_argv(load(args.run, args.name), args.argv, args.user)
            os.execvp(argv[0], argv)  # noqa: S606 - no shell is the point
        case "reboot":
            life.reboot(load(args.run, args.name))
        case "list":
            show(list(all_hosts()))
        case "down":
            hosts = [host for host in all_hosts() if host.run == args.run]
            life.down([host for host in hosts if args.all or host.name in args.names])
            if args.stale:
                life.down_stale()
        case "check":
            life.ensure_tools()
        case "base":
            print(base.build(args.suite))
        case "debs":
            print(offline.debs(args.suite, args.packages))
        case "wheels":
            print(offline.wheels(args.suite, args.requirements, args.files))


def show(hosts: Sequence[Host]) -> None:
    for host in hosts:
        print(json.dumps(host.describe()))


def interrupt(_signum: int, _frame: object) -> NoReturn:
    """Turn a signal into the exception of ^C, so that `up` removes what it has begun."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        main()
    except HostsError as error:
        print(f"hosts.py: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
