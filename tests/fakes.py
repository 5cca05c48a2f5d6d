"""A machine without processes: managers and workers that behave like real ones, in memory.

A worker starts from the files of a `FakeHost` as `run-pypi.sh` and `ppctl.server` do, so it notices when
they are half-written. Everything that a manager does is a step of the host, so `FakeHost.kill_at` can pull
the plug there, too. A world can be copied (`copy.deepcopy`) and so tried from the same point many times.
"""

from __future__ import annotations

import copy
import io
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ppctl import pythons, releases
from ppctl.deployment import Deployment
from ppctl.errors import PpctlError
from ppctl.host import Completed, Host
from ppctl.layout import Layout
from ppctl.machine import Machine
from ppctl.managers import Pending, Process
from ppctl.managers.systemd import unit_directory
from ppctl.output import Output
from ppctl.settings import ManagerName
from ppctl.workers import CacheReport, Report
from tests.fake_host import FakeHost, Run

VERSION = "3.11.7"
Key = tuple[str, str, str]


@dataclass
class Loaded:
    """What a manager has read: address, number of workers, and the name of the configuration."""

    address: str
    workers: int
    unit: str


@dataclass
class Worker:
    """A process. `config` is the `server.json` that it has read."""

    generation: str
    release: str
    unit: str
    config: str
    pid: int
    answers: bool = True


@dataclass
class Group:
    """The processes of one deployment, as its manager knows them."""

    loaded: Loaded
    home: Path
    running: dict[int, Worker] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)


