"""What an operator has said about projects: yanked versions (PEP 592) and their status (PEP 792).

Unlike the catalogue this cannot be derived from the packages, so it is kept beside them, in a file whose name
begins with a dot: pypiserver neither lists nor serves it, and who copies the packages copies it, too.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger("ppctl.server.marks")

FILE_NAME = ".ppctl-marks.json"
COPY_NAME = "marks.copy"
STATUSES = ("active", "archived", "quarantined", "deprecated")
CLOSED = frozenset({"archived", "quarantined"})
"""Projects with these take no uploads (PEP 792)."""

FileId = tuple[int, int, int, int]


@dataclass(frozen=True)
class Marks:
    """What is said about one project. `yanked` gives the reason ("" for none) for each yanked release."""

    status: str | None = None
    reason: str = ""
    yanked: Mapping[str, str] = field(default_factory=dict)


NO_MARKS = Marks()


class MarksFile:
    """The marks in the directory `packages`, read again when the file has changed. For many threads."""

    def __init__(self, packages: Path) -> None:
        self.path = packages / FILE_NAME
        self._name = str(self.path)  # asked about in every request
        self._lock = threading.Lock()
        self._looks = itertools.count(1)
        self._last_look = 0
        self._id: FileId | None = None
        self._marks: dict[str, Marks] = {}
        self._version = 0
        self._broken: bytes | None = None  # what could not be read, and has been told of

    def version(self) -> int:
        """Return a number that is another one when the marks have changed. Never raises."""
        look = next(self._looks)
        try:
            found = os.stat(self._name)
        except OSError:
            found = None
        # One that is gone comes back from its copy with the next start (ppctl.server.control).
        if found is not None and _file_id(found) != self._id:
            self._read(look)
        return self._version

    def of(self, project: str) -> Marks:
        """Return what the file said about a project when `version` was last asked for."""
        return self._marks.get(project, NO_MARKS)

    def _read(self, look: int) -> None:
        content = b""
        try:
            with open(self.path, "rb") as file:
                found = os.fstat(file.fileno())
                content = file.read()
                marks = parse(content)
        except (OSError, ValueError) as e:
            # Better the old marks than none: a yanked version must not come back by a slip of the pen.
            if self._broken != content:
                log.warning("%s cannot be read, its last content counts: %s", self.path, e)
            self._broken = content
            return
        # Read again until it has settled: times are only as fine as the kernel's clock ticks.
        settled = abs(time.time() - found.st_mtime) > 1
        self._set(look, marks, _file_id(found) if settled else None)

    def _set(self, look: int, marks: dict[str, Marks], found: FileId | None) -> None:
        with self._lock:
            if look < self._last_look:
                return  # a thread that was slower than one that has looked later
            self._last_look = look
            if marks != self._marks:
                self._marks = marks
                self._version += 1
            self._id, self._broken = found, None


def parse(content: bytes) -> dict[str, Marks]:
    """Return the marks of each project. Raises ValueError when it is no such file."""
    data = json.loads(content)
    try:
        return {name: _marks(said) for name, said in data["projects"].items()}
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError("not a file of marks") from e


def serialise(marks: Mapping[str, Marks]) -> bytes:
    """Return the content of a file with these marks; `parse` of it is `marks` again."""
    said = {name: _data(found) for name, found in sorted(marks.items()) if found != NO_MARKS}
    return (json.dumps({"version": 1, "projects": said}, indent=2) + "\n").encode()


def _marks(said: dict[str, Any]) -> Marks:
    status = said.get("status")
    if status not in (None, *STATUSES):
        raise ValueError(f"unknown status {status!r}")
    yanked = {str(release): str(reason) for release, reason in said.get("yanked", {}).items()}
    return Marks(status, str(said.get("reason", "")), yanked)


def _data(marks: Marks) -> dict[str, Any]:
    found: dict[str, Any] = {"yanked": dict(marks.yanked)} if marks.yanked else {}
    if marks.status:
        found |= {"status": marks.status, "reason": marks.reason}
    return found


def _file_id(found: os.stat_result) -> FileId:
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
