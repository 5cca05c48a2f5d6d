"""The names of all projects that were ever in this index: they are its own, also when the last file is gone.

Kept beside the packages, as marks and owners are. One name a line, added at the end: an upload to a known
project writes nothing, a new name is one short write. A line without an end was cut short by a power cut; it
is no name yet, since the name comes before the file is on any page.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path

from ppctl.server import kept
from ppctl.server.followed import Followed

log = logging.getLogger("ppctl.server.known")

FILE_NAME = ".ppctl-names"
HEADER = b"# ppctl: the names of all projects that were ever here, version 1\n"

ORDINARY = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
"""A name that a project can have (PEP 508), in its normal form (PEP 503). No other is ever asked about."""

_LINES = re.compile(rb"(?:[a-z0-9-]+\n)*")


class Known:
    """The names in the directory `packages`. Safe to use from many threads and workers."""

    def __init__(self, packages: Path, run: Path) -> None:
        self.path = packages / FILE_NAME
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
        """Add names, on the disk when this returns. Raises OSError."""
        wanted = {name for name in projects if ORDINARY.fullmatch(name)}
        found = self._names()
        if not wanted or (found is not None and wanted <= found):
            return
        with kept.alone(self._lock):
            known = self._read()
            if known is None:  # deleted while we run
                with self._parsing:
                    wanted |= self._last
                kept.write(self.path, serialise(wanted))
            elif new := wanted - known:
                self._append(new)
                self._read()

    def begin(self, projects: Iterable[str]) -> None:
        """Add what is there now, and make the file where there is none. Raises OSError."""
        with kept.alone(self._lock):
            if not self.path.exists():
                kept.write(self.path, serialise(()))
        self.remember(projects)

    def forget(self, project: str) -> bool:
        """Take a name away. Returns whether it was there. Raises OSError, ValueError."""
        with kept.alone(self._lock):
            known = parse(self.path.read_bytes())
            if project in known:
                kept.write(self.path, serialise(known - {project}))
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

    def _append(self, names: Iterable[str]) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(descriptor, "r+b", buffering=0) as file:
            content = file.readall()
            whole = content.rfind(b"\n") + 1
            if whole != len(content) and content.startswith(HEADER):
                file.truncate(whole)  # a name that a power cut has cut short
            file.write("".join(f"{name}\n" for name in sorted(names)).encode())
            os.fsync(file.fileno())


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
