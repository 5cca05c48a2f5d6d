"""Files of this machine: how one is replaced, and whose it is."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ppctl.errors import PpctlError
from ppctl.server import kept

COPY_BYTES = 1 << 20


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


def copy(original: BinaryIO, path: Path, mode: int, owner: str | None, group: str | None) -> None:
    """Put the content of a file, of any size, and its time in the place of `path`. Raises OSError."""
    with replacing(path, mode, owner, group) as file:
        found = os.fstat(original.fileno())  # before: what changes meanwhile is to look newer
        shutil.copyfileobj(original, file, COPY_BYTES)
        file.flush()
        os.utime(file.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))


@contextlib.contextmanager
def inside(
    base: Path, directory: Path, *, make: tuple[str | None, str | None] | None = None
) -> Iterator[Path]:
    """A path that leads to `directory`, which is `base` or below it, whatever others do there meanwhile.

    No link on the way is followed. `make`: make what is missing, with this owner and group. Raises OSError;
    PpctlError where something is no directory.
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    with contextlib.ExitStack() as opened:
        at = os.open(base, flags)
        opened.callback(os.close, at)
        for part in directory.relative_to(base).parts:
            is_new = make is not None and _make(part, at)
            try:
                at = os.open(part, flags | os.O_NOFOLLOW, dir_fd=at)
            except NotADirectoryError as e:
                raise PpctlError(f"{directory}: {part} is a link, or no directory", f"ls -l {base}") from e
            opened.callback(os.close, at)
            if make and is_new:
                chown(_opened(at), *make)
                _opened(at).chmod(0o755)
        yield _opened(at)


def _make(name: str, at: int) -> bool:
    """Make a directory in an open one. Returns whether there was none."""
    try:
        os.mkdir(name, 0o700, dir_fd=at)
    except FileExistsError:
        return False
    return True


def _opened(descriptor: int) -> Path:
    """Return a path of what is open: the thing itself, whatever its name leads to now (proc(5))."""
    return Path(f"/proc/self/fd/{descriptor}")


def open_inside(base: Path, path: Path) -> BinaryIO:
    """Open a file below `base`, where others write, for reading. Raises OSError.

    Raises PpctlError for a link, which could lead to a secret, and for a pipe, which would wait.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        with inside(base, path.parent) as directory:
            descriptor = os.open(directory / path.name, flags)
    except OSError as e:
        if e.errno == errno.ELOOP:
            raise PpctlError(f"{path}: is a link, which is not followed here", f"ls -l {path}") from e
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PpctlError(f"{path}: is not a file, and was not read", f"ls -l {path}")
    return open(descriptor, "rb")


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
