"""Options that many commands share, and the sections of `ppctl --help`."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ppctl.errors import UsageError
from ppctl.output import Output

if TYPE_CHECKING:
    from ppctl.host import Host
    from ppctl.index import Index
    from ppctl.machine import Machine


HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}

TIMEOUT = click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0.1),
    default=15.0,
    show_default=True,
    help="How long to wait for each answer.",
)

# Not readable is for ppctl itself to explain: sudo, or the owner's account.
HOME = click.Path(readable=False)


@dataclass
class Call:
    """One call of ppctl: where it writes to, the machine, and the home it means."""

    out: Output
    asked_home: Path | None
    wait: bool = True

    @functools.cached_property
    def host(self) -> Host:
        """The machine that ppctl runs on."""
        from ppctl.local_host import LocalHost

        return LocalHost(announce=self.out.progress)

    @functools.cached_property
    def home(self) -> Path:
        """The home that the command means."""
        from ppctl import homes

        return homes.find(self.host, self.asked_home)

    def machine(self) -> Machine:
        """Return the machine with its managers and workers."""
        from ppctl.machine import Machine

        return Machine(self.host, self.out)

    def use_home(self, argument: str | None) -> None:
        """Take a HOME given as an argument; it means the same as -C HOME."""
        if argument:
            self.asked_home = Path(argument)

    def system_home(self, name: object) -> str | None:
        """Return the home for a new index of the machine's, None when the call says which."""
        from ppctl import homes

        says = self.asked_home or os.environ.get("PPCTL_HOME")
        return None if says else str(homes.SYSTEM_HOMES / str(name or "pypi"))

    def is_interactive(self) -> bool:
        """Return whether there is a person to ask."""
        return not self.out.json and sys.stdin.isatty()

    def index(self) -> Index:
        """Return the index at the home, for commands that only look."""
        from ppctl import index

        return index.load(self.host, self.home)

    def own_index(self) -> Index:
        """Return the index at the home, for commands that change it (PpctlError if not allowed)."""
        from ppctl import index

        found = self.index()
        index.require_access(found, self.host)
        return found


ON = [
    click.option("--on", metavar="PATTERN", help="Do it on these hosts, through Ansible (all: every host)."),
    click.option("-i", "--inventory", metavar="PATH", multiple=True, help="With --on: Ansible's inventory."),
    click.option("--index", metavar="NAME", default="", help="With --on: the index on the hosts, or all."),
    click.option("-K", "--ask-become-pass", is_flag=True, help="With --on: ask for sudo's password."),
    click.option("--ask-vault-pass", is_flag=True, help="With --on: ask for the vault's password."),
]


def command(
    *, json: bool = True, changes: bool = False, fleet: bool = False, **attributes: Any
) -> Callable[..., click.Command]:
    """Return a decorator that makes a click command of a function whose first argument is a `Call`.

    The function returns the exit code (None: 0). `json`: the command reports, so it has --json;
    `changes`: it changes the index, so it takes the lock and has --no-wait. `fleet`: it has --on.
    """

    def decorate(function: Callable[..., int | None]) -> click.Command:
        @click.pass_context
        @functools.wraps(function)
        def run(context: click.Context, /, **values: Any) -> None:
            asked = values.pop("home") or (context.find_root().obj or {}).get("home")
            if context.invoked_subcommand:
                context.find_root().obj = {"home": asked}  # `ppctl users -C HOME apply`
                return
            out = Output(
                context.command_path.partition(" ")[2],
                json=values.pop("as_json", False),
                quiet=values.pop("quiet"),
            )
            context.find_root().meta["ppctl.output"] = out  # __main__ reports errors through it
            call = Call(out, Path(asked) if asked else None, wait=not values.pop("no_wait", False))
            if fleet:
                from ppctl.cli import on

                target = on.take_target(values, asked or "")
                if target:
                    context.exit(on.run(call, context, target, values))
            context.exit(function(call, **values) or 0)

        options = [
            click.option("-C", "--home", type=HOME, help="The index's home (also PPCTL_HOME)."),
            click.option("-q", "--quiet", is_flag=True, help="Print results and errors only."),
        ]
        if json:
            options.append(click.option("--json", "as_json", is_flag=True, help="Print one JSON document."))
        if changes:
            options.append(
                click.option("--no-wait", is_flag=True, help="Fail if another ppctl is at work on the index.")
            )
        if fleet:
            options += ON
        decorated: Callable[..., Any] = run
        for option in reversed(options):
            decorated = option(decorated)
        # Said for each command too: completion and documentation build commands without the group.
        attributes.setdefault("context_settings", HELP_OPTIONS)
        made: click.Command = click.command(**attributes)(decorated)
        return made

    return decorate


class SectionedGroup(click.Group):
    """A group whose help lists its commands in sections."""

    def __init__(
        self, *args: Any, sections: Mapping[str, Sequence[click.Command]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections or {}
        for commands in self.sections.values():
            for each in commands:
                self.add_command(each)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands, section by section."""
        limit = formatter.width - 6 - max((len(name) for name in self.commands), default=0)
        for title, commands in self.sections.items():
            if not commands:
                continue
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (each.name or "", each.get_short_help_str(limit))
                        for each in commands
                        if not each.hidden
                    ]
                )


def confirming(yes: bool) -> Callable[[str], bool]:
    """Return what asks a question on the terminal, or has the answer already. It may raise UsageError."""

    def confirm(question: str) -> bool:
        if yes:
            return True
        if not sys.stdin.isatty():
            raise UsageError(f"there is no terminal to ask: {question}", "answer beforehand: --yes")
        return click.confirm(question, err=True)

    return confirm
