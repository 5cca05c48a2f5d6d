"""What the cache program keeps on the disk, and within what limit."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ppctl.server.cache.documents import Document
from ppctl.server.fetched import RECORD, Store

log = logging.getLogger("ppctl.server.cache")

# So much of the limit is left when something had to go: not for every file anew.
_LEAVE = 0.9


class Keeper:
    """The only writer of the cache's directory."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.store = Store(directory)
        self.max_bytes = max_bytes
        self.bytes = 0
        self.under_way = 0
        for path in (self.store.pages, self.store.files, self.store.temporary):
            path.mkdir(mode=0o750, exist_ok=True)
        for left in self.store.temporary.iterdir():
            left.unlink(missing_ok=True)  # of a program that was killed, or is ending
        self.bytes = sum(size for _, size, _ in self._entries())

    def record(self, project: str) -> dict[str, Any]:
        """Return what is known of a project's page: its `etag`, and `files` by key. Empty: it is not kept."""
        if self.store.page(project, is_json=True) is None:
            return {}
        try:
            found: dict[str, Any] = json.loads((self.store.pages / project / RECORD).read_bytes())
            return found
        except (OSError, ValueError):
            return {}

    def put_page(self, project: str, document: Document, etag: str) -> None:
        """Keep a page; it is to be asked for anew unless `set_fresh` says otherwise. Raises OSError."""
        directory = self.store.pages / project
        directory.mkdir(mode=0o750, exist_ok=True)
        record = json.dumps({"etag": etag, "files": document.files}).encode()
        # The record last: it vouches for the others.
        for name, content in (
            ("page.json.gz", document.json),
            ("page.html.gz", document.html),
            (RECORD, record),
        ):
            temporary = self.temporary()
            try:
                temporary.write_bytes(content)
            except OSError:
                temporary.unlink(missing_ok=True)  # a full disk must not become fuller with each try
                raise
            self.bytes += len(content) - _size(directory / name)
            temporary.replace(directory / name)
        self.set_fresh(project, 0.0)

    def set_fresh(self, project: str, seconds: float) -> None:
        """Let the page of a project be used for so long without asking."""
        with contextlib.suppress(OSError):
            until = time.time() + seconds
            os.utime(self.store.pages / project / RECORD, (time.time(), until))

    def drop_page(self, project: str) -> None:
        """Forget a project's page."""
        directory = self.store.pages / project
        self.bytes -= sum(_size(path) for path in directory.glob("*"))
        shutil.rmtree(directory, ignore_errors=True)

    def temporary(self) -> Path:
        """Return a new name for what is under way."""
        return self.store.temporary / secrets.token_hex(8)

    def put_file(self, temporary: Path, key: str, *, metadata: bool) -> bool:
        """Keep a file that is complete. Returns False for one too large to be kept. Raises OSError."""
        size = _size(temporary)
        if size > self.max_bytes // 2:
            temporary.unlink()
            return False
        path = self.store.file(key, metadata=metadata)
        path.parent.mkdir(mode=0o750, exist_ok=True)
        self.make_room(size)
        before = _size(path)
        temporary.replace(path)
        self.bytes += size - before
        return True

    def make_room(self, size: int) -> None:
        """Remove what was not used for the longest time until there is room for so many bytes."""
        size += self.under_way
        if self.bytes + size <= self.max_bytes:
            return
        entries = sorted(self._entries())
        self.bytes = sum(each for _, each, _ in entries)
        wanted = max(0, int(self.max_bytes * _LEAVE) - size)
        removed = 0
        for _, each, path in entries:
            if self.bytes <= wanted:
                break
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                self.bytes -= each
                removed += 1
        log.info("removed %d files and pages that were not used for long: the cache is full", removed)

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """Yield when it was last used, how large it is, and the path of each file and each project's page."""
        for directory in self.store.pages.iterdir():
            with contextlib.suppress(OSError):
                parts = [path.stat() for path in directory.iterdir()]
                used = max((max(part.st_atime, part.st_mtime) for part in parts), default=0.0)
                yield used, sum(part.st_size for part in parts), directory
        for path in self.store.files.glob("*/*"):
            with contextlib.suppress(OSError):
                found = path.stat()
                yield found.st_atime, found.st_size, path


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
