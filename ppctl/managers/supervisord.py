"""The supervisord in charge of an index: one of its own (embedded mode), or the machine's."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ppctl import homes
from ppctl.deployment import Deployment
from ppctl.errors import CommandFailed, PpctlError
from ppctl.host import Host
from ppctl.managers import supervisor_machine
from ppctl.managers.supervisor_rpc import Away, Ending, Rpc, Silent
from ppctl.workers import SocketProbe

OWN = "ppctl.managers.own_supervisord"
START_TIMEOUT = 15.0
SHUTDOWN_TIMEOUT = 3700.0
"""Above the largest stop_timeout: supervisord ends after its last worker."""


class Supervisord:
    """The process. Only one of the index's own is started and ended."""

    def __init__(self, deployment: Deployment, host: Host) -> None:
        self.deployment = deployment
        self.layout = deployment.layout
        self.host = host

    @property
    def socket(self) -> Path:
        """The UNIX socket of the supervisord in charge."""
        if not self.deployment.is_system:
            return self.layout.supervisor_socket
        return supervisor_machine.socket(self.host)

    def rpc(self) -> Any:
        """Return its XML-RPC interface."""
        start = (
            supervisor_machine.START if self.deployment.is_system else homes.command(self.layout.home, "up")
        )
        return Rpc(self.socket, start)

    def is_up(self) -> bool:
        """Return whether it answers and is not about to end."""
        return self.state() in ("RUNNING", "RESTARTING")

    def is_there(self) -> bool:
        """Return whether it can be told something. Raises Silent when it does not answer in time."""
        try:
            self.rpc().getState()
        except (Away, Ending):
            return False
        return True

    def state(self) -> str:
        """Return the state that supervisord says it is in; `ending`: shutting down; '': it says nothing."""
        try:
            return str(self.rpc().getState()["statename"])
        except Ending:
            return "ending"
        except Silent:
            return ""

    def is_outdated(self) -> bool:
        """Return whether it runs with another configuration of its own than the file has."""
        wanted = (self.host.read(self.layout.supervisord_conf) or b"").decode("utf-8", "replace")
        return f"identifier={self.rpc().getIdentification()}\n" not in wanted

    def start(self) -> None:
        """Start the index's own. Raises PpctlError when it does not come up."""
        self.end_orphans()
        log = self.layout.logs / "supervisord.log"
        try:
            self.host.run(
                [sys.executable, "-m", OWN, "-c", str(self.layout.supervisord_conf)],
                env={"PYTHONSAFEPATH": "1"},
            )
        except CommandFailed as e:
            # One may be on its way already, started by a ppctl that was killed.
            if not self._comes_up(seconds=2.0):
                reason = e.output.strip().splitlines()[-1:] or ["it does not say why"]
                raise PpctlError(f"supervisord does not start: {reason[0]}", f"{log} may tell more") from e
        wait(self.is_up, f"supervisord does not answer; see {log}")

    def _comes_up(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.is_up() and time.monotonic() < deadline:
            time.sleep(0.03)
        return self.is_up()

    def wait_for_its_end(self) -> None:
        """Wait for a supervisord that was told to shut down: it ends after its last worker."""
        while self.state() == "ending":
            time.sleep(0.03)
        pid = self._pid()
        if pid and not self._comes_up(seconds=1.0):
            wait(
                lambda: _has_ended(pid) or self.is_up(),
                f"supervisord (pid {pid}) neither answers nor ends",
            )

    def _pid(self) -> int:
        """Return the pid of the index's supervisord if it runs, else 0."""
        with contextlib.suppress(PpctlError, OSError, ValueError):
            pid = int(self.host.read(self.layout.run / "supervisord.pid") or b"")
            if str(self.layout.supervisord_conf).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return 0

    def shut_down(self) -> None:
        """End the index's own, whose workers have stopped; return when it has. Raises PpctlError."""
        rpc = self.rpc()
        pid = int(rpc.getPID())
        rpc.shutdown()  # which stops the cache program, too
        wait(partial(_has_ended, pid), f"supervisord (pid {pid}) does not end", timeout=SHUTDOWN_TIMEOUT)

    def end_orphans(self) -> None:
        """End workers that have outlived their supervisord: they hold the port and nobody restarts them."""
        probe = SocketProbe(timeout=1.0)
        orphans = set()
        for name in self.host.list(self.layout.run):
            socket = self.layout.run / name
            if name.startswith("worker-") and (report := probe.report(socket)):
                # Both: the arbiter may be gone as well.
                orphans |= {pid for pid in (report.pid, report.process) if is_of_owner(pid, socket)}
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        for pid in orphans:
            wait(
                partial(_has_ended, pid),
                f"a worker (pid {pid}) does not end",
                timeout=SHUTDOWN_TIMEOUT,
            )


def wait(
    condition: Callable[[], object], message: str, *, hint: str = "", timeout: float = START_TIMEOUT
) -> None:
    """Return when the condition holds. Raises PpctlError when it does not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise PpctlError(message, hint)
        time.sleep(0.03)


def is_of_owner(pid: int, socket: Path) -> bool:
    """Return whether a process is its who has made `socket`: a worker that was taken over may name any.

    Root would end what it names; -1 stands for every process there is (kill(2)).
    """
    with contextlib.suppress(OSError):
        return pid > 0 and Path(f"/proc/{pid}").stat().st_uid == socket.lstat().st_uid
    return False


def _has_ended(pid: int) -> bool:
    """Return whether `pid` does not run any more; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"
