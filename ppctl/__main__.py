"""The entry point, and the one place that turns an error into a message and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys

import click

from ppctl import errors, signals
from ppctl.cli import cli, completion
from ppctl.output import Output


def main(argv: list[str] | None = None) -> int:
    """Run ppctl with `argv` (default: the process's arguments). Returns the exit code (ppctl.errors)."""
    code = errors.EXIT_OK
    try:
        with signals.handled(signal.default_int_handler):
            code = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        _close_stdout()  # the reader has gone: `ppctl logs | head`
    except OSError as e:
        if not _is_about_printing(e):
            raise
        _close_stdout()
        problem = f"cannot print: {os.strerror(e.errno or 0)}"
        Output().error(errors.PpctlError(problem, "what the command did is done; only its report is lost"))
        return errors.EXIT_FAILED
    return code


def _run(argv: list[str] | None) -> int:  # noqa: PLR0911 - one return for each kind of end
    """Do it, and say on stderr what went wrong. Raises OSError where printing fails; to debug, anything."""
    if question := os.environ.get(completion.VARIABLE):
        return completion.answer(cli, question)
    arguments = sys.argv[1:] if argv is None else argv
    out = Output(json="--json" in arguments)
    try:
        with cli.make_context("ppctl", list(arguments)) as context:
            try:
                cli.invoke(context)
            finally:
                out = context.meta.get("ppctl.output", out)
        return errors.EXIT_OK
    except click.exceptions.Exit as e:
        return e.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        out.tell("interrupted: nothing is half-done; run the command again to finish")
        return errors.EXIT_INTERRUPTED
    except click.ClickException as e:
        out.error(_usage_error(e))
        return errors.EXIT_USAGE
    except errors.PpctlError as e:
        out.error(e)
        return e.exit_code
    except Exception as e:
        if _is_about_printing(e) or os.environ.get("PPCTL_DEBUG"):
            raise
        out.error(_bug(e))
        return errors.EXIT_BUG


def _is_about_printing(error: Exception) -> bool:
    """Whether stdout could not take what was printed; whatever else writes says so in a PpctlError."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)
    return isinstance(error, OSError) and error.errno in full and error.filename is None


def _close_stdout() -> None:
    """Keep the interpreter from trying once more at its exit, and complaining."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage_error(error: click.ClickException) -> errors.UsageError:
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "ppctl"
    return errors.UsageError(error.format_message(), f"{path} --help")


def _bug(error: Exception) -> errors.PpctlError:
    # Only the type: the text of an unexpected error may hold anything, also a secret.
    bug = errors.PpctlError(
        f"a bug in ppctl: unexpected {type(error).__name__}",
        "run the command again with PPCTL_DEBUG=1 and report what it prints",
    )
    bug.exit_code = errors.EXIT_BUG
    return bug


if __name__ == "__main__":
    sys.exit(main())
