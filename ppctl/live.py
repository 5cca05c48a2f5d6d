"""What many hosts are doing, while they do it: a line for each that is rewritten, or lines in a log."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator

from ppctl import fleet
from ppctl.fleet import HostResult
from ppctl.output import Output
from ppctl.server.text import printable

Tell = Callable[[HostResult], None]

_SCREEN = (80, 24)
"""Columns and rows of a terminal that does not tell (POSIX: COLUMNS, LINES)."""


@contextlib.contextmanager
def progress(out: Output) -> Iterator[Tell]:
    """Give what is to be called with each step of a host.

    On a terminal each host has one line, which is gone at the end, as a table follows. Elsewhere each step
    that is done is a line.
    """
    if out.json or out.quiet or not out.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda result: None if result.doing else out.progress(_words(result))
        return
    lines = _Lines(out)
    try:
        yield lines.tell
    finally:
        lines.clear()


def _words(result: HostResult) -> str:
    if result.doing:
        return f"{result.host}: {printable(result.doing)} …"
    state = "changed" if result.step_changed and result.state == fleet.OK else result.state
    if state == fleet.NOT_BEGUN:  # it was looked at
        state = "something is to be done"
    return f"{result.host}: {state}" + (f"  ({printable(result.step)})" if result.step else "")


class _Lines:
    """One line for each host at the bottom of a terminal (ECMA-48: CUU, EL, ED)."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._hosts: dict[str, HostResult] = {}
        self._drawn = 0

    def tell(self, result: HostResult) -> None:
        """Show how far a host is."""
        self._hosts[result.host] = result
        columns, rows = shutil.get_terminal_size(_SCREEN)
        room = max(rows - 2, 1)
        # Where they do not fit: first those that are at work.
        chosen = sorted(self._hosts.values(), key=lambda host: not host.doing)[:room]
        kept = {host.host for host in chosen}
        lines = [_words(host) for name, host in self._hosts.items() if name in kept]
        if len(lines) < len(self._hosts):
            lines[-1] = f"and {len(self._hosts) - len(lines) + 1} more"
        self._write("".join(f"\x1b[2K{line[: columns - 1]}\n" for line in lines), len(lines))

    def clear(self) -> None:
        """Take the lines away."""
        self._write("", 0)

    def _write(self, text: str, height: int) -> None:
        up = f"\x1b[{self._drawn}A\r" if self._drawn else ""
        self._out.tell(f"{up}{text}\x1b[J", end="")
        self._drawn = height
