"""What people and programs read: progress, tables and the versioned JSON envelope."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from ppctl.errors import EXIT_OK, PpctlError
from ppctl.server.text import printable_lines

ENVELOPE_VERSION = 1
"""Version of the JSON envelope. It changes only when a field is removed or changes its meaning."""

_STYLES = {"good": "32", "bad": "31", "warn": "33", "dim": "2", "bold": "1"}


def counted(number: object, noun: str) -> str:
    """Return a number with its noun: 1 user, 2 users."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Output:
    """Writes progress to stderr, results to stdout; with `json`, one envelope on stdout and nothing else.

    `command` is named in the envelope. Colours only on a terminal, and never with NO_COLOR
    (https://no-color.org).
    """

    def __init__(
        self,
        command: str = "",
        *,
        json: bool = False,
        quiet: bool = False,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.command = command
        self.json = json
        self.quiet = quiet
        self._stdout = stdout
        self._stderr = stderr

    @property
    def stdout(self) -> TextIO:
        """Where results go."""
        return self._stdout or sys.stdout

    @property
    def stderr(self) -> TextIO:
        """Where progress and messages go."""
        return self._stderr or sys.stderr

    def style(self, text: str, style: str, stream: TextIO | None = None) -> str:
        """Return `text` in `style` (good, bad, warn, dim, bold) if `stream` (stdout) is a terminal."""
        stream = stream or self.stdout
        if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            return text
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"

    def tell(self, text: str, end: str = "\n") -> None:
        """Write to stderr. Nobody may read it any more (`2>&1 | head`, ssh): that stops no work."""
        with contextlib.suppress(OSError):
            print(text, end=end, file=self.stderr, flush=True)

    def progress(self, message: str) -> None:
        """Tell a person what is going on (stderr; not with --quiet or --json)."""
        if not self.quiet and not self.json:
            self.tell(message)

    def warn(self, message: str) -> None:
        """Tell a person of something that is not as it should be (stderr; also with --quiet)."""
        if not self.json:
            self.tell(self.style(f"warning: {message}", "warn", self.stderr))

    def hint(self, hint: str) -> None:
        """Tell a person what to do about it (stderr; also with --quiet)."""
        if not self.json:
            self.tell(f"{self.style('hint:', 'dim', self.stderr)} {hint}")

    def text(self, text: str) -> None:
        """Print a result for people (stdout; not with --json)."""
        if not self.json:
            print(text, file=self.stdout, flush=True)

    def info(self, text: str) -> None:
        """Print a result for people that --quiet silences (stdout)."""
        if not self.quiet:
            self.text(text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table: plain, aligned text in a pipe; the header bold on a terminal."""
        if self.json:
            return
        widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]

        def line(cells: Sequence[str]) -> str:
            return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

        self.text(self.style(line([c.upper() for c in columns]), "bold"))
        for row in rows:
            self.text(line(row))

    def result(self, data: Mapping[str, Any], *, exit_code: int = EXIT_OK, ok: bool | None = None) -> int:
        """With --json print the envelope around `data`. Returns `exit_code`, to be handed on.

        `ok`: for an exit code that is an answer and not a failure; otherwise 0 is ok.
        """
        if self.json:
            ok = exit_code == EXIT_OK if ok is None else ok
            self._envelope({"ok": ok, "exit_code": exit_code, "result": dict(data)})
        return exit_code

    def error(self, error: PpctlError) -> None:
        """Print an expected failure: the message and the hint, or the envelope with both."""
        if self.json:
            self._envelope(
                {
                    "ok": False,
                    "exit_code": error.exit_code,
                    "error": {"message": error.message, "hint": error.hint},
                }
            )
            return
        # It may end with a worker's log, or with what another program has said.
        self.tell(f"{self.style('error:', 'bad', self.stderr)} {printable_lines(error.message)}")
        if error.hint:
            self.hint(error.hint)

    def _envelope(self, fields: Mapping[str, Any]) -> None:
        envelope = {"version": ENVELOPE_VERSION, "command": self.command, **fields}
        print(json.dumps(envelope, indent=2, default=str), file=self.stdout, flush=True)
