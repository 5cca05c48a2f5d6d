"""The manager `supervisor` without a supervisord: answers that are none, and the machine's configuration."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import xmlrpc.client
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from ppctl import rendering, settings
from ppctl.deployment import Deployment
from ppctl.errors import PpctlError
from ppctl.local_host import LocalHost
from ppctl.managers import Pending, handmade, stopping, supervisor_machine, supervisor_rpc, supervisord
from ppctl.managers.supervisor import Supervisor
from ppctl.settings import ManagerName
from tests.fake_host import FakeHost


@pytest.fixture
def manager(home: Path) -> Supervisor:
    (home / "run").mkdir(parents=True)
    (home / "logs").mkdir()
    deployment = Deployment(
        "pypi", ManagerName.SUPERVISOR, settings.Mode.EMBEDDED, home, "127.0.0.1", 3141, 2
    )
    return Supervisor(deployment, LocalHost())


class Answering:
    """Something else on the socket: it takes a connection and says what it likes."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self.answer = answer
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(8)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                asked = b""
                while not self.is_whole(asked) and (more := connection.recv(4096)):
                    asked += more
                connection.sendall(self.answer)

    def is_whole(self, asked: bytes) -> bool:
        return b"</methodCall>" in asked or (asked.startswith(b"GET ") and b"\r\n\r\n" in asked)

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@pytest.fixture
def answer_with(manager: Supervisor) -> Iterator[Callable[[bytes], None]]:
    made: list[Answering] = []
    yield lambda answer: made.append(Answering(manager.supervisord.socket, answer))
    for each in made:
        each.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%s"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
        OK % (5, b"<xml>"),
        OK % (500, b"<?xml version='1.0'?>"),
    ],
    ids=["nothing", "no HTTP", "500", "no XML", "cut off"],
)
def test_an_answer_that_is_none_is_no_bug(
    manager: Supervisor, answer_with: Callable[[bytes], None], answer: bytes
) -> None:
    answer_with(answer)
    with pytest.raises(PpctlError, match=r"supervisord (does not answer|answers 500)"):
        manager.supervisord.rpc().getPID()


def test_where_supervisord_does_not_run_it_is_said_who_starts_it(manager: Supervisor) -> None:
    of_the_machine = replace(manager.deployment, mode=settings.Mode.SYSTEM)
    host = FakeHost()
    socket = manager.layout.home / "nobody.sock"
    host.put("/etc/supervisor/supervisord.conf", f"[unix_http_server]\nfile={socket}\n")
    for each, hint in (
        (manager, f"ppctl up -C {manager.layout.home}"),
        (Supervisor(of_the_machine, host), "start it: systemctl start supervisor"),
    ):
        with pytest.raises(supervisor_rpc.Silent) as raised:
            each.supervisord.rpc().getPID()
        assert raised.value.hint == hint


def test_faults(manager: Supervisor, answer_with: Callable[[bytes], None]) -> None:
    body = xmlrpc.client.dumps(xmlrpc.client.Fault(6, "SHUTDOWN_STATE")).encode()
    answer_with(OK % (len(body), body))
    assert manager.processes() == []
    assert manager.holds_socket()  # or `ppctl up` would say that the port is taken, by the index itself
    with pytest.raises(PpctlError, match="supervisord is shutting down"):
        manager.start(1)


def test_log_of_a_worker_that_has_none(manager: Supervisor) -> None:
    assert manager.log(1, 10) == ""
    manager.layout.worker_log(1).write_bytes(b"a\nb\xff\nc\n")
    assert manager.log(1, 2) == "b\ufffd\nc"
    assert manager.log(1, 0) == ""


@pytest.mark.parametrize(
    ("path", "include", "found"),
    [
        (
            "/etc/supervisor/supervisord.conf",
            "/etc/supervisor/conf.d/*.conf",
            "/etc/supervisor/conf.d/x.conf",
        ),
        ("/etc/supervisord.conf", "supervisord.d/*.ini", "/etc/supervisord.d/x.ini"),
        ("/etc/supervisord.conf", "/a/one.conf /b/*.conf ; comment", "/b/x.conf"),
    ],
)
def test_where_the_machines_supervisord_includes_from(path: str, include: str, found: str) -> None:
    host = FakeHost()
    assert not supervisor_machine.is_installed(host)
    with pytest.raises(PpctlError, match="not installed"):
        supervisor_machine.include_file(host, "x")
    host.put(path, f"[supervisord]\n[include]\nfiles = {include}\n")
    assert supervisor_machine.is_installed(host)
    assert supervisor_machine.include_file(host, "x") == Path(found)


@pytest.mark.parametrize("text", ["[supervisord]\n", "[include]\nfiles = /a/one.conf\n"])
def test_a_supervisord_that_includes_nothing(text: str) -> None:
    host = FakeHost()
    host.put("/etc/supervisord.conf", text)
    with pytest.raises(PpctlError, match="supervisord includes no directory"):
        supervisor_machine.include_file(host, "x")


