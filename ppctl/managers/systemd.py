"""systemd: a socket unit, a service that stands for the index, and one instance of a template a worker.

The socket unit's own service is the one that stands for the index, not a worker: when a worker ends,
systemd neither closes the socket nor counts the worker's failures against it (systemd.socket(5)).
System units for the machine's indexes, `systemctl --user` for one user's.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ppctl import xdg
from ppctl.deployment import Deployment
from ppctl.errors import CommandFailed, PpctlError
from ppctl.host import Completed, Host
from ppctl.managers import CACHE, Pending, Process
from ppctl.workers import Report

STATES = {
    "active": "running",
    "reloading": "running",
    "activating": "starting",
    "deactivating": "stopping",
    "inactive": "stopped",
    "failed": "failed",
}
PROPERTIES = (
    *("LoadState", "ActiveState", "SubState", "Result", "MainPID"),
    *("ActiveEnterTimestampMonotonic", "NeedDaemonReload", "Listen"),
)

LOST = re.compile(
    "D-Bus connection terminated|Connection reset by peer|Connection timed out|disconnected from message bus"
    "|Transport endpoint is not connected|Broken pipe"
)
"""What systemctl says when systemd replaces itself (an upgrade: daemon-reexec) or answers late."""

PATIENCE = 30.0
"""Seconds after which it is not asked again."""


def is_running(host: Host) -> bool:
    """Return whether systemd is this machine's init (sd_booted(3))."""
    return host.stat(Path("/run/systemd/system")) is not None


def unit_directory(*, is_system: bool) -> Path:
    """Return the directory that the units are written into (systemd.unit(5))."""
    if is_system:
        return Path("/etc/systemd/system")
    return xdg.config(os.environ, Path.home()) / "systemd" / "user"


def can_sandbox(host: Host) -> bool:
    """Return whether the systemd of a user may give services name spaces of their own.

    It needs unprivileged user namespaces, which some distributions close (Ubuntu by AppArmor).
    """
    closed_by = {
        "/proc/sys/kernel/unprivileged_userns_clone": b"0",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": b"1",
        "/proc/sys/user/max_user_namespaces": b"0",
    }
    return all((host.read(Path(path)) or b"").strip() != value for path, value in closed_by.items())


