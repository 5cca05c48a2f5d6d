"""Run ppctl's command line from tests: in this process, or on a terminal of its own."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import pty
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

from ppctl.__main__ import main

CTRL_C = "\x03"
CTRL_C_SECONDS = 5.0
"""After so long it is typed once more, as people do: between asking and reading a program may miss it."""


@dataclass(frozen=True)
class Ran:
    """What a call of ppctl came to."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        """The `result` in the --json envelope."""
        return json.loads(self.out)["result"]


def ppctl(*argv: str, stdin: bytes = b"") -> Ran:
    """Run `ppctl argv...` in this process with `stdin` in a pipe."""
    with _captured(stdin) as (out, err):
        code = main(list(argv))
    return Ran(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _captured(stdin: bytes) -> Iterator[tuple[io.StringIO, io.StringIO]]:
    out, err = io.StringIO(), io.StringIO()
    given = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    with (
        mock.patch.object(sys, "stdin", given),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        yield out, err


def on_terminal(argv: Sequence[str], dialogue: Sequence[tuple[str, str]], timeout: float = 120) -> Ran:
    """Run `ppctl argv...` on a terminal of its own; `dialogue`: what to wait for, and what to type then.

    Returns all that the terminal showed as `out`. Typing "\\x03" is Ctrl-C, "\\x04" Ctrl-D.
    """
    return program_on_terminal([sys.executable, "-m", "ppctl", *argv], dialogue, os.environ, timeout)


def program_on_terminal(
    argv: Sequence[str],
    dialogue: Sequence[tuple[str, str]],
    environment: Mapping[str, str],
    timeout: float = 120,
) -> Ran:
    """Run another program in the same way."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(argv[0], argv, environment)
    # What is read may end in the midst of a character.
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        shown, seen, last = "", 0, ""
        deadline = time.monotonic() + timeout
        for expected, typed in [*dialogue, ("", "")]:
            while not expected or expected not in shown[seen:]:
                chunk = _read(terminal, deadline, last)
                if not chunk:
                    break
                shown += decoder.decode(chunk)
            if expected:
                seen = shown.index(expected, seen) + len(expected)  # ValueError: it never asked
                os.write(terminal, typed.encode())
                last = typed
        return Ran(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.replace("\r\n", "\n"), "")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(terminal)


def _read(terminal: int, deadline: float, last: str) -> bytes:
    """Return what the terminal shows next; empty when the program has ended. `last`: what was typed last."""
    while not select.select([terminal], [], [], CTRL_C_SECONDS)[0]:
        if time.monotonic() > deadline:
            raise TimeoutError("the program neither asked nor ended")
        if last == CTRL_C:
            os.write(terminal, last.encode())
    try:
        return os.read(terminal, 4096)
    except OSError:  # EIO: the other side is closed
        return b""