@dataclass
class World:
    """A machine with managers, workers and uv.

    - `faults`: what workers found missing when they started; a test asserts that it is empty.
    - `poison`: a text; a worker whose `server.json` or release holds it does not come up.
    - `listeners`: addresses that strangers have, with their names.
    - `uv_fails`: what uv complains about.
    - `uv_has_kept`: whether uv can install without a network.
    - `uv_knows_authority`: whether uv can install with a network, without the machine's certificates.
    """

    host: FakeHost = field(default_factory=FakeHost)
    groups: dict[Key, Group] = field(default_factory=dict)
    caches: dict[Key, tuple[Path, str, str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    poison: str = ""
    listeners: dict[tuple[str, int], str] = field(default_factory=dict)
    uv_fails: str = ""
    uv_has_kept: bool = True
    uv_knows_authority: bool = True
    last_pid: int = 5000
    stdout: io.StringIO = field(default_factory=io.StringIO)
    stderr: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        self.host.answer(pythons.find_uv(self.host), by=self._uv)
        for python in (
            "/usr/bin/python3",
            os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
        ):
            self.host.put(python, mode=0o755)
            self.host.answer(python, by=self._python)
        # One cannot become an account, and anybody may make links in /etc: all that is root's is in memory.
        self.host.put("/run/systemd/system/.keep")
        self.host.put(
            "/etc/supervisor/supervisord.conf", "[include]\nfiles = /etc/supervisor/conf.d/*.conf\n"
        )
        self.host.make_directory(Path("/etc/supervisor/conf.d"), mode=0o755)

    def machine(self, *, json: bool = False) -> Machine:
        """Return this world as the engine sees it."""
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        out = Output("up", json=json, stdout=self.stdout, stderr=self.stderr)
        return Machine(self.host, out, self._manager, FakeProbe(self), self.answers, self.check_port)

    def copy(self) -> World:
        """Return a world of its own in the same state."""
        return copy.deepcopy(self)

    def _manager(self, deployment: Deployment, host: Host) -> FakeManager:
        return FakeManager(deployment, self)

    def answers(self, host: str, port: int, path: str) -> str:
        """Return '' if some worker answers at the address."""
        for group in self.groups.values():
            if group.loaded.address == f"{host}:{port}" and any(w.answers for w in group.running.values()):
                return ""
        return "Connection refused"

    def check_port(self, host: str, port: int) -> None:
        """Like ppctl.ports.check_free, also for the sockets that the managers hold."""
        ours = [g.loaded.address.rpartition(":") for g in self.groups.values() if g.running]
        taken = {(address, int(number)): "supervisord" for address, _, number in ours} | self.listeners
        for (address, number), name in taken.items():
            if number == port and (address == host or "0.0.0.0" in (address, host)):
                raise PpctlError(f"port: {host}:{port} is taken by {name}")

    def workers(self) -> dict[str, tuple[str, str, str, str]]:
        """Return what runs: by name, manager, mode and number, what each worker was started from."""
        return {
            f"{'/'.join(key)}/{number}": (w.generation, w.release, w.unit, w.config)
            for key, group in sorted(self.groups.items())
            for number, w in sorted(group.running.items())
        } | {f"{'/'.join(key)}/cache": ("", *found[1:], "") for key, found in self.caches.items()}

    def kill_worker(self, number: int, *, silent: bool = False) -> None:
        """Let a worker of the only index die and not come back; `silent`: it runs, and does not answer."""
        for group in self.groups.values():
            if number in group.running and silent:
                group.running[number].answers = False
            elif group.running.pop(number, None):
                group.failed.add(number)

    # -- processes -----------------------------------------------------------------------------------

    def start_worker(self, group: Group, number: int) -> None:
        """Start a worker as run-pypi.sh does; the socket in the home is then its own."""
        group.failed.discard(number)
        self.last_pid += 1
        try:
            worker = self.try_start(group.home, group.loaded.unit)
        except LookupError as e:
            self.faults.append(f"worker {number}: {e}")
            group.failed.add(number)
            return
        if self.poison and (self.poison in worker.config or self.poison in worker.release):
            group.failed.add(number)
        else:
            group.running[number] = worker

    def try_start(self, home: Path, unit: str) -> Worker:
        """Return the worker that the files in `home` make. Raises LookupError when they are not whole."""
        layout = Layout(home)
        script = (self.host.read(layout.run_script) or b"").decode()
        generation = re.search(r"^PPCTL_GENERATION=(\w+)$", script, re.M)
        if not generation or f"PPCTL_HOME={home}\n" not in script or "ppctl.server.app" not in script:
            raise LookupError(f"run-pypi.sh is not whole: {script!r}")
        try:
            config = json.dumps(json.loads(self.host.read(layout.server_config) or b""))
        except ValueError as e:
            raise LookupError(f"server.json is not whole: {e}") from e
        release = releases.current(layout, self.host)
        modules = layout.releases / release / "lib/python3.11/site-packages"
        for path in (
            layout.releases / release / "bin/python",
            modules / "gunicorn",
            modules / "ppctl/server/app.py",
        ):
            if not release or not self.host.stat(path):
                raise LookupError(f"release {release or '-'} is not whole: no {path}")
        return Worker(generation[1], release, unit, config, self.last_pid)

    # -- programs --------------------------------------------------------------------------------------

    def _uv(self, run: Run) -> Completed | str:
        command = run.argv[1]
        if command == "venv":
            path = Path(run.argv[-1])
            python = path / "bin" / "python"
            self.host.make_directory(python.parent, mode=0o755)
            self.host.write(python, b"python", mode=0o755)
            self.host.answer(str(python), by=self._python)
            return ""
        if self.uv_fails:
            return Completed(1, "", self.uv_fails)
        if "--offline" in run.argv and not (self.uv_has_kept and self.uv_knows_authority):
            return Completed(1, "", "network connectivity is disabled")
        if not self.uv_knows_authority and not (run.env or {}).get("UV_SYSTEM_CERTS"):
            return Completed(1, "", "invalid peer certificate: UnknownIssuer")
        path = Path(run.argv[run.argv.index("--python") + 1]).parents[1]
        if "compile" in run.argv:
            pins = (self.host.read(path / "requirements.in") or b"").decode()
            self.host.write(Path(run.argv[run.argv.index("--output-file") + 1]), pins.encode(), mode=0o644)
        else:
            modules = path / "lib/python3.11/site-packages"
            self.host.make_directory(modules, mode=0o755)
            self.host.write(modules / "gunicorn", b"", mode=0o644)
        return ""

    def _python(self, run: Run) -> str:
        code = run.argv[-1]
        if "sysconfig" in code:
            return f"{Path(run.argv[0]).parents[1]}/lib/python3.11/site-packages\n"
        return f"{VERSION}\n" if "version_info" in code else ""


class FakeProbe:
    """Asks the workers of a world; the one that was started last has the socket."""

    def __init__(self, world: World) -> None:
        self.world = world

    def report(self, path: Path) -> Report | None:
        number = int(path.stem.rpartition("-")[2])
        found = [g.running.get(number) for g in self.world.groups.values() if g.home == path.parents[1]]
        workers = sorted((w for w in found if w and w.answers), key=lambda w: w.pid)
        if not workers:
            return None
        w = workers[-1]
        return Report(str(number), w.pid, w.pid, w.generation, w.unit, w.release, 0.0)

    def serves(self, path: Path, prefix: str) -> str:
        return "" if self.report(path) else "it does not answer"

    def cache(self, path: Path) -> CacheReport | None:
        found = [each for each in self.world.caches.values() if each[0] == path.parents[1]]
        return CacheReport(7, *found[-1][1:], 0.0, 0, 1, "http://h/simple/", "") if found else None


class FakeManager:
    """supervisor as ppctl.managers.supervisor describes it; systemd stands in as one more of the kind."""

    def __init__(self, deployment: Deployment, world: World) -> None:
        self.deployment = deployment
        self.world = world
        self.key: Key = (deployment.name, deployment.manager.value, deployment.mode.value)

    @property
    def group(self) -> Group | None:
        return self.world.groups.get(self.key)

    def _step(self, operation: str, *arguments: object) -> None:
        self.world.host.step(f"manager.{operation}", *self.key, *arguments)

    def pending(self, unit: str, reports: dict[int, Report], *, files_change: bool) -> Pending | None:
        group = self.group
        if group is None:
            return Pending("make it known", restarts_workers=True)
        if any(report.unit != unit for report in reports.values()):
            return Pending("replace it", "connections are refused for a moment", True, True)
        if len(group.running) < group.loaded.workers:
            return Pending("start the workers that do not run")
        return None

    def holds_socket(self) -> bool:
        return bool(self.group and self.group.running)

    def load(self, pending: Pending) -> None:
        found = self._read()
        group = self.group
        if group and group.loaded != found:
            self.unload()
            group = None
        if group is None:
            self._step("add")
            if f"{self.deployment.host}:{self.deployment.port}" != found.address:
                self.world.faults.append(f"loaded {found.address} for {self.deployment}")
            host, _, port = found.address.rpartition(":")
            self.world.check_port(host, int(port))
            self.world.groups[self.key] = Group(found, self.deployment.home)
        self.start_all()

    def _read(self) -> Loaded:
        """Return what the manager finds on disk where it looks for it."""
        host, d = self.world.host, self.deployment
        if d.manager is ManagerName.SUPERVISOR:
            path = d.layout.supervisor_program
            if d.is_system:
                path = Path(f"/etc/supervisor/conf.d/ppctl-{d.name}.conf")
            text = (host.read(path) or b"").decode()
            found = [
                re.search(p, text)
                for p in (r"socket=tcp://(\S+)", r"numprocs=(\d+)", r'PPCTL_UNIT="([^"]*)"')
            ]
            numbers = found[1][1] if found[1] else "0"
        else:
            directory = unit_directory(is_system=d.is_system)
            texts = [
                (host.read(directory / f"{d.unit_name}{suffix}") or b"").decode()
                for suffix in (".socket", ".service", "@.service")
            ]
            found = [
                re.search(r"ListenStream=(\S+)", texts[0]),
                re.search(r"Wants=(.+)", texts[1]),
                re.search(r"PPCTL_UNIT=(\S+)", texts[2]),
            ]
            numbers = str(found[1][1].count("@")) if found[1] else "0"
        if not all(found):
            raise PpctlError(f"{d.name}: the manager finds no whole configuration: {found}")
        return Loaded(found[0][1], int(numbers), found[2][1])  # type: ignore[index]

    def cache(self) -> Process | None:
        return Process(0, "running", 7) if self.key in self.world.caches else None

    def load_cache(self) -> None:
        self._step("load cache")
        host, layout = self.world.host, self.deployment.layout
        script = (host.read(layout.cache_script) or b"").decode()
        generation = re.search(r"^PPCTL_GENERATION=(\w+)$", script, re.M)
        for path in (layout.cache_config, layout.cache):
            if not generation or not host.stat(path):
                self.world.faults.append(f"the cache finds no whole {path}")
                return
        assert generation
        self.world.caches[self.key] = (layout.home, generation[1], releases.current(layout, host))

    def unload_cache(self) -> None:
        self._step("unload cache")
        self.world.caches.pop(self.key, None)

    def unload(self) -> None:
        self.world.caches.pop(self.key, None)
        if self.group:
            self._step("stop everything")
            self.group.running.clear()
            self._step("remove")
            del self.world.groups[self.key]

    def forget(self) -> None:
        self._step("forget")

    def processes(self) -> list[Process]:
        group = self.group
        if group is None:
            return []
        states = {
            n: "running" if n in group.running else "stopped" for n in range(1, group.loaded.workers + 1)
        }
        states |= dict.fromkeys(group.failed, "failed")
        return [Process(number, state) for number, state in sorted(states.items())]

    def start(self, number: int) -> None:
        self._step("start", number)
        if self.group and number not in self.group.running:
            self.world.start_worker(self.group, number)

    def stop(self, number: int) -> None:
        self._step("stop", number)
        if self.group:
            self.group.running.pop(number, None)
            self.group.failed.discard(number)

    def start_all(self) -> None:
        for process in self.processes():
            if not process.is_up:
                self.start(process.number)

    def stop_all(self) -> None:
        for process in self.processes():
            self.stop(process.number)

    def log(self, number: int, lines: int) -> str:
        return f"the last words of worker {number}"

    def follow(self, numbers: list[int], lines: int) -> object:
        raise NotImplementedError