def test_a_broken_configuration_of_the_machines_supervisord() -> None:
    host = FakeHost()
    host.put("/etc/supervisord.conf", "not an ini file\n")
    with pytest.raises(PpctlError, match=r"/etc/supervisord.conf: .*no section headers") as caught:
        supervisor_machine.include_file(host, "x")
    assert "mend it first" in caught.value.hint


def test_the_machines_socket() -> None:
    host = FakeHost()
    deployment = Deployment(
        "x", ManagerName.SUPERVISOR, settings.Mode.SYSTEM, Path("/srv/x"), "127.0.0.1", 3141, 2
    )
    assert Supervisor(deployment, host).supervisord.socket == Path("/var/run/supervisor.sock")
    host.put("/etc/supervisord.conf", "[unix_http_server]\nfile=/run/s.sock ; here\n")
    assert Supervisor(deployment, host).supervisord.socket == Path("/run/s.sock")
    embedded = replace(deployment, mode=settings.Mode.EMBEDDED)
    assert Supervisor(embedded, host).supervisord.socket == Path("/srv/x/run/supervisor.sock")


def test_the_templates_are_all_there() -> None:
    names = {str(path.relative_to(rendering.TEMPLATES)) for path in rendering.TEMPLATES.rglob("*.j2")}
    assert {"run-pypi.sh.j2", "supervisor/pypi-server.conf.j2", "supervisor/supervisord.conf.j2"} <= names


@pytest.mark.parametrize(("code", "passed_over"), [(50, True), (60, True), (10, False)])
def test_a_worker_that_has_ended_already_is_no_refusal(
    manager: Supervisor, monkeypatch: pytest.MonkeyPatch, code: int, passed_over: bool
) -> None:
    """`up` brings the old worker back only after a WorkerFailed, which who waits for the worker raises."""

    class Refusing:
        def startProcess(self, name: str, wait: bool) -> None:
            raise xmlrpc.client.Fault(code, name)

    monkeypatch.setattr(manager, "processes", list)
    monkeypatch.setattr(manager.supervisord, "rpc", Refusing)
    with contextlib.nullcontext() if passed_over else pytest.raises(PpctlError, match="refuses"):
        manager.start(1)


