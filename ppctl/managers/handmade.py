"""A program of the machine's supervisord made by hand: what `ppctl take-over` replaces."""

from __future__ import annotations

import configparser
import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ppctl import ports
from ppctl.errors import PpctlError
from ppctl.host import Host
from ppctl.managers import supervisor_machine
from ppctl.managers.supervisor_rpc import ALREADY_STARTED, BAD_NAME, NOT_RUNNING, Rpc, ignoring, reread

SUFFIX = ".taken-over"
"""Added to the name of the configuration: supervisord then includes it no more, and nothing is lost."""

END_SECONDS = 10.0


class Handmade(Protocol):
    """A server that was made by hand, and what keeps it alive."""

    @property
    def name(self) -> str:
        """The name of the program."""

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
    def _aside(self) -> Path:
        return self.configuration.with_name(self.configuration.name + SUFFIX)

    def _rpc(self) -> Rpc:
        return Rpc(supervisor_machine.socket(self.host))

    def _processes(self) -> list[dict[str, Any]]:
        return [info for info in self._rpc().getAllProcessInfo() if info["group"] == self.name]

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
        with ignoring(BAD_NAME, NOT_RUNNING):
            self._rpc().stopProcessGroup(self.name, True)
        # A run script without `exec`: its shell has ended, and the server lives on.
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + END_SECONDS
            for pid in _alive(tree):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            while _alive(tree) and time.monotonic() < deadline:
                time.sleep(0.05)
        if left := _alive(tree):
            raise PpctlError(f"the old server does not end (pid {left[0]})", f"kill -9 {left[0]}")

    def set_aside(self) -> None:
        _move(self.configuration, self._aside, self.host)
        reread(self._rpc())
        with ignoring(BAD_NAME):
            self._rpc().removeProcessGroup(self.name)

    def bring_back(self) -> None:
        _move(self._aside, self.configuration, self.host)
        reread(self._rpc())
        with ignoring(BAD_NAME):
            self._rpc().addProcessGroup(self.name)
        with ignoring(ALREADY_STARTED):
            self._rpc().startProcessGroup(self.name, False)


def find(host: Host, name: str) -> Program | None:
    """Return the program `name` of the machine's supervisord; None where none of its files has it.

    Raises PpctlError where it cannot be taken out alone: it shares its file with something else.
    """
    place = supervisor_machine.include_file(host, "x")
    main = supervisor_machine.configuration_file(host)
    included = [place.parent / each for each in host.list(place.parent) if each.endswith(place.suffix)]
    for path in [*included, *([main] if main else [])]:
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


def _move(source: Path, target: Path, host: Host) -> None:
    """Rename a file or link; once more is fine."""
    found = host.stat(source)
    if found is None:
        return
    if found.kind == "link":
        host.link(target, found.target)
    else:
        host.copy_file(source, target, mode=found.mode, owner=None)
    host.remove(source)
