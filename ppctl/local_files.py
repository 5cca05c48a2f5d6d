"""Files of this machine: how one is replaced, and whose it is."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ppctl.errors import PpctlError
from ppctl.server import kept


@contextlib.contextmanager
def replacing(path: Path, mode: int, owner: str | None, group: str | None) -> Iterator[BinaryIO]:
    """A file to write into, which takes the place of `path` when the block ends well. Raises OSError."""
    unfinished = temporary(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        descriptor = os.open(unfinished, flags, 0o600)
    except FileExistsError:  # left behind by a killed process that had our pid
        unfinished.unlink()
        descriptor = os.open(unfinished, flags, 0o600)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            chown(file.fileno(), owner, group)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    kept.sync_directory(path.parent)


def read_foreign(path: Path) -> bytes:
    """Return the content of a file in a directory that others write into.

    Raises OSError; PpctlError for a link, which could lead to a secret, and for a pipe, which would wait.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError as e:
        if e.errno == errno.ELOOP:
            raise PpctlError(f"{path}: is a link, which is not followed here", f"ls -l {path}") from e
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PpctlError(f"{path}: is not a file, and was not read", f"ls -l {path}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def temporary(path: Path) -> Path:
    """Return what a file is called before it takes the place of `path`; host.TEMPORARY knows such names."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def user_name(uid: int) -> str:
    """Return the name of a user, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the name of a group, or the number where it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def chown(path: Path | int, owner: str | None, group: str | None) -> None:
    """Set owner and group; nothing is asked of the kernel when they are right already.

    Raises PpctlError when there is no such account or group, OSError.
    """
    if owner is None and group is None:
        return
    try:
        uid = pwd.getpwnam(owner).pw_uid if owner else -1
        gid = grp.getgrnam(group).gr_gid if group else -1
    except KeyError as e:
        raise PpctlError(
            f"no such account or group: {owner}:{group}", f"create it: useradd --system {owner}"
        ) from e
    found = os.stat(path)
    if uid in (-1, found.st_uid) and gid in (-1, found.st_gid):
        return
    os.chown(path, uid, gid)
