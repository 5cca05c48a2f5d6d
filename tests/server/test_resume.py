"""Downloads that break off half way: real pip and curl go on where they were, with our files and others."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.archives import wheel
from tests.server.cache_process import cached_home
from tests.server.patience import within
from tests.server.worker_process import Home

pytestmark = pytest.mark.e2e

WHEEL, CONTENT = wheel("big", "1.0", content=os.urandom(600_000))
CUT_AFTER = 250_000
PART = '" 206 '
"""How the log tells that a part was answered."""


class Cutting:
    """A way to the index on which the first connections break off after so many bytes of the answers."""

    def __init__(self, port: int, cuts: int) -> None:
        self.cuts = cuts
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                index = socket.create_connection(("127.0.0.1", self._to))
                for source, target, most in ((client, index, 1 << 60), (index, client, CUT_AFTER)):
                    threading.Thread(target=self._pass_on, args=(source, target, most), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, most: int) -> None:
        count = 0
        with contextlib.suppress(OSError):
            while block := source.recv(10_000):
                target.sendall(block)
                count += len(block)
                if count > most and self.cuts > 0:
                    self.cuts -= 1
                    break
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.fixture(params=["here", "fetched", "not fetched yet"])
def way(request: pytest.FixtureRequest) -> Iterator[tuple[Cutting, Home]]:
    """A way to an index that has the file, has fetched it, or has to fetch it."""
    with cached_home() as (home, _, other):
        if request.param == "here":
            (home.packages / WHEEL).write_bytes(CONTENT)
        else:
            other.add("big", WHEEL, CONTENT)
        home.start(1)
        home.start(2)
        if request.param == "fetched":
            home.get("/simple/big/")
            key = hashlib.sha256(CONTENT).hexdigest()
            assert home.get(f"/upstream/big/{key}/{WHEEL}").body == CONTENT
        made = Cutting(home.port, cuts=2)
        yield made, home
        made.close()


def resumed(home: Home, times: int) -> bool:
    """Return whether parts were answered so many times, and no more."""
    # An answer is logged when it has ended: for the client that may be earlier.
    return within(1, lambda: home.log().count(PART) >= times) and home.log().count(PART) == times


def test_pip_goes_on(way: tuple[Cutting, Home], tmp_path: Path) -> None:
    cutting, home = way
    command = [sys.executable, "-m", "pip", "download", "--isolated", "--no-cache-dir", "--no-deps"]
    command += ["--disable-pip-version-check", "--resume-retries", "5", "--dest", str(tmp_path)]
    command += ["--index-url", f"http://127.0.0.1:{cutting.port}/simple/", "big"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / WHEEL).read_bytes() == CONTENT
    assert cutting.cuts == 0 and resumed(home, 2)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_goes_on(way: tuple[Cutting, Home], tmp_path: Path) -> None:
    cutting, home = way
    page = home.get("/simple/big/").text
    link = page.split('href="')[1].split("#")[0].removeprefix("../..")
    command = ["curl", "--silent", "--fail", "-C", "-", "-o", WHEEL, f"http://127.0.0.1:{cutting.port}{link}"]
    codes = [subprocess.run(command, cwd=tmp_path, check=False).returncode for _ in range(3)]
    assert codes[2] == 0 and codes[0] != 0
    assert (tmp_path / WHEEL).read_bytes() == CONTENT
    assert resumed(home, 2)
