"""The command that prints the shells' completion scripts, and what they ask of ppctl."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ppctl.cli.options import Call, command

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

VARIABLE = "_PPCTL_COMPLETE"
"""Set by the scripts: what they want to know (`bash_complete`, …)."""

SHELLS = ("bash", "zsh", "fish")


@command(name="completion", json=False, short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(call: Call, shell: str) -> None:
    """Print the script that completes commands, options and user names in SHELL.

    For this session in bash: eval "$(ppctl completion bash)".
    """
    from click.shell_completion import BashComplete, FishComplete, ZshComplete

    kinds = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
    script = kinds[shell](click.get_current_context().find_root().command, {}, "ppctl", VARIABLE)
    # Not source(): that runs bash to look at its version, and the reader may be on another machine.
    call.out.text((script.source_template % script.source_vars()).strip("\n"))


def answer(cli: click.Command, question: str) -> int:
    """Answer a completion script on stdout. Returns the exit code; never fails noisily."""
    from click.shell_completion import shell_complete

    try:
        return shell_complete(cli, {}, "ppctl", VARIABLE, question)
    except Exception:  # half a command line may be anything: a traceback in it helps nobody
        return 1


def user_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the users of the index that the command line means."""
    from click.shell_completion import CompletionItem

    from ppctl import homes, index, users
    from ppctl.errors import PpctlError
    from ppctl.local_host import LocalHost

    asked = context.params.get("home") or context.find_root().params.get("home")
    host = LocalHost()
    try:
        found = users.users(index.load(host, homes.find(host, Path(asked) if asked else None)), host)
    except PpctlError:
        return []
    return [CompletionItem(user.name) for user in found if user.name.startswith(incomplete)]


COMMANDS: list[click.Command] = [completion]
