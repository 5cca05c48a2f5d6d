"""What the other modules here share: where things are kept, locks, and how to run a program."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

HOSTS_DIR = Path(os.environ.get("PPCTL_HOSTS_DIR", "/var/tmp/ppctl-hosts")).absolute()  # noqa: S108 - root only


class HostsError(Exception):
    """Something that the person who typed the command can act upon; its text is the message."""


def run(*argv: str | Path, check: bool = True, lock: int | None = None) -> str:
    """Run a program and return what it printed.

    `lock` is the descriptor of a held lock: the program inherits it, so that the lock is not free
    before the program has ended, even when we are killed meanwhile.
    Raises HostsError with the program's own words when it fails and `check` is set.
    """
    command = [str(arg) for arg in argv]
    keep = () if lock is None else (lock,)
    done = subprocess.run(command, capture_output=True, text=True, check=False, pass_fds=keep)
    if check and done.returncode != 0:
        raise HostsError(f"`{' '.join(command)}` failed ({done.returncode}): {done.stderr.strip()}")
    return done.stdout


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold an exclusive lock on `path`; gives its descriptor. It ends with the process at the latest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def replace(path: Path, text: str) -> None:
    """Write `text` to `path` in one step: a reader sees the old content or the new one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.write_text(text)
    temporary.replace(path)


def remove(*paths: Path) -> None:
    """Remove files and folders, whatever is in them, but nothing that is mounted there."""
    run("rm", "-rf", "--one-file-system", "--", *paths)


def uv() -> Sequence[str]:
    """How to call uv: the one installed beside this Python, or else the one on PATH."""
    import importlib.util
    import sys

    return (sys.executable, "-m", "uv") if importlib.util.find_spec("uv") else ("uv",)
