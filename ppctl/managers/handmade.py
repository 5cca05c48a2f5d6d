"""A server made by hand, under the machine's supervisord or systemd: what `ppctl take-over` replaces."""

from __future__ import annotations

import configparser
import contextlib
import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ppctl import ports
from ppctl.errors import PpctlError
from ppctl.host import Host
from ppctl.managers import Process, stopping, supervisor_machine
from ppctl.managers.supervisor_rpc import (
    ALREADY_ADDED,
    ALREADY_STARTED,
    BAD_NAME,
    Rpc,
    described,
    ignoring,
    reread,
)

SUFFIX = ".taken-over"
"""Added to the name of the configuration: its manager then reads it no more, and nothing is lost."""

UNIT = ".service"
"""How the name of a unit of systemd's ends; others are programs of supervisord's."""

UNITS = Path("/etc/systemd/system")
"""Where units made by hand are (systemd.unit(5))."""

END_SECONDS = 10.0
# Who waits for a disk ends when the disk has answered.
KILLED_SECONDS = 60.0


class Handmade(Protocol):
    """A server that was made by hand, and what keeps it alive."""

    @property
    def name(self) -> str:
        """The name of the program or unit."""

    @property
    def label(self) -> str:
        """Manager and name, for people."""

    @property
    def configuration(self) -> Path:
        """The file that its manager reads."""

    def listens(self, port: int) -> bool:
        """Return whether it is the one who has the port."""

    def end(self) -> None:
        """Stop it, and whatever it leaves running."""

    def set_aside(self) -> None:
        """Make its manager forget it; the configuration is kept under another name."""

    def bring_back(self) -> None:
        """Undo `set_aside` and `end`."""


@dataclass(frozen=True)
class Program:
    """A `[program:NAME]` in a file of its own, which the machine's supervisord includes."""

    name: str
    configuration: Path
    host: Host

    @property
    def label(self) -> str:
        return f"supervisor: {self.name}"

    def _rpc(self) -> Rpc:
        return Rpc(supervisor_machine.socket(self.host), supervisor_machine.START)

    def _processes(self) -> list[dict[str, Any]]:
        return [info for info in self._rpc().getAllProcessInfo() if info["group"] == self.name]

    def _listed(self) -> list[Process]:
        return [described(number, info) for number, info in enumerate(self._processes(), 1)]

    def listens(self, port: int) -> bool:
        return ports.holder_pid(port) in self._tree()

    def _tree(self) -> dict[int, str]:
        """Return pid and start time of its processes and of all that they have started (proc(5))."""
        parents, started = {}, {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                parents[int(path.parent.name)] = int(fields[1])
                started[int(path.parent.name)] = fields[19]
        tree = {int(info["pid"]) for info in self._processes()} - {0}
        while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
            tree |= more
        return {pid: started[pid] for pid in tree if pid in started}

    def end(self) -> None:
        tree = self._tree()
        # Not in supervisord's answer: it may take longer than that is waited for.
        stop = partial(self._rpc().stopProcessGroup, self.name, False)
        stopping.patiently(ignoring(BAD_NAME)(stop))
        stopping.wait(self._listed, lambda _: None)
        # A run script without `exec`: its shell has ended, and the server lives on.
        for number, seconds in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, KILLED_SECONDS)):
            deadline = time.monotonic() + seconds
            for pid in _alive(tree):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            while _alive(tree) and time.monotonic() < deadline:
                time.sleep(0.05)
        if left := _alive(tree):
            raise PpctlError(f"the old server does not end (pid {left[0]})", f"kill -9 {left[0]}")

    def set_aside(self) -> None:
        _move(self.configuration, _aside(self.configuration), self.host)
        reread(self._rpc())
        with ignoring(BAD_NAME):
            self._rpc().removeProcessGroup(self.name)

    def bring_back(self) -> None:
        _move(_aside(self.configuration), self.configuration, self.host)
        reread(self._rpc())
        with ignoring(BAD_NAME, ALREADY_ADDED):
            self._rpc().addProcessGroup(self.name)
        with ignoring(ALREADY_STARTED):
            self._rpc().startProcessGroup(self.name, False)


