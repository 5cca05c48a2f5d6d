"""Watching while something runs: command lines and environments, and files that come and go.

The hosts' processes are this machine's, so their files are seen from here, too, those in memory included.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from tests import hosts
from tests.hosts import TestHost

PLACES = ("home/deploy/.ansible", "root/.ansible", "tmp", "var/tmp", "dev/shm")
LARGEST = 4_000_000
"""Bytes. What is larger is the wheelhouse on its way."""


class Watch:
    """In a `with` block: collect what is seen, here and on the hosts. `found` looks for a secret in it."""

    def __init__(self, machines: Iterable[TestHost] = (), folders: Iterable[Path] = ()) -> None:
        self.processes: dict[bytes, str] = {}
        """Command lines and environments, and where each was seen."""
        self.files: dict[bytes, str] = {}
        """The same for the contents of files."""
        self._folders = [Path.home() / ".ansible", *folders]
        for host in machines:
            self._folders += [root_of(host) / place for place in PLACES]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def found(self, *secrets: str) -> list[str]:
        """Return where one of the secrets was seen: a process or a file, and how it begins."""
        seen = (*self.processes.items(), *self.files.items())
        wanted = [secret.encode() for secret in secrets]
        return [f"{where}: {content[:200]!r}" for content, where in seen if any(s in content for s in wanted)]

    def _watch(self) -> None:
        while not self._stop.wait(0.03):
            self._look()

    def _look(self) -> None:
        for path in _process_files():
            _keep(path, self.processes)
        for folder in self._folders:
            for path in _files_in(folder):
                _keep(path, self.files)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: object, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()


def root_of(host: TestHost) -> Path:
    """Return the host's file system as its processes see it; until the next reboot."""
    listed = subprocess.run(
        ["ip", "netns", "pids", f"ppctl-{hosts.RUN}-{host.name}"], capture_output=True, text=True, check=True
    )
    return Path(f"/proc/{min(map(int, listed.stdout.split()))}/root")


def _process_files() -> Iterator[Path]:
    for process in os.scandir("/proc"):
        if process.name.isdigit():
            yield from (Path(process.path, name) for name in ("cmdline", "environ"))


def _files_in(folder: Path) -> Iterator[Path]:
    try:
        yield from [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size < LARGEST]
    except OSError:  # it has gone meanwhile
        return


def _keep(path: Path, into: dict[bytes, str]) -> None:
    with contextlib.suppress(OSError):
        into.setdefault(path.read_bytes(), str(path))
