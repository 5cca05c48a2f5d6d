"""The names of all projects that were ever in this index: they are its own, also when the last file is gone.

Kept beside the packages, as marks and owners are. One name a line, added at the end: an upload to a known
project writes nothing, a new name is one short write. A line without an end was cut short by a power cut; it
is no name yet, since the name comes before the file is on any page.

Nothing else tells of a project whose last file has gone, so there is a copy in `run/`: whoever copies
`packages/*` to another disk leaves behind what begins with a dot. Where both are gone, a note stays that
`ppctl doctor` shows.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path

from ppctl.server import kept
from ppctl.server.followed import Followed
from ppctl.server.owners import THROW_AWAY

log = logging.getLogger("ppctl.server.known")

FILE_NAME = ".ppctl-names"
COPY_NAME = "names.copy"
LOST_NAME = "names-lost"
"""Where in `run/` it is noted that the list was made of nothing but what is here."""

HEADER = b"# ppctl: the names of all projects that were ever here, version 1\n"

ORDINARY = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
"""A name that a project can have (PEP 508), in its normal form (PEP 503). No other is ever asked about."""

_LINES = re.compile(rb"(?:[a-z0-9-]+\n)*")


class Known:
    """The names in the directory `packages`. Safe to use from many threads and workers."""

    def __init__(self, packages: Path, run: Path) -> None:
        self.path = packages / FILE_NAME
        self._copy = run / COPY_NAME
        self._lost = run / LOST_NAME
        self._lock = run / "names.lock"
        self._file = Followed(self.path, self._parse)
        self._parsing = threading.Lock()
        self._content = b""
        self._last: set[str] = set()
        self._complained = False

    def has(self, project: str) -> bool:
        """Return whether a project was ever here. Also True when that cannot be told: better none than a
        stranger's.
        """
        found = self._names()
        return found is None or project in found

    def all(self) -> frozenset[str]:
        """Return every name. Raises OSError, and ValueError when the file is broken."""
        found = self._file.get()
        with self._parsing:
            return frozenset(found)

    def remember(self, projects: Iterable[str]) -> None:
        """Add names, on the disk when this returns. Raises OSError.

        Not those of `ppctl client check`: each check makes a new one, and they are private without the list.
        """
        wanted = {name for name in projects if ORDINARY.fullmatch(name) and not name.startswith(THROW_AWAY)}
        found = self._names()
        if not wanted or (found is not None and wanted <= found):
            return
        with kept.alone(self._lock):
            known = self._read()
            if known is None:  # deleted while we run
                with self._parsing:
                    wanted |= self._last
                self._make(wanted)
            elif new := wanted - known:
                self._append(new)
                self._read()

    def begin(self, projects: Iterable[str]) -> None:
        """Add what is there now, and make the file where there is none. Raises OSError."""
        here = set(projects)
        with kept.alone(self._lock):
            copied = self._copied()
            if not self.path.exists():
                self._say_how(copied, here)
                self._make(())
        self.remember(here | copied)
        with kept.alone(self._lock):
            content = self.path.read_bytes()
            if content != kept.content_of(self._copy) and _is_whole(content):
                kept.write(self._copy, content)

    def forget(self, project: str) -> bool:
        """Take a name away. Returns whether it was there. Raises OSError, ValueError."""
        with kept.alone(self._lock):
            known = parse(self.path.read_bytes())
            if project in known:
                # Of the copy first: what it has comes back.
                for path in (self._copy, self.path):
                    kept.write(path, serialise(known - {project}))
            return project in known

    def _names(self) -> set[str] | None:
        """Return every name, None when that cannot be told."""
        try:
            found = self._file.get()
        except (OSError, ValueError) as e:
            if not self._complained:
                log.error("no name is asked about elsewhere: %s cannot be read: %s", self.path, e)
            self._complained = True
            return None
        self._complained = False
        return found

    def _read(self) -> set[str] | None:
        """Return the names as they are now; none of a broken file, to which names are added all the same."""
        try:
            return self._parse(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            return set()

    def _parse(self, content: bytes) -> set[str]:
        """Return the names in the file; of one that has only grown just the end is parsed."""
        with self._parsing:
            if self._content and content.startswith(self._content):
                self._last |= parse(HEADER + content[len(self._content) :])
            else:
                self._last = set(parse(content))
            self._content = content[: content.rfind(b"\n") + 1]
            return self._last

    def _copied(self) -> set[str]:
        """Return the names in the copy; none when it is not there or broken."""
        content = kept.content_of(self._copy)
        return set(parse(content)) if content is not None and _is_whole(content) else set()

    def _make(self, names: Iterable[str]) -> None:
        for path in (self.path, self._copy):
            kept.write(path, serialise({*names, *self._copied()}))

    def _say_how(self, copied: set[str], here: set[str]) -> None:
        """Tell how the file is made anew, where it is not for the first time."""
        if kept.content_of(self._copy) is not None:
            log.warning("%s was gone: made anew with the %d names of its copy", self.path, len(copied))
        elif here:
            log.warning(
                "%s is made of the %d projects that are here: names whose files are all gone are not in it",
                self.path,
                len(here),
            )
            self._lost.touch(mode=0o640)

    def _append(self, names: Iterable[str]) -> None:
        lines = "".join(f"{name}\n" for name in sorted(names)).encode()
        _append(self.path, lines, sync=True)
        with contextlib.suppress(OSError):  # the next start mends the copy
            _append(self._copy, lines, sync=False)


def _append(path: Path, lines: bytes, *, sync: bool) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(descriptor, "r+b", buffering=0) as file:
        content = file.readall()
        whole = content.rfind(b"\n") + 1
        if whole != len(content) and content.startswith(HEADER):
            file.truncate(whole)  # a name that a power cut has cut short
        kept.write_all(descriptor, lines)
        if sync:
            os.fsync(descriptor)


def _is_whole(content: bytes) -> bool:
    with contextlib.suppress(ValueError):
        parse(content)
        return True
    return False


def parse(content: bytes) -> frozenset[str]:
    """Return the names in the file. Raises ValueError when it is no such file."""
    if not content.startswith(HEADER):
        raise ValueError("not a file of names")
    lines = content[len(HEADER) : content.rfind(b"\n") + 1]
    if not _LINES.fullmatch(lines):
        raise ValueError("there is something else than names in it")
    return frozenset(lines.decode().split())


def serialise(names: Iterable[str]) -> bytes:
    """Return the content of a file with these names; `parse` of it is `names` again."""
    return HEADER + "".join(f"{name}\n" for name in sorted(names)).encode()
