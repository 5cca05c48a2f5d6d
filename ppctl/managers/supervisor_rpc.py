"""supervisord's XML-RPC interface over its UNIX socket (http://supervisord.org/api.html)."""

from __future__ import annotations

import contextlib
import http.client
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from ppctl.errors import PpctlError
from ppctl.managers import Process
from ppctl.server.unix import UnixConnection

# supervisor.xmlrpc.Faults
SHUTDOWN_STATE, BAD_NAME, SPAWN_ERROR, ALREADY_STARTED, NOT_RUNNING = 6, 10, 50, 60, 70
ALREADY_ADDED, CANT_REREAD = 90, 92

STATES = {
    "RUNNING": "running",
    "STARTING": "starting",
    "BACKOFF": "failed",
    "STOPPING": "stopping",
    "STOPPED": "stopped",
    "EXITED": "starting",  # with autorestart it is started again at once
    "FATAL": "failed",
    "UNKNOWN": "failed",
}

TIMEOUT = 10.0
"""Seconds that an answer may take; nothing is asked that supervisord has to wait for."""


class Silent(PpctlError):
    """No supervisord answers at its socket."""


class Away(Silent):
    """There is none: nobody listens at its socket."""


class Ending(Silent):
    """supervisord is shutting down, and answers nothing else."""


class _Transport(xmlrpc.client.Transport):
    """Like supervisor.xmlrpc's own, which takes ten times as long to import and waits for ever."""

    def __init__(self, socket: Path) -> None:
        super().__init__()
        self._socket = socket

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = UnixConnection(self._socket, TIMEOUT)
        self._connection = host, connection  # close() is to find it
        return connection


class Rpc:
    """supervisord's `supervisor` namespace. Methods raise PpctlError, or Fault when it refuses."""

    def __init__(self, socket: Path, start: str) -> None:
        """`start`: what to type where it does not answer."""
        self._socket = socket
        self._start = start
        self._proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(socket))

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: Any) -> Any:
            try:
                return getattr(self._proxy.supervisor, method)(*arguments)
            except PermissionError as e:
                raise PpctlError(
                    f"{self._socket}: supervisord does not talk to this user", "run the command with sudo"
                ) from e
            except xmlrpc.client.Fault as e:
                if e.faultCode == SHUTDOWN_STATE:
                    raise Ending(f"{self._socket}: supervisord is shutting down", self._start) from e
                raise
            except xmlrpc.client.ProtocolError as e:
                raise PpctlError(f"{self._socket}: supervisord answers {e.errcode} {e.errmsg}") from e
            except (OSError, http.client.HTTPException, xmlrpc.client.ResponseError, ExpatError) as e:
                reason = getattr(e, "strerror", None) or str(e) or type(e).__name__
                kind = Away if isinstance(e, FileNotFoundError | ConnectionRefusedError) else Silent
                raise kind(f"{self._socket}: supervisord does not answer: {reason}", self._start) from e
            finally:
                self._proxy("close")()

        return call


@contextlib.contextmanager
def ignoring(*codes: int) -> Iterator[None]:
    """Turn what supervisord refuses in a `with` block into a PpctlError; pass over the refusals `codes`."""
    try:
        yield
    except xmlrpc.client.Fault as e:
        if e.faultCode not in codes:
            raise refusal(e) from e


def refusal(fault: xmlrpc.client.Fault) -> PpctlError:
    """Return the error for what supervisord refuses."""
    return PpctlError(f"supervisord refuses: {fault.faultString}")


def reread(rpc: Rpc) -> tuple[list[str], list[str], list[str]]:
    """Make supervisord read its configuration; return the groups that were added, changed and removed.

    None of them starts or stops by that. Raises PpctlError when it cannot be read.
    """
    try:
        added, changed, removed = rpc.reloadConfig()[0]
    except xmlrpc.client.Fault as e:
        if e.faultCode == CANT_REREAD:
            raise PpctlError(
                f"supervisord cannot read its configuration: {e.faultString.partition(': ')[2]}",
                "mend that file (it need not be one of ppctl's), then run the command again",
            ) from e
        raise refusal(e) from e
    return added, changed, removed


def described(number: int, info: dict[str, Any]) -> Process:
    """Return what supervisord says of one process."""
    state = STATES.get(str(info["statename"]), "failed")
    return Process(number, state, int(info["pid"]), float(info["start"]), str(info["spawnerr"]))
