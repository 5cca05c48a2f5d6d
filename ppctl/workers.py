"""Talks to the workers themselves: each answers on a UNIX socket of its own in the home's `run/`."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ppctl.errors import PpctlError
from ppctl.server.unix import UnixConnection

REPORT_PATH = "/_ppctl/worker"


class WorkerSilent(PpctlError):
    """A worker does not answer on its socket."""


@dataclass(frozen=True)
class Report:
    """What a worker says of itself. `started` is in seconds since the epoch."""

    worker: str
    pid: int
    process: int
    generation: str
    unit: str
    release: str
    started: float
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CacheReport:
    """What the cache program says of itself. `bytes`: what it keeps; `problem`: "" or what is upstream."""

    pid: int
    generation: str
    release: str
    started: float
    bytes: int
    max_bytes: int
    url: str
    problem: str


class Probe(Protocol):
    """Asks workers. Never raises: a worker that does not answer is a finding, not an error."""

    def report(self, path: Path) -> Report | None:
        """Return what the worker behind the socket `path` says of itself, or None if it does not answer."""

    def serves(self, path: Path, prefix: str) -> str:
        """Return '' if the worker behind `path` serves the index, or what is wrong."""

    def cache(self, path: Path) -> CacheReport | None:
        """Return what the cache program behind the socket `path` says of itself, or None."""


class SocketProbe:
    """Asks over the workers' sockets, waiting `timeout` seconds at most for each answer."""

    def __init__(self, timeout: float = 3.0) -> None:
        self._timeout = timeout

    def report(self, path: Path) -> Report | None:
        try:
            status, body = self._get(path, REPORT_PATH)
            return _report(json.loads(body)) if status == http.HTTPStatus.OK else None
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError):
            return None

    def serves(self, path: Path, prefix: str) -> str:
        try:
            for url in ("/health", f"{prefix}/simple/"):
                status, _ = self._get(path, url)
                # 401: it would list the packages after a login, and that is an answer of the index.
                if status not in (http.HTTPStatus.OK, http.HTTPStatus.UNAUTHORIZED):
                    return f"{url} answers {status}"
        except (OSError, http.client.HTTPException) as e:
            return f"it does not answer ({e or type(e).__name__})"
        return ""

    def cache(self, path: Path) -> CacheReport | None:
        try:
            status, body = self._get(path, "/status")
            return CacheReport(**json.loads(body)) if status == http.HTTPStatus.OK else None
        except (OSError, http.client.HTTPException, ValueError, TypeError):
            return None

    def _get(self, path: Path, url: str) -> tuple[int, bytes]:
        connection = UnixConnection(path, self._timeout)
        try:
            connection.request("GET", url)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def ask(path: Path, url: str, data: Mapping[str, str] | None = None, timeout: float = 30.0) -> dict[str, Any]:
    """Ask the worker behind the socket `path`: GET, or POST of `data`. Returns its answer.

    Raises PpctlError with what it says when it refuses, WorkerSilent when it does not answer.
    """
    connection = UnixConnection(path, timeout)
    try:
        body = None if data is None else json.dumps(data)
        connection.request("GET" if body is None else "POST", url, body, {"Connection": "close"})
        response = connection.getresponse()
        content = response.read()
        found: dict[str, Any] = json.loads(content)
        if response.status == http.HTTPStatus.OK:
            return found
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise WorkerSilent(f"{path} does not answer: {e or type(e).__name__}") from e
    finally:
        connection.close()
    raise PpctlError(str(found.get("error", response.status)))


def _report(data: dict[str, Any]) -> Report:
    return Report(
        worker=str(data["worker"]),
        pid=int(data["pid"]),
        process=int(data["process"]),
        generation=str(data["generation"]),
        unit=str(data["unit"]),
        release=str(data["release"]),
        started=float(data["started"]),
        versions={str(k): str(v) for k, v in data.get("versions", {}).items()},
    )


def answers_at(host: str, port: int, path: str, timeout: float = 3.0) -> str:
    """Return '' if `http://host:port/path` answers below 500, or what is wrong."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where to connect, not to bind
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
        return "" if status < http.HTTPStatus.INTERNAL_SERVER_ERROR else f"it answers {status}"
    except (OSError, http.client.HTTPException) as e:
        return getattr(e, "strerror", None) or str(e) or type(e).__name__
    finally:
        connection.close()
