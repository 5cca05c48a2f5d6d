"""What was fetched from another index, on the disk: written by the cache program, read by the workers.

pages/NAME/page.json.gz, page.html.gz   the project's page, with links to this index
pages/NAME/record.json                  where its files are; its mtime is until when the page is fresh
files/ab/KEY, files/ab/KEY.metadata     files by their SHA-256 (`u…`: of their URL, where no hash is told)
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from ppctl.server.pages import Page

KEY = re.compile(r"u?[0-9a-f]{64}")
RECORD = "record.json"

_NOTE_USE_SECONDS = 3600.0


class Store:
    """The directory of the cache."""

    def __init__(self, directory: Path) -> None:
        self.pages = directory / "pages"
        self.files = directory / "files"
        self.temporary = directory / "tmp"

    def page(self, project: str, *, is_json: bool) -> Page | None:
        """Return a project's page as it was last fetched; None when it never was."""
        name = "page.json.gz" if is_json else "page.html.gz"
        try:
            return Page.unpacked_later((self.pages / project / name).read_bytes())
        except OSError:
            return None

    def is_fresh(self, project: str) -> bool:
        """Return whether the page need not be asked for anew yet."""
        try:
            found = os.stat(self.pages / project / RECORD)
            # Said in the future: the clock has been set back since, perhaps by years.
            return found.st_ctime <= time.time() < found.st_mtime
        except OSError:
            return False

    def file(self, key: str, *, metadata: bool) -> Path:
        """Return where the file of this key is, or its metadata, when it is there."""
        return self.files / key[-2:] / (f"{key}.metadata" if metadata else key)


def note_use(path: Path, found: os.stat_result) -> None:
    """Leave the time of the last use as that of the last access, which mounts may not keep by themselves."""
    now = time.time()
    if now - found.st_atime > _NOTE_USE_SECONDS:
        os.utime(path, ns=(int(now * 1e9), found.st_mtime_ns))
