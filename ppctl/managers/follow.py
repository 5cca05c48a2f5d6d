"""Follows log files as they grow, through rotation (like `tail -F`)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import IO

POLL_SECONDS = 0.2


class _Tail:
    """The growing end of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: IO[str] | None = None
        self.partial = ""

    def open(self) -> None:
        try:
            self.file = self.path.open(encoding="utf-8", errors="replace", newline="\n")
        except OSError:
            self.file = None

    def new_lines(self) -> list[str]:
        """Return complete lines written since the last call, reopening a file that was rotated."""
        if self.file is None:
            self.open()
            if self.file is None:
                return []
        lines = self._read(self.file)
        if self._was_replaced(self.file):
            lines += self._read(self.file)  # what came between the two looks
            self.file.close()
            self.open()
            if self.file:
                lines += self._read(self.file)
        return lines

    def _read(self, file: IO[str]) -> list[str]:
        *lines, self.partial = (self.partial + file.read()).split("\n")
        return lines

    def _was_replaced(self, file: IO[str]) -> bool:
        try:
            found = self.path.stat()
        except OSError:
            return False
        mine = Path(f"/proc/self/fd/{file.fileno()}").stat()
        if found.st_ino == mine.st_ino and found.st_size < file.tell():
            file.seek(0)  # truncated in place
            return False
        return found.st_ino != mine.st_ino


def follow_files(files: Mapping[str, Path], lines: int) -> Generator[str, None, None]:
    """Yield `label: line` as lines are added, for ever, beginning with the last `lines` of each file."""
    tails = {label: _Tail(path) for label, path in files.items()}
    for label, tail in tails.items():
        for line in deque(tail.new_lines(), maxlen=lines):
            yield f"{label}: {line}"
    while True:
        idle = True
        for label, tail in tails.items():
            for line in tail.new_lines():
                idle = False
                yield f"{label}: {line}"
        if idle:
            time.sleep(POLL_SECONDS)
