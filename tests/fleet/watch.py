"""Watching for a secret while something runs: command lines and environments, and files that come and go.

The hosts' processes are this machine's, and their files are below their state folders.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from tests.hosts import TestHost

PLACES = ("home/deploy/.ansible", "root/.ansible", "tmp", "var/tmp")


class Watch:
    """In a `with` block: collect where `secret` is seen, and how much was looked at."""

    def __init__(self, secret: str, machines: Iterable[TestHost]) -> None:
        self.secret = secret.encode()
        self.found: set[str] = set()
        self.processes: set[bytes] = set()
        self.files: set[Path] = set()
        self.folders = [Path.home() / ".ansible"]
        for host in machines:
            self.folders += [host.written / place for place in PLACES]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.03):
            self._look()

    def _look(self) -> None:
        for path in self._paths():
            try:
                content = path.read_bytes()
            except OSError:
                continue
            if path.name == "cmdline":
                self.processes.add(content)
            elif path.name != "environ":
                self.files.add(path)
            if self.secret in content:
                self.found.add(f"{path}: {content[:200]!r}")

    def _paths(self) -> Iterator[Path]:
        for name in ("cmdline", "environ"):
            yield from Path("/proc").glob(f"[0-9]*/{name}")
        for folder in self.folders:
            try:
                yield from [path for path in folder.rglob("*") if path.is_file()]
            except OSError:
                continue

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: object, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
