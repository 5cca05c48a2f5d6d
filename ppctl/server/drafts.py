"""Uploads on their way to the disk: a file and what belongs to it appear at once or not at all.

A draft is a directory whose name is never listed, on the same file system as the packages. It is locked as
long as its maker lives, which tells what a killed worker has left from an upload under way.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ppctl.server import kept, names, spelling

# pypiserver neither lists nor serves names that begin with a dot.
PREFIX = ".ppctl-upload-"
LOCK_NAME = "uploads.lock"
"""The lock in `run/` under which files get and lose their names."""

_CONTENT = "content"
_BEFORE = "before"
_CHUNK = 1 << 17
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Draft:
    """A file that nobody sees yet, with its sidecars by their endings. For one thread."""

    def __init__(self, directory: Path, descriptor: int) -> None:
        self._directory = directory
        self._descriptor = descriptor
        self._hash = hashlib.sha256()
        self.size = 0
        self.sidecars: dict[str, bytes] = {}
        self._is_new = False
        self._placed: os.stat_result | None = None

    def write(self, block: bytes) -> None:
        """Append a block. Raises OSError."""
        self._hash.update(block)
        self.size += len(block)
        kept.write_all(self._descriptor, block)

    @property
    def sha256(self) -> str:
        """Return the hash of what has been written."""
        return self._hash.hexdigest()

    def open(self) -> BinaryIO:
        """Return what has been written, for reading."""
        return open(self._directory / _CONTENT, "rb")

    def feed(self, hashes: Collection[Any]) -> None:
        """Give what has been written to objects of hashlib. Raises OSError."""
        buffer = memoryview(bytearray(_CHUNK))
        with open(self._directory / _CONTENT, "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                for found in hashes:
                    found.update(buffer[:count])

    def cut_last_byte(self) -> None:
        """Take the last byte back. Raises OSError."""
        self.size -= 1
        os.ftruncate(self._descriptor, self.size)
        os.lseek(self._descriptor, self.size, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self.feed([self._hash])

    def place(self, name: str, *, overwrite: bool, lock: Path) -> os.stat_result:
        """Give it its name, and its sidecars theirs; they are on the disk then. Returns the file's status.

        Raises FileExistsError when the name is taken and must not be overwritten; OSError. What was there
        before is there then.
        """
        for ending, content in self.sidecars.items():
            _write_and_sync(self._directory / f"{name}{ending}", content)
        os.fsync(self._descriptor)
        packages = self._directory.parent
        with kept.alone(lock):
            self._is_new = not os.path.lexists(packages / name)
            if self._is_new:
                self._place_new(packages / name)
            elif overwrite:
                self._replace(packages / name)
            else:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            self._placed = found = os.stat(packages / name)
        try:
            kept.sync_directory(packages)
        except OSError:
            self.take_back(name, lock)  # whoever is told that it failed will try again
            raise
        return found

    def take_back(self, name: str, lock: Path) -> None:
        """Undo `place`, unless another one has come since: what was there before is again. Raises OSError."""
        final = self._directory.parent / name
        with kept.alone(lock), contextlib.suppress(FileNotFoundError):
            if self._placed is None or not os.path.samestat(os.stat(final), self._placed):
                return
            if self._is_new:
                _unlink_all([final, *sidecars_of(final)])
            else:
                self._put_back(final)

    def _place_new(self, final: Path) -> None:
        """Place the sidecars first: whoever sees the file sees them, too. Those of an earlier file go."""
        _unlink_all(sidecars_of(final))
        try:
            for ending in self.sidecars:
                _place(self._directory / f"{final.name}{ending}", final.with_name(f"{final.name}{ending}"))
            _place(self._directory / _CONTENT, final)
        except BaseException:
            _unlink_all(final.with_name(f"{final.name}{ending}") for ending in self.sidecars)
            raise

    def _replace(self, final: Path) -> None:
        """Never let the signature of one file be beside another one, not even for a moment."""
        # Its name, for whoever finds what a killed worker has left.
        _link(self._directory / _CONTENT, self._directory / final.name)
        for path, before in self._before(final):
            with contextlib.suppress(FileNotFoundError):
                _link(path, before)
        try:
            _unlink_all(sidecars_of(final))
            os.replace(self._directory / _CONTENT, final)
            for ending in self.sidecars:
                _place(self._directory / f"{final.name}{ending}", final.with_name(f"{final.name}{ending}"))
        except BaseException:
            self._put_back(final)
            raise

    def _put_back(self, final: Path) -> None:
        """Let what was replaced be there again; where there are no links, what has come stays."""
        if os.path.lexists(self._directory / _BEFORE):
            _unlink_all(sidecars_of(final))
            for path, before in self._before(final):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(before, path)

    def _before(self, final: Path) -> list[tuple[Path, Path]]:
        """Return each path of the file that is replaced and its sidecars, and where it is kept meanwhile."""
        return [
            (final.with_name(f"{final.name}{ending}"), self._directory / f"{_BEFORE}{ending}")
            for ending in ("", *spelling.SIDECARS)
        ]


@contextlib.contextmanager
def draft(packages: Path) -> Iterator[Draft]:
    """Give a new draft; what has not been placed at the end is gone. Raises OSError."""
    directory, lock = _make(packages)
    descriptor = -1
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(directory / _CONTENT, flags, 0o644)
        yield Draft(directory, descriptor)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
        _remove(directory)
        os.close(lock)


def sidecars_of(path: Path) -> list[Path]:
    """Return the paths that what belongs to a file may have."""
    return [path.with_name(f"{path.name}{ending}") for ending in spelling.SIDECARS]


def remove(path: Path, lock: Path) -> None:
    """Remove a package file with its sidecars. One that has gone already is no error. Raises OSError."""
    with kept.alone(lock):
        _unlink_all([path, *sidecars_of(path)])


def remove_leftovers(packages: Path, lock: Path) -> list[Path]:
    """Remove what killed workers have left in `packages`. Returns the paths removed; never raises."""
    removed = []
    with contextlib.suppress(OSError):
        for path in packages.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):
                if _remove_leftover(path, lock):
                    removed.append(path)
    return removed


def _make(packages: Path) -> tuple[Path, int]:
    """Return a new, locked directory, and its file descriptor."""
    while True:
        directory = packages / f"{PREFIX}{secrets.token_hex(8)}"
        try:
            os.mkdir(directory, 0o700)
        except FileNotFoundError as e:
            raise OSError(errno.ENODEV, "the packages directory is gone", str(packages)) from e
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # without locks leftovers are found by their age (doctor)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.exists(directory):
                return directory, lock
            os.close(lock)  # a worker that has just started took it for a leftover


def _remove_leftover(directory: Path, lock: Path) -> bool:
    """Remove a draft whose maker is dead, with sidecars that have got their names without their file.

    A file that was being replaced, or that has just replaced it, gets back what belongs to it.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with kept.alone(lock):
            for name in os.listdir(directory):
                file, ending = names.split_sidecar(name)
                placed = directory.with_name(name)
                is_alone = ending and not os.path.lexists(directory.with_name(file))
                if is_alone and _is_same(placed, directory / name):
                    placed.unlink()
                elif not ending and name not in (_CONTENT, _BEFORE):
                    _complete(directory, placed)
        return _remove(directory)
    finally:
        os.close(descriptor)


