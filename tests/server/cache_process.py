"""A real cache program for tests, beside the workers of a home."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.server.stand_in import StandIn, stand_in
from tests.server.worker_process import Answer, Home, UnixConnection, new_home


class Cache:
    """The cache program of a home; its output is in `log`."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.socket = home.path / "run" / "cache.sock"
        self.log = home.path / "cache.log"
        self.directory = home.path / "cache"
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, url: str, *, max_bytes: int = 1 << 30, refresh: int = 600) -> None:
        self.directory.mkdir(exist_ok=True)
        config = {"directory": self.directory, "run": self.home.path / "run", "url": url}
        more = {"netrc": self.home.path / "upstream.netrc", "max_bytes": max_bytes, "refresh": refresh}
        text = json.dumps({**config, **more}, default=str)
        (self.home.path / "cache.json").write_text(text)

    def start(self) -> None:
        environment = {"PATH": os.defpath, "PPCTL_HOME": str(self.home.path), "PPCTL_GENERATION": "g1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-m", "ppctl.server.cache"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
            )
        until = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError, ValueError):
                if self.status()["pid"] == self.process.pid:
                    return
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the cache did not start:\n{self.log.read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(40)
        self.process = None

    def ask(self, method: str, path: str) -> Answer:
        with contextlib.closing(UnixConnection(self.socket, 30)) as connection:
            connection.request(method, path)
            response = connection.getresponse()
            return Answer(response.status, response.reason, response.headers, response.read())

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("GET", "/status").body)
        return found

    def age(self, *projects: str) -> None:
        """Let pages be so old that they have to be asked for anew."""
        for project in projects:
            os.utime(self.directory / "pages" / project / "record.json", (1, 1))


@contextlib.contextmanager
def cached_home(**settings: Any) -> Iterator[tuple[Home, Cache, StandIn]]:
    """Give a home with `upstream: cache` and the program running, and the index behind it; no workers yet."""
    with stand_in() as index, new_home() as home:
        cache = Cache(home)
        limits = {key: settings.pop(key) for key in ("max_bytes", "refresh") if key in settings}
        cache.configure(index.url, **limits)
        directory: Path = cache.directory
        home.configure(upstream="cache", upstream_url=index.url, cache=str(directory), **settings)
        cache.start()
        try:
            yield home, cache, index
        finally:
            cache.stop()