def test_nothing_is_asked_that_supervisord_has_to_wait_for(
    manager: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is waited for some seconds only; who finishes transfers may take longer to stop."""
    waits: list[bool] = []

    class Asked:
        def getState(self) -> dict[str, str]:
            return {"statename": "RUNNING"}

        def getAllProcessInfo(self) -> list[object]:
            return []

        def stopProcess(self, name: str, wait: bool) -> None:
            waits.append(wait)

        def removeProcessGroup(self, name: str) -> None:
            pass

        stopProcessGroup = startProcess = stopProcess

    manager.deployment = replace(manager.deployment, cache=True)
    monkeypatch.setattr(manager.supervisord, "rpc", Asked)
    for ask in (partial(manager.stop, 1), partial(manager.start, 1), manager.stop_all, manager.start_all):
        ask()
    manager.unload_cache()
    assert waits == [False] * 6


@pytest.mark.parametrize(("age", "asked_again"), [(0.0, 6), (5.0, 0)])
def test_a_young_process_that_does_not_hear_is_asked_until_it_does(
    manager: Supervisor, monkeypatch: pytest.MonkeyPatch, age: float, asked_again: int
) -> None:
    """Between fork and exec a TERM is lost, and on a busy machine that takes a while."""
    now, asked = 1000.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    class Deaf:
        def getState(self) -> dict[str, str]:
            return {"statename": "RUNNING"}

        def getAllProcessInfo(self) -> list[dict[str, object]]:
            state = "STOPPED" if now > 1003.3 else "STOPPING"
            return [
                {"group": "pypi", "name": "worker-1", "statename": state, "pid": 0, "start": 1000.0 - age}
                | {"spawnerr": ""}
            ]

        def stopProcess(self, name: str, wait: bool) -> None:
            pass

        def signalProcess(self, name: str, signal: str) -> None:
            asked.append((name, signal))

    clock = SimpleNamespace(time=lambda: now, monotonic=lambda: now, sleep=sleep)
    monkeypatch.setattr(stopping, "time", clock)
    monkeypatch.setattr(manager.supervisord, "rpc", Deaf)
    manager.stop(1)
    assert asked == [("pypi:worker-1", "TERM")] * asked_again


def test_a_supervisord_that_stands_still_is_not_waited_for(
    manager: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_rpc, "TIMEOUT", 0.05)
    with socket.socket(socket.AF_UNIX) as still:
        still.bind(str(manager.supervisord.socket))
        still.listen(8)  # the kernel takes the connection, and nobody answers
        with pytest.raises(supervisor_rpc.Silent, match="supervisord does not answer: timed out"):
            manager.supervisord.rpc().getPID()
        # To `ppctl stop` no answer is not the answer that nothing runs.
        for ask in (manager.processes, manager.cache, manager.stop_all, manager.unload_cache):
            with pytest.raises(supervisor_rpc.Silent):
                ask()


class Told:
    """A supervisord that answers what it is told to, one thing after the other; None: nothing, this once."""

    def __init__(self, *states: str | None) -> None:
        self.states = list(states)
        self.asked: list[str] = []

    def getState(self) -> dict[str, str]:
        return {"statename": "RUNNING"}

    def getAllProcessInfo(self) -> list[dict[str, object]]:
        state = self.states.pop(0)
        if state is None:
            raise supervisor_rpc.Silent("supervisord does not answer: timed out")
        info = {"group": "pypi", "name": "worker-1", "statename": state, "pid": 0, "start": 0.0}
        return [{**info, "spawnerr": ""}]

    def stopProcess(self, name: str, wait: bool) -> None:
        self.asked.append(f"stop {name}")
        assert not wait

    stopProcessGroup = stopProcess

    def startProcess(self, name: str, wait: bool) -> None:
        self.asked.append(f"start {name} with {len(self.states)} to come")


def test_a_worker_stops_although_supervisord_is_silent_for_a_while(
    manager: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who took no answer for an end would start it while it stops, which supervisord passes over."""
    told = Told("STOPPING", None, "STOPPING", "STOPPED")
    monkeypatch.setattr(manager.supervisord, "rpc", lambda: told)
    manager.stop(1)
    assert (told.states, told.asked) == ([], ["stop pypi:worker-1"])


def test_a_worker_that_died_a_moment_before_it_is_stopped_does_not_come_back(
    manager: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """supervisord does not stop what has exited, and starts it again in its next round."""
    told = Told("EXITED", "STARTING", "STOPPING", "STOPPED")
    monkeypatch.setattr(manager.supervisord, "rpc", lambda: told)
    manager.stop_all()
    assert told.states == []
    assert told.asked == ["stop pypi"] * 3


@pytest.mark.parametrize("first", ["STOPPING", "BACKOFF"], ids=["stops", "is tried again just now"])
def test_a_worker_that_still_stops_is_started_when_it_has(
    manager: Supervisor, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    told = Told(first, "STOPPING", None, "STOPPED", "STOPPED")
    monkeypatch.setattr(manager.supervisord, "rpc", lambda: told)
    manager.start(1)
    assert told.asked[-1] == "start pypi:worker-1 with 1 to come"


def test_somebody_else_lets_supervisord_take_over_its_configuration_at_the_same_time(
    manager: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`supervisorctl update` comes between our question for what is new and our taking it over."""

    class Updated(Told):
        def reloadConfig(self) -> list[list[list[str]]]:
            return [[["pypi", "pypi_cache"], [], []]]

        def addProcessGroup(self, name: str) -> None:
            raise xmlrpc.client.Fault(90, f"ALREADY_ADDED: {name}")

    manager.deployment = replace(manager.deployment, mode=settings.Mode.SYSTEM, cache=True)
    told = Updated(*["RUNNING"] * 3)
    monkeypatch.setattr(manager.supervisord, "rpc", lambda: told)
    manager.load(Pending(""))
    manager.load_cache()
    assert told.asked == ["stop pypi_cache:pypi_cache", "start pypi_cache:pypi_cache with 1 to come"]


def test_the_machines_supervisord_may_take_its_time_to_start(
    manager: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The playbook has just installed it, on a busy machine."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    manager.deployment = replace(manager.deployment, mode=settings.Mode.SYSTEM)
    monkeypatch.setattr(supervisord, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    monkeypatch.setattr(manager.supervisord, "is_up", lambda: now > 8)
    monkeypatch.setattr(manager.supervisord, "rpc", lambda: Told(*["RUNNING"] * 3))
    assert manager.pending("", {}, files_change=False) is None


def test_a_server_made_by_hand_may_take_longer_to_end_than_supervisord_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It finishes its transfers, or is killed after ten seconds; none is left behind as if it had ended."""
    told = Told("RUNNING", "STOPPING", None, "STOPPING", "EXITED")
    monkeypatch.setattr(handmade, "Rpc", lambda *_: told)
    handmade.Program("pypi", Path("/etc/supervisor/conf.d/pypi.conf"), FakeHost()).end()
    assert (told.states, told.asked) == ([], ["stop pypi"])


@pytest.mark.parametrize("named", [-1, 0, 1])
def test_only_what_belongs_to_who_made_the_socket_is_ended(
    manager: Supervisor, monkeypatch: pytest.MonkeyPatch, named: int
) -> None:
    """A worker that was taken over may name any process, and -1 is all of them, where root asks it."""
    ended: list[int] = []
    monkeypatch.setattr(supervisord.os, "kill", lambda pid, _: ended.append(pid))
    monkeypatch.setattr(supervisord, "_has_ended", lambda _: True)
    report = {"worker": "1", "pid": named, "process": os.getpid(), "started": 0.0}
    report |= dict.fromkeys(("generation", "unit", "release"), "")
    body = json.dumps(report).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    path = manager.layout.worker_socket(1)
    worker = Answering(path, head + body)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
        manager.supervisord.end_orphans()
        assert ended == []
        os.chown(path, 0, 0)
    manager.supervisord.end_orphans()
    worker.close()
    assert os.getpid() in ended and not {-1, 0} & set(ended)
