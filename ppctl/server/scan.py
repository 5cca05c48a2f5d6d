"""Looking at the disk: which package files are there. Nothing here reads a file's content."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_LARGEST = (1 << 63) - 1


class Stamp(NamedTuple):
    """What tells that a file is still the one that was hashed."""

    size: int
    mtime_ns: int
    inode: int


def stamp(found: os.stat_result) -> Stamp:
    """Return the stamp of a file's status."""
    # SQLite's numbers have 63 bits and a sign: times after 2262 and the largest inode numbers have more.
    return Stamp(found.st_size, min(found.st_mtime_ns, _LARGEST), found.st_ino & _LARGEST)


def look(path: Path | str) -> Stamp | None:
    """Return the stamp of the file `path`; None when there is none, or no regular one. Follows links."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return stamp(found) if stat.S_ISREG(found.st_mode) else None


def directories(root: Path, below: str = "") -> Iterator[str]:
    """Yield `below` and the directories in it, as paths relative to `root` ("" is `root` itself).

    As pypiserver walks: not into links, not into names that begin with a dot.
    """
    waiting = [below]
    while waiting:
        directory = waiting.pop()
        yield directory
        with contextlib.suppress(OSError), os.scandir(root / directory) as entries:
            waiting += [join(directory, entry.name) for entry in entries if is_directory(entry)]


def is_directory(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a directory that is walked into. Never raises."""
    try:
        return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def files(root: Path, directory: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the name and the entry of what could be a file in one directory. Raises OSError."""
    with os.scandir(root / directory) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and not is_directory(entry):
                yield entry.name, entry


def join(directory: str, name: str) -> str:
    """Return the relative path of `name` in `directory`."""
    return f"{directory}/{name}" if directory else name


def split(path: str) -> tuple[str, str]:
    """Return directory and name of a relative path."""
    directory, _, name = path.rpartition("/")
    return directory, name
