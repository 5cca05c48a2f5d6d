"""supervisor, over its XML-RPC interface (http://supervisord.org/api.html).

Embedded mode runs a supervisord of the index's own, without root. System mode uses the machine's and
touches nothing in it but the index's own group.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ppctl.deployment import Deployment
from ppctl.errors import PpctlError
from ppctl.host import Host
from ppctl.managers import CACHE, Pending, Process, label, stopping, supervisor_machine
from ppctl.managers.follow import follow_files
from ppctl.managers.supervisor_rpc import (
    ALREADY_ADDED,
    ALREADY_STARTED,
    BAD_NAME,
    NOT_RUNNING,
    SPAWN_ERROR,
    Away,
    Ending,
    described,
    ignoring,
    reread,
)
from ppctl.managers.supervisord import Supervisord, wait
from ppctl.workers import Report

SYSTEM_START_TIMEOUT = 10.0
_WORKER = re.compile(r"worker-[0-9]+")


class Supervisor:
    """The manager of one index under supervisor."""

    def __init__(self, deployment: Deployment, host: Host) -> None:
        self.deployment = deployment
        self.layout = deployment.layout
        self.host = host
        self.supervisord = Supervisord(deployment, host)
        self.leaving = ""
        """A program of the group's name that is not ours, and is gone before we start (`ppctl take-over`)."""

    @property
    def group(self) -> str:
        """The name of the index's group of processes."""
        return self.deployment.name

    # -- what the manager has yet to do ------------------------------------------------------------

    def pending(self, unit: str, reports: dict[int, Report], *, files_change: bool) -> Pending | None:  # noqa: ARG002
        if self.deployment.is_system:
            # Right after `systemctl start supervisor` it has yet to open its socket.
            wait(
                self.supervisord.is_up,
                f"{self.supervisord.socket}: the machine's supervisord does not answer",
                hint=supervisor_machine.START,
                timeout=SYSTEM_START_TIMEOUT,
            )
        if not self.supervisord.is_up():
            return Pending(
                "start supervisord and the workers",
                "connections are refused for about two seconds: the workers have outlived their supervisord"
                if reports
                else "",
                restarts_workers=True,
            )
        if not self.deployment.is_system and self.supervisord.is_outdated():
            return Pending(
                "restart supervisord: its own configuration has changed",
                "connections are refused for about two seconds: supervisord itself restarts",
                restarts_workers=True,
            )
        if not self.processes():
            return Pending(f"make supervisord know the group {self.group}", restarts_workers=True)
        if any(report.unit != unit for report in reports.values()):
            return Pending(
                f"replace the group {self.group} in supervisord",
                "connections are refused for about two seconds: supervisord closes the socket when "
                "address, number of workers or log settings change",
                restarts_workers=True,
            )
        if any(not process.is_up for process in self.processes()):
            return Pending("start the workers that do not run")
        return None

    def holds_socket(self) -> bool:
        # supervisord opens it with the first process of the group and closes it after the last; while it
        # shuts down it does not say which there are.
        return self.supervisord.state() == "ending" or any(
            process.is_up or process.state == "stopping" for process in self.processes()
        )

    # -- taking over the configuration --------------------------------------------------------------

    def load(self, pending: Pending) -> None:  # noqa: ARG002 - supervisord itself tells what has changed
        if not self.deployment.is_system:
            self.supervisord.wait_for_its_end()
            if self.supervisord.is_up() and self.supervisord.is_outdated():
                self._shut_down()
            if not self.supervisord.is_up():
                self.supervisord.start()
        rpc = self.supervisord.rpc()
        added, changed, _ = reread(rpc)
        if self.group in changed:
            self._remove_group(rpc)
        if self.group in changed or self.group in added:
            with ignoring(BAD_NAME, ALREADY_ADDED):  # by a `supervisorctl update` that came in between
                rpc.addProcessGroup(self.group)
        self._start_workers()

    def unload(self) -> None:
        if not self.deployment.is_system:
            self.supervisord.wait_for_its_end()
        if not self.supervisord.is_there():
            self.supervisord.end_orphans()
            return
        if not self.deployment.is_system:
            self._shut_down()
            return
        self.unload_cache()
        self._remove_group(self.supervisord.rpc())

    def _shut_down(self) -> None:
        self._stop_workers()
        self._stop_cache()
        self.supervisord.shut_down()

    def forget(self) -> None:
        if self.deployment.is_system and self.supervisord.is_up():
            reread(self.supervisord.rpc())

    def _remove_group(self, rpc: Any) -> None:
        self._stop_workers()
        with ignoring(BAD_NAME):
            rpc.removeProcessGroup(self.group)

    # -- workers --------------------------------------------------------------------------------------

    def processes(self) -> list[Process]:
        try:
            found = self.supervisord.rpc().getAllProcessInfo()
        except (Away, Ending):
            return []
        mine = [info for info in found if info["group"] == self.group != self.leaving]
        for info in mine:
            if not _WORKER.fullmatch(info["name"]):
                raise PpctlError(
                    f"supervisord runs a program {self.group} that is not this index's",
                    "take it out of supervisord's configuration (supervisorctl stop, then update), "
                    "or give the index another `name` in ppctl.yml",
                )
        return sorted(map(_process, mine), key=lambda process: process.number)

    def start(self, number: int) -> None:
        rpc, name = self.supervisord.rpc(), self._process_name(number)
        listed = partial(self._listed, number)
        if any(process.state == "failed" for process in listed()):
            # While supervisord waits to try again (BACKOFF) it takes a start for done.
            with ignoring(NOT_RUNNING):
                rpc.stopProcess(name, False)
        # And while one still stops, as whoever was killed in the midst of a restart has left it.
        stopping.wait(listed, self._term)
        # A worker that has ended before supervisord answers is a worker that does not come up, like one
        # that ends a little later: whoever waits for it says so, with its log, and brings the old one back.
        with ignoring(ALREADY_STARTED, SPAWN_ERROR):
            stopping.patiently(partial(rpc.startProcess, name, False))

    def stop(self, number: int) -> None:
        self._stop(number, NOT_RUNNING)

    def _stop(self, number: int, *ignored: int) -> None:
        stop = partial(self.supervisord.rpc().stopProcess, self._process_name(number), False)
        stopping.end(ignoring(*ignored)(stop), partial(self._listed, number), self._term)

    def _listed(self, number: int) -> list[Process]:
        if number == CACHE:
            return [found for found in [self.cache()] if found]
        return [process for process in self.processes() if process.number == number]

    def start_all(self) -> None:
        if not self.supervisord.is_up():
            self.load(Pending("start supervisord"))
            return
        self._start_workers()
        if self.deployment.cache:
            with ignoring(ALREADY_STARTED, SPAWN_ERROR, BAD_NAME):
                self.supervisord.rpc().startProcess(self._cache_process, False)

    def _start_workers(self) -> None:
        for process in self.processes():
            if not process.is_up:
                self.start(process.number)

    def stop_all(self) -> None:
        self._stop_workers()
        if self.deployment.cache and self.supervisord.is_there():
            self._stop_cache()

    def _stop_workers(self) -> None:
        if not self.supervisord.is_there():
            return
        stop = partial(self.supervisord.rpc().stopProcessGroup, self.group, False)
        stopping.end(ignoring(BAD_NAME)(stop), self.processes, self._term)

    def _term(self, number: int) -> None:
        with ignoring(NOT_RUNNING):
            self.supervisord.rpc().signalProcess(self._process_name(number), "TERM")

    # -- the cache program ---------------------------------------------------------------------------

    @property
    def _cache_process(self) -> str:
        return f"{self.deployment.cache_name}:{self.deployment.cache_name}"

    def cache(self) -> Process | None:
        try:
            found = self.supervisord.rpc().getAllProcessInfo()
        except (Away, Ending):
            return None
        mine = [info for info in found if info["group"] == self.deployment.cache_name]
        return described(CACHE, mine[0]) if mine else None

    def load_cache(self) -> None:
        rpc, name = self.supervisord.rpc(), self.deployment.cache_name
        added, changed, _ = reread(rpc)
        self.unload_cache(forget=name in changed)
        if name in changed or name in added:
            with ignoring(BAD_NAME, ALREADY_ADDED):
                rpc.addProcessGroup(name)
        with ignoring(ALREADY_STARTED, SPAWN_ERROR):
            stopping.patiently(partial(rpc.startProcess, self._cache_process, False))

    def unload_cache(self, *, forget: bool = True) -> None:
        if not self.supervisord.is_there():
            return
        self._stop_cache()
        if forget:
            with ignoring(BAD_NAME):
                self.supervisord.rpc().removeProcessGroup(self.deployment.cache_name)

    def _stop_cache(self) -> None:
        self._stop(CACHE, NOT_RUNNING, BAD_NAME)

    # -- logs ------------------------------------------------------------------------------------------

    def log(self, number: int, lines: int) -> str:
        content = self.host.read(self._log_of(number)) or b""
        return "\n".join(content.decode("utf-8", "replace").splitlines()[-lines:] if lines else [])

    def follow(self, numbers: list[int], lines: int) -> contextlib.AbstractContextManager[Iterator[str]]:
        files = {label(number): self._log_of(number) for number in numbers}
        return contextlib.closing(follow_files(files, lines))

    def _log_of(self, number: int) -> Path:
        return self.layout.cache_log if number == CACHE else self.layout.worker_log(number)

    def _process_name(self, number: int) -> str:
        return self._cache_process if number == CACHE else f"{self.group}:worker-{number}"


def _process(info: dict[str, Any]) -> Process:
    return described(int(str(info["name"]).rpartition("-")[2]), info)
