"""Errors that are part of the product, and the exit codes they lead to.

Exit codes (documented in docs/reference/exit-codes.md; stable):

====  =====================================================================
code  meaning
====  =====================================================================
0     done, or nothing to do; `status`: healthy; `doctor`: no problem
1     an expected failure: the message says what is wrong and what to type
2     wrong usage or wrong settings; `--exit-code`: the plan has changes
3     a bug in ppctl
130   interrupted: Ctrl-C, SIGTERM, or the end of the terminal (SIGHUP)
====  =====================================================================
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CHANGES = 2
EXIT_BUG = 3
EXIT_INTERRUPTED = 130


class PpctlError(Exception):
    """An expected failure. `message` says what is wrong and where, `hint` what to type next."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(PpctlError):
    """The command line, the settings or an input file is wrong: exit code 2, nothing was changed."""

    exit_code = EXIT_USAGE


class CommandFailed(PpctlError):
    """A program that ppctl ran has failed; keeps its argv, exit status and output.

    Secrets are never in argv (they travel on stdin), so the message can show it.
    """

    def __init__(self, argv: list[str], returncode: int, output: str, hint: str = "") -> None:
        tail = "\n".join(output.strip().splitlines()[-15:])
        message = f"{' '.join(argv)} failed with exit status {returncode}"
        super().__init__(f"{message}:\n{tail}" if tail else message, hint)
        self.argv = argv
        self.returncode = returncode
        self.output = output