class Systemd:
    """The manager of one index under systemd."""

    def __init__(self, deployment: Deployment, host: Host) -> None:
        self.deployment = deployment
        self.host = host

    @property
    def socket_unit(self) -> str:
        """The unit that holds the listening socket."""
        return f"{self.deployment.unit_name}.socket"

    @property
    def service_unit(self) -> str:
        """The unit that stands for the whole index."""
        return f"{self.deployment.unit_name}.service"

    def worker_unit(self, number: int) -> str:
        """Return the unit of worker `number`; CACHE: that of the cache program."""
        if number == CACHE:
            return self.deployment.cache_unit
        return f"{self.deployment.unit_name}@{number}.service"

    # -- what the manager has yet to do ------------------------------------------------------------

    def pending(self, unit: str, reports: dict[int, Report], *, files_change: bool) -> Pending | None:
        socket = self._show(self.socket_unit)
        if self._must_move(socket, reports):
            return Pending(
                f"move the socket to {self.deployment.host}:{self.deployment.port}",
                "connections are refused for about a second: the address changes",
                restarts_workers=True,
                closes_socket=True,
            )
        units = [self.service_unit, *(self.worker_unit(n) for n in self.deployment.numbers)]
        shown = [socket, *(self._show(name) for name in units)]
        if any(properties.get("ActiveState") != "active" for properties in shown):
            return Pending("start the socket and the workers")
        if self._surplus():
            return Pending("stop the workers that are one too many")
        reload = any(properties.get("NeedDaemonReload") == "yes" for properties in shown)
        if files_change or reload or any(report.unit != unit for report in reports.values()):
            return Pending("make systemd read the changed units")
        return None

    def _must_move(self, socket: dict[str, str], reports: dict[int, Report]) -> bool:
        """Whether the open socket is at another address.

        After a daemon-reload systemd shows the written address, whatever is open; the workers know better.
        """
        if socket.get("ActiveState") == "active" and not self._listens_as_written(socket):
            return True
        here = self.deployment.address
        return any(report.unit.partition("/")[0] != here for report in reports.values())

    def holds_socket(self) -> bool:
        socket = self._show(self.socket_unit)
        return socket.get("ActiveState") == "active" and self._listens_as_written(socket)

    def _listens_as_written(self, socket: dict[str, str]) -> bool:
        return socket.get("Listen", "").startswith(f"{self.deployment.address} ")

    def _surplus(self) -> list[str]:
        """Return running instances of workers that the settings no longer have."""
        pattern = f"{self.deployment.unit_name}@*.service"
        done = self._systemctl("list-units", "--plain", "--no-legend", "--state=active,activating", pattern)
        running = [line.split()[0] for line in done.stdout.splitlines() if line.split()]
        wanted = {self.worker_unit(number) for number in self.deployment.numbers}
        return [name for name in running if name not in wanted]

    # -- taking over the configuration --------------------------------------------------------------

    def load(self, pending: Pending) -> None:
        if pending.closes_socket:
            self.stop_all()
        self._systemctl("daemon-reload")
        for name in self._surplus():
            self._systemctl("stop", name)
        self.start_all()

    def unload(self) -> None:
        self.stop_all()
        units = [self.socket_unit, self.service_unit, *(self.worker_unit(n) for n in self.deployment.numbers)]
        units += [self.deployment.cache_unit] if self.deployment.cache else []
        self._systemctl("reset-failed", *units, check=False)

    def forget(self) -> None:
        self._systemctl("daemon-reload")

    # -- workers --------------------------------------------------------------------------------------

    def processes(self) -> list[Process]:
        return [self._process(number) for number in self.deployment.numbers]

    def _process(self, number: int) -> Process:
        shown = self._show(self.worker_unit(number))
        state = STATES.get(shown.get("ActiveState", ""), "stopped")
        if shown.get("SubState") == "auto-restart":
            state = "failed"
        since = _monotonic_to_epoch(int(shown.get("ActiveEnterTimestampMonotonic") or 0))
        detail = "" if shown.get("Result") in (None, "", "success") else shown["Result"]
        return Process(number, state, int(shown.get("MainPID") or 0), since, detail)

    def start(self, number: int) -> None:
        self._systemctl("start", "--no-block", self.worker_unit(number))

    def stop(self, number: int) -> None:
        self._stop_units(self.worker_unit(number))

    def start_all(self) -> None:
        workers = [self.worker_unit(number) for number in self.deployment.numbers]
        workers += [self.deployment.cache_unit] if self.deployment.cache else []
        self._systemctl("start", self.socket_unit, self.service_unit)
        self._systemctl("start", "--no-block", *workers)

    def stop_all(self) -> None:
        # The socket first: a connection would start the service again.
        loaded = [u for u in (self.socket_unit, self.service_unit) if self._is_loaded(u)]
        surplus = self._surplus()
        workers = [self.worker_unit(n) for n in self.deployment.numbers] if loaded else []
        if self.deployment.cache and self._is_loaded(self.deployment.cache_unit):
            surplus.append(self.deployment.cache_unit)
        if loaded or surplus:
            self._stop_units(*loaded, *workers, *surplus)

    def _stop_units(self, *names: str) -> None:
        # What is frozen (SIGSTOP) does not hear that to stop; by itself systemd wakes a first process only.
        services = [name for name in names if name.endswith(".service")]
        self._systemctl("kill", "--signal=CONT", *services, check=False)
        self._systemctl("stop", *names)

    def _is_loaded(self, unit: str) -> bool:
        return self._show(unit).get("LoadState") == "loaded"

    # -- the cache program ---------------------------------------------------------------------------

    def cache(self) -> Process | None:
        return self._process(CACHE) if self._is_loaded(self.deployment.cache_unit) else None

    def load_cache(self) -> None:
        self._systemctl("daemon-reload")
        self._systemctl("restart", self.deployment.cache_unit)

    def unload_cache(self) -> None:
        if self._is_loaded(self.deployment.cache_unit):
            self._systemctl("stop", self.deployment.cache_unit)
            self._systemctl("reset-failed", self.deployment.cache_unit, check=False)

    # -- logs ------------------------------------------------------------------------------------------

    def log(self, number: int, lines: int) -> str:
        done = self.host.run(self._journalctl([number], lines), check=False)
        return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("-- "))

    @contextlib.contextmanager
    def follow(self, numbers: list[int], lines: int) -> Iterator[Iterator[str]]:
        argv = [*self._journalctl(numbers, lines), "--follow"]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert process.stdout is not None  # noqa: S101 - for mypy: PIPE was asked for
            yield (line.rstrip("\n") for line in process.stdout)
        finally:
            process.terminate()
            process.wait()

    def _journalctl(self, numbers: list[int], lines: int) -> list[str]:
        option = "--unit" if self.deployment.is_system else "--user-unit"
        units = [f"{option}={self.worker_unit(number)}" for number in numbers]
        # Not --user: that looks into users' own journals only. Where the journal is kept in memory, as on
        # Debian 12, there are none: the lines are in the system's, which the group systemd-journal may read.
        return ["journalctl", *units, f"--lines={lines}", "--output=short-iso", "--no-pager"]

    # -- systemctl ---------------------------------------------------------------------------------------

    def _scope(self) -> list[str]:
        return [] if self.deployment.is_system else ["--user"]

    def _systemctl(self, *arguments: str, check: bool = True) -> Completed:
        env = {"LC_ALL": "C"}
        if not self.deployment.is_system and "XDG_RUNTIME_DIR" not in os.environ:
            env["XDG_RUNTIME_DIR"] = f"/run/user/{os.geteuid()}"  # not set under sudo -u, cron or su
        argv = ["systemctl", *self._scope(), *arguments]
        try:
            return self._patiently(argv, env, check=check)
        except CommandFailed as e:
            if "Failed to connect to bus" in e.output:
                raise PpctlError(
                    f"systemd of user {self.host.user()} does not answer",
                    f"sudo loginctl enable-linger {self.host.user()}, then log in again",
                ) from e
            raise

    def _patiently(self, argv: list[str], env: dict[str, str], *, check: bool) -> Completed:
        """Run systemctl; again where the connection was lost: whatever it is told may be told twice."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                # Apart: Ctrl-C is not to end the start of a worker that was stopped to be started anew.
                return self.host.run(argv, env=env, check=check, apart=True)
            except CommandFailed as e:
                if not LOST.search(e.output) or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def _show(self, unit: str) -> dict[str, str]:
        """Return the properties of `unit` that matter here."""
        done = self._systemctl("show", f"--property={','.join(PROPERTIES)}", unit)
        pairs = (line.partition("=") for line in done.stdout.splitlines())
        return {key: value for key, _, value in pairs}


def _monotonic_to_epoch(microseconds: int) -> float:
    """Return the time of a systemd monotonic timestamp in seconds since the epoch; 0 for never."""
    if not microseconds:
        return 0.0
    return time.time() - (time.clock_gettime(time.CLOCK_MONOTONIC) - microseconds / 1e6)
