"""Whose project is whose, with `ownership: true`: the first who uploads to a new name owns it.

Kept beside the packages, as marks are: it cannot be derived from them, and it outlives the last file.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from ppctl.server import kept
from ppctl.server.followed import Followed

log = logging.getLogger("ppctl.server.owners")

FILE_NAME = ".ppctl-owners.json"
COPY_NAME = "owners.copy"
UNKNOWN = ""
"""Stands for the owner of every project when the file cannot be read: nobody's name."""


THROW_AWAY = "ppctlcheck"
"""How the names of projects begin that are only made to see whether an index works. Nobody owns them."""


class Owners:
    """The owners of projects, by normalised names. Safe to use from many threads and workers."""

    def __init__(self, packages: Path, run: Path) -> None:
        self._path = packages / FILE_NAME
        self._lock = run / "owners.lock"
        self._kept = kept.Twice(self._path, run / COPY_NAME)
        self._file = Followed(self._path, parse)

    def begin(self) -> None:
        """Bring the file back where it is gone. Raises OSError."""
        with kept.alone(self._lock):
            self._kept.mend()

    def of(self, project: str) -> str | None:
        """Return the user who owns a project; None when nobody does, UNKNOWN when that cannot be told."""
        try:
            try:
                return self._file.get().get(project)
            except FileNotFoundError:
                with kept.alone(self._lock):
                    return self._read().get(project)
        except (OSError, ValueError) as e:
            log.error("nobody is taken for the owner of anything: %s cannot be read: %s", self._path, e)
            return UNKNOWN

    def claim(self, project: str, user: str) -> str:
        """Make `user` the owner of a project that has none. Returns the owner. Raises OSError, ValueError."""
        with kept.alone(self._lock):
            known = self._read()
            if project not in known:
                self._kept.write(serialise({**known, project: user}))
                log.info("%s belongs to %s, who was the first to upload to it", project, user)
                return user
            return known[project]

    def put(self, project: str, user: str | None) -> bool:
        """Make `user` the owner, or nobody. Returns whether that changed. Raises OSError, ValueError."""
        with kept.alone(self._lock):
            known = self._read()
            if known.get(project) == user:
                return False
            others = {name: owner for name, owner in known.items() if name != project}
            self._kept.write(serialise({**others, project: user} if user else others))
            return True

    def _read(self) -> dict[str, str]:
        content = self._kept.read()
        return {} if content is None else parse(content)


def parse(content: bytes) -> dict[str, str]:
    """Return the owner of each project. Raises ValueError when it is no such file."""
    try:
        found = json.loads(content)["projects"]
        if all(isinstance(owner, str) and owner for owner in found.values()):
            return dict(found)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError("not a file of owners")


def serialise(owners: Mapping[str, str]) -> bytes:
    """Return the content of a file with these owners; `parse` of it is `owners` again."""
    return (json.dumps({"version": 1, "projects": dict(sorted(owners.items()))}, indent=2) + "\n").encode()