def _complete(directory: Path, final: Path) -> None:
    """Give a file that was killed while it was replaced its sidecars, whichever of the two it is."""
    for own in (final.name, _BEFORE):
        if _is_same(directory / own, final):
            for ending in spelling.SIDECARS:
                with contextlib.suppress(FileNotFoundError, FileExistsError):
                    os.link(directory / f"{own}{ending}", final.with_name(f"{final.name}{ending}"))


def _is_same(one: Path, other: Path) -> bool:
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def _remove(directory: Path) -> bool:
    """Remove a draft's directory. Returns whether it is gone."""
    with contextlib.suppress(OSError):
        _unlink_all(directory / name for name in os.listdir(directory))
        os.rmdir(directory)
        return True
    return False


def _unlink_all(paths: Iterable[Path]) -> None:
    """Remove files that need not be there. Raises OSError."""
    for path in paths:
        try:
            os.unlink(path)
        except OSError as e:
            if e.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
                raise


def _write_and_sync(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o644)
    try:
        kept.write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(path: Path, other: Path) -> None:
    """Give a file a second name, where the file system has such. Raises OSError."""
    try:
        os.link(path, other, follow_symlinks=False)
    except OSError as e:
        if e.errno not in _NO_HARD_LINKS:
            raise


def _place(draft: Path, final: Path) -> None:
    """Give a file its final name. Raises FileExistsError rather than replacing another one."""
    try:
        os.link(draft, final)  # atomic, and fails if the name is taken: link(2)
    except OSError as e:
        if e.errno not in _NO_HARD_LINKS:
            raise
        # vFAT, some network mounts. The workers take turns here.
        if os.path.lexists(final):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), final.name) from e
        os.rename(draft, final)
