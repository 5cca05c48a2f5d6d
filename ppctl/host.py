"""A machine: files, links, locks, accounts, programs. What ppctl changes on one goes through here.

`Host` is the Protocol that everything else is written against; this machine is `LocalHost` (local_host.py).
The tests have an in-memory one (`tests/fake_host.py`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ppctl.errors import PpctlError

Kind = Literal["file", "directory", "link", "other"]

TEMPORARY = re.compile(r"\..+\.([0-9]+)\.tmp")
"""Names of temporary files; the group is the pid of the process that writes there."""


@dataclass(frozen=True)
class FileInfo:
    """What is found at a path. `target` is set for links; `size` in bytes, `mtime` in seconds."""

    kind: Kind
    mode: int
    owner: str
    group: str
    size: int = 0
    mtime: float = 0.0
    target: str = ""


@dataclass(frozen=True)
class Completed:
    """A finished program: exit status and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class FileSystem:
    """The file system below a path: sizes in bytes; `free` is what ordinary users may still use.

    `inodes` is 0 where there is no fixed number of them. `device` tells file systems apart (stat(2)).
    """

    size: int
    free: int
    inodes: int = 0
    inodes_free: int = 0
    read_only: bool = False
    no_exec: bool = False
    device: int = 0


class Host(Protocol):
    """A machine. Methods raise PpctlError with a message for people when the machine says no."""

    def user(self) -> str:
        """Return the name of the user that ppctl runs as."""

    def is_root(self) -> bool:
        """Return whether ppctl may do everything."""

    def account_exists(self, name: str) -> bool:
        """Return whether the account `name` is known."""

    def primary_group(self, name: str) -> str:
        """Return the name of the primary group of the account `name`."""

    def stat(self, path: Path) -> FileInfo | None:
        """Return what is at `path` (links are not followed), or None."""

    def read(self, path: Path, *, foreign: bool = False) -> bytes | None:
        """Return the content of `path`, or None where there is no such file.

        `foreign`: others write into its directory, as the workers' account where root reads. Then no link is
        followed, and nothing but a file is read.
        """

    def list(self, path: Path) -> list[str]:
        """Return the sorted names in the directory `path`; empty where there is none."""

    def file_system(self, path: Path) -> FileSystem:
        """Return the file system that `path`, which must exist, is on (links are followed)."""

    def write(
        self, path: Path, content: bytes, *, mode: int, owner: str | None = None, group: str | None = None
    ) -> None:
        """Replace `path` atomically: temporary file, mode and owner, fsync, rename."""

    def copy_file(
        self,
        source: Path,
        path: Path,
        *,
        mode: int,
        owner: str | None = None,
        group: str | None = None,
        within: tuple[Path, Path] | None = None,
    ) -> None:
        """Replace `path` atomically with the content of the file `source`, of any size, and its time.

        `within`: the directories above `source` and `path` that others write into. No link between them and
        the files is followed; directories that are missing above `path` are made, with the same owner.
        """

    def append(self, path: Path, content: bytes, *, mode: int) -> None:
        """Add `content` to the end of `path` in one write; a new file gets `mode`."""

    def make_directory(
        self, path: Path, *, mode: int, owner: str | None = None, group: str | None = None
    ) -> None:
        """Make the directory `path` and its parents; `mode` and owner are set on `path` also if it exists."""

    def set_attributes(
        self, path: Path, *, mode: int, owner: str | None = None, group: str | None = None
    ) -> None:
        """Set mode, owner and group of `path`."""

    def link(self, path: Path, target: str) -> None:
        """Make `path` a symbolic link to `target`, atomically replacing a link or a file."""

    def remove(self, path: Path) -> None:
        """Remove the file or link `path` if it is there."""

    def remove_tree(self, path: Path) -> None:
        """Remove `path` and everything below it if it is there; links are not followed."""

    def leftovers(self, directory: Path) -> tuple[Path, ...]:
        """Return the temporary files in `directory` whose ppctl was killed before it could rename them."""

    def which(self, program: str) -> str | None:
        """Return the path of `program`, or None."""

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = None,
        dies_with_us: bool = False,
        apart: bool = False,
    ) -> Completed:
        """Run a program to its end. `env` is added to the environment; secrets go into `input`.

        `dies_with_us`: it must not go on when ppctl is killed; for what only ppctl has use for.
        `apart`: a terminal does not tell it of Ctrl-C; what that means is for ppctl to say.
        Raises CommandFailed if `check` and the exit status is not 0, PpctlError if there is no such program.
        """

    def lock(self, path: Path, *, purpose: str, wait: bool = True) -> contextlib.AbstractContextManager[None]:
        """Hold the lock file `path` for the time of a `with` block; `purpose` is told to those who wait.

        Raises PpctlError when it is held and `wait` is false.
        """


class WaitAnnouncer(Protocol):
    """Told, once, for whom a command is waiting."""

    def __call__(self, message: str) -> None:
        """Show `message`."""


def is_trusted(host: Host, owner: str) -> bool:
    """Return whether ppctl does, unasked, what `owner` has written: its own user, or root."""
    return owner in (host.user(), "root")


def reason(error: OSError) -> str:
    """Return in words what the machine says."""
    return os.strerror(error.errno) if error.errno else str(error)


@contextlib.contextmanager
def telling(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError into a PpctlError that says what could not be done, where, and what to do."""
    try:
        yield
    except OSError as e:
        raise PpctlError(f"{path}: cannot {action}: {reason(e)}", hint(e, path)) from e


def hint(error: OSError, path: Path) -> str:
    """Return what to do about an error with `path`; "" where that depends."""
    if error.errno == errno.ENOSPC:
        return f"free some space on the file system of {path.parent}, then run the command again"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "run the command as the owner of that path, or as root in system mode"
    if error.errno == errno.EROFS:
        return "the file system is mounted read-only: choose another home with -C, or mount it read-write"
    if error.errno == errno.ENOTDIR:
        return "a part of that path is a file: choose another home with -C, or move the file away"
    return ""
