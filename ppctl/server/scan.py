"""Looking at the disk: which package files are there. Nothing here reads a file's content."""

from __future__ import annotations

import contextlib
import os
import stat
import time
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

    As pypiserver walks: not into links, nor into names that begin with a dot or are no text.
    """
    waiting = [below]
    while waiting:
        directory = waiting.pop()
        yield directory
        with contextlib.suppress(OSError), os.scandir(root / directory) as entries:
            waiting += [join(directory, entry.name) for entry in entries if is_directory(entry)]


def is_listed(name: str) -> bool:
    """Return whether a page can have this name: it does not begin with a dot, and is text (PEP 383)."""
    return not name.startswith(".") and (name.isascii() or _is_text(name))


def _is_text(name: str) -> bool:
    """Return whether a name is text, and not only bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_directory(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a directory that is walked into. Never raises."""
    try:
        return is_listed(entry.name) and entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def files(root: Path, directory: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the name and the entry of what could be a file in one directory. Raises OSError."""
    with os.scandir(root / directory) as entries:
        for entry in entries:
            if is_listed(entry.name) and not is_directory(entry):
                yield entry.name, entry


def settled_time(directory: Path) -> int | None:
    """Return a directory's time; None when it may change once more without looking any different."""
    try:
        found = os.stat(directory).st_mtime_ns
    except OSError:
        return None
    return found if abs(time.time() - found / 1e9) > 1 else None


def file_system(path: Path) -> str:
    """Return the kind of file system that a path is on, as proc(5) names it; "" when that is not known."""
    best, kind = "", ""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split(" ")
            mounted = fields[4].encode().decode("unicode_escape")
            inside = mounted == "/" or f"{path}/".startswith(f"{mounted}/")
            if inside and len(mounted) >= len(best):
                best, kind = mounted, fields[fields.index("-") + 1]
    return kind


def join(directory: str, name: str) -> str:
    """Return the relative path of `name` in `directory`."""
    return f"{directory}/{name}" if directory else name


def split(path: str) -> tuple[str, str]:
    """Return directory and name of a relative path."""
    directory, _, name = path.rpartition("/")
    return directory, name