@dataclass(frozen=True)
class Unit:
    """A service of the machine's systemd in a file of its own."""

    name: str
    host: Host

    @property
    def label(self) -> str:
        return f"systemd: {self.name}"

    @property
    def configuration(self) -> Path:
        return UNITS / self.name

    def listens(self, port: int) -> bool:
        # All that it has started is in its control group (cgroups(7)), whoever the parent is.
        path = Path(f"/proc/{ports.holder_pid(port)}/cgroup")
        with contextlib.suppress(OSError):
            return any(line.endswith(f"/{self.name}") for line in path.read_text().splitlines())
        return False

    def end(self) -> None:
        self.host.run(["systemctl", "stop", self.name])
        # With KillMode=process others live on; when there is none, systemd says so and that is all.
        self.host.run(["systemctl", "kill", "--signal=SIGKILL", self.name], check=False)

    def set_aside(self) -> None:
        _copy(self.configuration, _aside(self.configuration), self.host)
        # It takes a unit away that is only a link here, and the links to it.
        self.host.run(["systemctl", "disable", "--quiet", self.name], check=False)
        self.host.remove(self.configuration)
        self.host.run(["systemctl", "daemon-reload"])

    def bring_back(self) -> None:
        _move(_aside(self.configuration), self.configuration, self.host)
        self.host.run(["systemctl", "daemon-reload"])
        if b"[Install]" in (self.host.read(self.configuration) or b""):
            self.host.run(["systemctl", "enable", "--quiet", self.name])
        self.host.run(["systemctl", "start", self.name])


def find(host: Host, name: str) -> Handmade | None:
    """Return the server `name`: a unit where it ends so, else a program; None where there is none.

    Raises PpctlError where it cannot be taken out alone: it shares its file with something else.
    """
    if name.endswith(UNIT):
        return Unit(name, host) if host.stat(UNITS / name) else None
    return _program(host, name)


def how_to_find(host: Host, name: str) -> tuple[str, str]:
    """Return what is not there, and how to see what is: where `find` has found nothing."""
    if name.endswith(UNIT):
        return f"there is no unit {UNITS / name}", "systemctl list-units --type=service names them"
    if not supervisor_machine.is_installed(host):
        return supervisor_machine.NOT_INSTALLED, f"a unit of systemd's: --program {name}{UNIT}"
    directory = supervisor_machine.include_directory(host)
    return (
        f"the machine's supervisord includes no [program:{name}]",
        f"supervisorctl status names them; their files are in {directory}. A unit of systemd's: {name}{UNIT}",
    )


def _program(host: Host, name: str) -> Program | None:
    main = supervisor_machine.configuration_file(host)
    if main is None:
        return None
    place = supervisor_machine.include_file(host, "x")
    included = [place.parent / each for each in host.list(place.parent) if each.endswith(place.suffix)]
    for path in [*included, main]:
        sections = _sections(host.read(path) or b"")
        if f"program:{name}" not in sections:
            continue
        others = [section for section in sections if section != f"program:{name}"]
        if others:
            raise PpctlError(
                f"{path}: has [program:{name}] and also [{others[0]}]",
                f"give [program:{name}] a file of its own in {place.parent}, then run the command again",
            )
        return Program(name, path, host)
    return None


def _sections(content: bytes) -> list[str]:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",), strict=False)
    with contextlib.suppress(configparser.Error):  # one that supervisord cannot read has no program either
        parser.read_string(content.decode("utf-8", "replace"))
    return parser.sections()


def _alive(tree: dict[int, str]) -> list[int]:
    """Return those processes of `tree` that still run; a zombie does not, nor one that only has the pid."""
    alive = []
    for pid, started in tree.items():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z" and fields[19] == started:
                alive.append(pid)
    return alive


def _aside(configuration: Path) -> Path:
    return configuration.with_name(configuration.name + SUFFIX)


def _move(source: Path, target: Path, host: Host) -> None:
    """Rename a file or link; once more is fine."""
    if _copy(source, target, host):
        host.remove(source)


def _copy(source: Path, target: Path, host: Host) -> bool:
    """Copy a file or link. Returns whether there is one."""
    found = host.stat(source)
    if found is None:
        return False
    if found.kind == "link":
        host.link(target, found.target)
    else:
        host.copy_file(source, target, mode=found.mode, owner=None)
    return True
