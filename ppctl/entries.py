"""What can have to be there: directories, files, links."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Directory:
    """A directory that must be there."""

    path: Path
    mode: int
    owner: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class File:
    """A file that must have this content; with `lock` only made when it is missing, and then left alone.

    `lock`: whoever writes it from then on holds that.
    """

    path: Path
    content: bytes
    mode: int
    owner: str | None = None
    group: str | None = None
    lock: Path | None = None


@dataclass(frozen=True)
class Link:
    """A symbolic link that must be there."""

    path: Path
    target: str
