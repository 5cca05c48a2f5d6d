"""The load: wrk with eight connections that stay open, uploads one after the other, and real clients."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.server import packages
from benchmarks.server.servers import Running, get
from tests.server.archives import wheel
from tests.server.worker_process import UnixConnection

_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
_SCRIPT = """
local paths = {{ {paths} }}
local at = 0
request = function()
  at = at + 1
  return wrk.format("GET", paths[at % #paths + 1], {{ {headers} }})
end
"""
UPLOAD_BYTES = 1_000_000


def rate(
    running: Running, paths: list[str], seconds: int, headers: Mapping[str, str] | None = None
) -> tuple[float, float]:
    """Return the requests and the bytes a second, asking for `paths` in turn. Raises when requests fail."""
    sent = {**running.headers, **(headers or {})}
    fields = ", ".join(f'["{name}"] = "{value}"' for name, value in sent.items())
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT.format(paths=", ".join(f'"{path}"' for path in paths), headers=fields))
        script.flush()
        command = ["wrk", "-t1", "-c8", f"-d{seconds}s", "--timeout", "60s", "-s", script.name]
        command.append(f"http://127.0.0.1:{running.port}/")
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 120)
    if done.returncode or "Non-2xx" in done.stdout:
        raise AssertionError(f"{running.name}: {done.stdout}{done.stderr}")
    requests = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    transferred = re.search(r"Transfer/sec:\s+([\d.]+)([KMG]?)B", done.stdout)
    assert requests, done.stdout
    assert transferred, done.stdout
    return float(requests[1]), float(transferred[1]) * _UNITS[transferred[2]]


def warm(running: Running, paths: list[str], headers: Mapping[str, str]) -> float | None:
    """Ask each worker of ours for each path once. Returns the seconds for one, None for other servers."""
    if running.home is None:
        return None
    started = time.perf_counter()
    for worker in running.home.workers:
        with contextlib.closing(UnixConnection(worker.socket, 60)) as connection:
            for path in paths:
                connection.request("GET", path, headers={**running.headers, **headers})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200, (path, answer.status)
    return (time.perf_counter() - started) / len(paths) / len(running.home.workers)


def upload(running: Running, project: str, *, with_token: bool = False) -> tuple[float, float]:
    """Return the seconds of an upload, and until it is on its page on every worker, both from its begin."""
    name, content = wheel(project, "1.0", content=os.urandom(UPLOAD_BYTES))
    put = running.put_with_token if with_token else running.put
    assert put
    started = time.perf_counter()
    put(name, content)
    took = time.perf_counter() - started
    page = f"{running.simple}{project}/"
    for ask in running.everyone or [lambda path: get(running.port, path)]:
        _until(lambda ask=ask: b"uploaded" in ask(page))  # type: ignore[misc]
    return took, time.perf_counter() - started


def install(running: Running, client: str) -> float:
    """Return the seconds that `uv pip install` or `pip install` of a graph takes, without a cache."""
    target = tempfile.mkdtemp(prefix="ppctl-bench-")
    url = f"http://127.0.0.1:{running.port}{running.simple}"
    options = {
        "uv": "uv pip install -q --no-cache --default-index",
        "pip": "pip install -q --no-cache-dir --disable-pip-version-check --no-input --index-url",
    }[client]
    started = time.perf_counter()
    try:
        command = [sys.executable, "-m", *options.split(), url, "--target", target, "graph-0"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        took = time.perf_counter() - started
        if done.returncode or len(list(Path(target).glob("graph_*.dist-info"))) != packages.GRAPH:
            raise AssertionError(f"{running.name}: {client}: {done.stderr}")
        return took
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if condition():
                return
    raise AssertionError("not seen in a minute")
