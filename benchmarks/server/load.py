"""The load: wrk with eight connections that stay open, and uploads one after the other."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.server.servers import Running, get
from tests.server.archives import wheel
from tests.server.worker_process import upload_form

_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
_SCRIPT = """
local paths = {{ {paths} }}
local at = {at}
request = function()
  at = at + 1
  return wrk.format("GET", paths[at % #paths + 1], {{ {headers} }})
end
"""


SLOW = 30.0
ROUNDS = 3


def rate(running: Running, paths: list[str], seconds: float, headers: str = "") -> tuple[float, float]:
    """Return the requests and the bytes a second, asking for `paths` in turn: the best of some rounds.

    The machine is shared: what else runs makes a round worse, never better. A server that answers few has one
    long round. Raises when requests fail.
    """
    first = _round(running, paths, seconds, headers)
    if first[0] < SLOW:
        return _round(running, paths, 4 * seconds + 4, headers)
    return max(first, *(_round(running, paths, seconds, headers) for _ in range(ROUNDS - 1)))


def _round(running: Running, paths: list[str], seconds: float, headers: str) -> tuple[float, float]:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT.format(paths=", ".join(f'"{path}"' for path in paths), at=0, headers=headers))
        script.flush()
        command = ["wrk", "-t1", "-c8", f"-d{seconds:g}s", "--timeout", "60s", "-s", script.name]
        command.append(f"http://127.0.0.1:{running.port}/")
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 90)
    if "Non-2xx" in done.stdout:
        raise AssertionError(done.stdout)
    requests = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    transferred = re.search(r"Transfer/sec:\s+([\d.]+)([KMG]?)B", done.stdout)
    assert requests, done.stdout
    assert transferred, done.stdout
    return float(requests[1]), float(transferred[1]) * _UNITS[transferred[2]]


def upload(running: Running, count: int, size: int, added: list[Path], root: Path) -> tuple[float, float]:
    """Return the median seconds of an upload, and until it is on its project's page afterwards."""
    took, visible = [], []
    for number in range(count):
        name, content = wheel(f"uploaded-{number}", "1.0", content=os.urandom(size))
        added.append(root / name)
        content_type, body = upload_form(name, content)
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
        with contextlib.closing(connection):
            started = time.perf_counter()
            connection.request("POST", "/", body, {"Content-Type": content_type})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
        stored = time.perf_counter()
        _until(lambda n=number: b"uploaded" in get(running.port, f"/simple/uploaded-{n}/"))  # type: ignore[misc]
        took.append(stored - started)
        visible.append(time.perf_counter() - stored)
    return sorted(took)[count // 2], sorted(visible)[count // 2]


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if condition():
                return
    raise AssertionError("not seen in 30 s")
