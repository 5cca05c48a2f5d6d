"""A healthy index on a machine in memory, for tests to break."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppctl import pythons, releases
from ppctl import settings as settings_module
from ppctl.checks.base import Subject
from ppctl.deployment import Deployment, Manifest
from ppctl.host import FileSystem
from ppctl.index import Index
from ppctl.layout import Layout
from ppctl.machine import Machine
from ppctl.managers import Pending, Process
from ppctl.output import Output
from ppctl.server.known import serialise
from ppctl.settings import ManagerName
from ppctl.workers import CacheReport, Report
from tests.fake_host import FakeHost, Run

NOW = 1_764_000_000.0
USER_HOME = Path("/home/operator")
OWN_PACKAGES = Path(sysconfig.get_path("purelib"))
STRONG = "$2y$12$" + "a" * 53
SUPERVISORD_CONF = "[unix_http_server]\nfile=/run/supervisor.sock\n[include]\nfiles = conf.d/*.conf\n"


@dataclass
class FakeManager:
    """A manager that says what it is told to."""

    all: list[Process]
    wants: Pending | None = None
    has_socket: bool = True
    error: Exception | None = None

    def pending(self, *_: Any, **__: Any) -> Pending | None:
        return self.wants

    def holds_socket(self) -> bool:
        return self.has_socket

    def cache(self) -> Process | None:
        return Process(0, "running", 99, NOW)

    def processes(self) -> list[Process]:
        if self.error:
            raise self.error
        return self.all


@dataclass
class FakeProbe:
    """Workers that say what they are told to."""

    reports: dict[Path, Report] = field(default_factory=dict)
    wrong: dict[Path, str] = field(default_factory=dict)
    cached: CacheReport | None = None

    def report(self, path: Path) -> Report | None:
        return self.reports.get(path)

    def serves(self, path: Path, prefix: str) -> str:
        return self.wrong.get(path, "")

    def cache(self, path: Path) -> CacheReport | None:
        return self.cached


@dataclass
class Example:
    """A machine with an index on it; `subject()` is what checks look at."""

    host: FakeHost
    index: Index
    manager: FakeManager = field(default_factory=lambda: FakeManager([]))
    probe: FakeProbe = field(default_factory=FakeProbe)
    answers: Callable[[str, int, str], str] = lambda *_: ""
    release: str = ""
    elsewhere: frozenset[str] | None = None

    @property
    def layout(self) -> Layout:
        return self.index.layout

    def subject(self) -> Subject:
        machine = Machine(
            self.host,
            Output(quiet=True),
            manager=lambda _deployment, _host: self.manager,  # type: ignore[arg-type,return-value]
            probe=self.probe,
            answers=self.answers,
            names_at=lambda _url, _login: self.elsewhere or frozenset(),
        )
        return Subject(self.index, machine, NOW, ask_upstream=self.elsewhere is not None)

    def change(self, **values: Any) -> None:
        """Change settings, as an operator does who then forgets `ppctl up`."""
        given = {"mode": "system"} if self.index.is_system else {}
        self.index = Index(self.layout, settings_module.from_data({**given, **values}, "test"))


def healthy(*, system: bool = False, **values: Any) -> Example:
    """Return an index that is up and has nothing wrong with it."""
    home = Path("/srv/pypi") if system else USER_HOME / "pypi"
    given = {"mode": "system", **values} if system else values
    host = FakeHost(root=system, accounts={"pypi": "pypi"})
    index = Index(Layout(home), settings_module.from_data(given, "test"))
    example = Example(host, index)
    _machine(example)
    _deploy(example)
    return example


def _machine(example: Example) -> None:
    host, system = example.host, example.index.is_system
    host.make_directory(USER_HOME, mode=0o755)
    host.make_directory(example.layout.home, mode=0o750)
    host.file_systems = {Path("/"): FileSystem(100 * 2**30, 50 * 2**30, 1_000_000, 500_000)}
    if system:
        host.put("/etc/supervisor/supervisord.conf", SUPERVISORD_CONF)
        host.put("/usr/bin/supervisord")
        host.put("/usr/bin/python3")
        host.answer("/usr/bin/supervisord", by="4.2.5\n")
    python = pythons.choose(example.index.settings.server, host, is_system=system)
    host.answer(python, "-I", "-c", by="3.11.2\n")
    host.answer(sys.executable, "-m", "supervisor.supervisord", by="4.3.0\n")
    host.answer("env", "--chdir=/", by=find)
    for name in ("libpass-1.9.4", "bcrypt-5.0.0", "ruamel.yaml-0.18"):
        host.put(OWN_PACKAGES / f"{name}.dist-info" / "METADATA")


def find(run: Run) -> str:
    """Find everything open to the account, nothing that is not as it should be."""
    path = run.argv[run.argv.index("-H") + 1]
    return f"{path}\0" if "-maxdepth" in run.argv else ""


def _deploy(example: Example) -> None:
    """Put everything there as `ppctl up` leaves it."""
    host, layout = example.host, example.layout
    wanted = example.subject().desired
    example.release = wanted.release.id
    for directory in wanted.directories:
        host.make_directory(directory.path, mode=directory.mode, owner=directory.owner, group=directory.group)
    for file in wanted.files:
        if not host.stat(file.path.parent):
            host.make_directory(file.path.parent, mode=0o755)
        host.write(file.path, file.content, mode=file.mode, owner=file.owner, group=file.group)
    for link in wanted.links:
        if not host.stat(link.path.parent):
            host.make_directory(link.path.parent, mode=0o755)
        host.link(link.path, link.target)
    host.put(layout.settings, "port: 3141\n", mode=0o640)
    host.put(layout.htpasswd, f"# users\nci:{STRONG}\n", mode=0o640)
    host.set_attributes(
        layout.htpasswd, mode=0o640, owner=example.index.owner, group=example.index.group(host)
    )
    host.put(layout.names, serialise(["foo"]).decode())
    paths = frozenset(
        [file.path for file in wanted.files if not file.lock] + [link.path for link in wanted.links]
    )
    manifest = Manifest((wanted.deployment,), paths)
    host.write(layout.manifest, manifest.to_bytes(wanted.deployment.home), mode=0o640)
    _put_release(example, layout.releases / wanted.release.id)
    _start(example, wanted.deployment, wanted.generation, wanted.unit)


def _put_release(example: Example, path: Path) -> None:
    host = example.host
    host.link(example.layout.current, path.name)
    host.put(path / releases.MARKER, "{}")
    host.put("/opt/python/bin/python3.11", mode=0o755)
    host.make_directory(path / "bin", mode=0o755)
    host.link(path / "bin" / "python", "/opt/python/bin/python3.11")
    host.answer(str(path / "bin" / "python"), "-I", "-c", by="")
    for name in ("libpass-1.9.4", "bcrypt-5.0.0", "pypiserver-2.4.2"):
        host.put(path / "lib" / "python3.11" / "site-packages" / f"{name}.dist-info" / "METADATA")


def _start(example: Example, deployment: Deployment, generation: str, unit: str) -> None:
    example.manager.all = [Process(number, "running", 100 + number, NOW) for number in deployment.numbers]
    for number in deployment.numbers:
        socket = example.layout.worker_socket(number)
        example.probe.reports[socket] = Report(
            worker=str(number),
            pid=100 + number,
            process=200 + number,
            generation=generation,
            unit=unit,
            release=example.release,
            started=NOW,
        )


def under_systemd(*, system: bool) -> Example:
    """Return a healthy index under systemd."""
    example = healthy(system=system)
    example.host.make_directory(Path("/run/systemd/system"), mode=0o755)
    example.change(manager="systemd")
    example.host.remove_tree(example.layout.releases)
    _deploy(example)
    assert example.subject().manager is ManagerName.SYSTEMD
    return example
