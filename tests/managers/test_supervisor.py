"""The manager `supervisor` against a real supervisord; the workers are sleeping shell scripts."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from ppctl import desired, settings
from ppctl.deployment import Deployment
from ppctl.errors import PpctlError
from ppctl.facts import Facts
from ppctl.index import Index
from ppctl.layout import Layout
from ppctl.local_host import LocalHost
from ppctl.managers import CACHE, Pending
from ppctl.managers.supervisor import Supervisor
from ppctl.releases import Release
from ppctl.settings import ManagerName
from ppctl.workers import Report
from tests.conftest import is_alive, processes_of
from tests.server.patience import within

SLEEPER = "#!/bin/sh\necho started $PPCTL_WORKER; exec sleep 1000\n"
STUBBORN = "#!/bin/sh\ntrap '' TERM\necho started; while :; do sleep 0.1; done\n"
FORKING = "#!/bin/sh\nexec 3<&0\n(while :; do sleep 0.1; done) & echo started; wait\n"
FINISHING = (
    "#!/bin/sh\ntrap 'until [ -e finished ]; do sleep 0.05; done; exit' TERM\n"
    "echo started; while :; do sleep 0.05; done\n"
)
FAILING = "#!/bin/sh\necho 'these are the last words' >&2; exit 3\n"
LOAD = Pending("")

pytestmark = pytest.mark.e2e


class Site:
    """A home with the files that `ppctl up` would make, and a script instead of the server."""

    def __init__(self, home: Path, port: int) -> None:
        self.layout = Layout(home)
        for directory in (self.layout.run, self.layout.logs):
            directory.mkdir(parents=True)
        self.configure(SLEEPER, port=port)

    def configure(self, script: str, **values: object) -> Supervisor:
        found = settings.from_data(values, "test")
        facts = Facts(ManagerName.SUPERVISOR, None, Release("r", "p", "l"), Path("/nowhere"))
        wanted = desired.build(Index(self.layout, found), facts)
        self.write_script(script)
        for file in wanted.files:
            if file.path != self.layout.run_script:
                LocalHost().write(file.path, file.content, mode=file.mode)
        self.unit = wanted.unit
        self.deployment: Deployment = wanted.deployment
        self.manager = Supervisor(self.deployment, LocalHost())
        return self.manager

    def write_script(self, script: str) -> None:
        # As `ppctl up` does: what is just being started cannot be written to (ETXTBSY, execve(2)).
        LocalHost().write(self.layout.run_script, script.encode(), mode=0o755)

    def write_cache(self, script: str) -> None:
        LocalHost().write(self.layout.cache_script, script.encode(), mode=0o755)

    def states(self) -> list[tuple[int, str]]:
        return [(process.number, process.state) for process in self.manager.processes()]

    def pids(self) -> list[int]:
        return [process.pid for process in self.manager.processes()]

    def listens(self, port: int | None = None) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port or self.deployment.port)) == 0

    def reports(self, unit: str = "") -> dict[int, Report]:
        return {n: Report(str(n), 1, 1, "g", unit or self.unit, "r", 0.0) for n in self.deployment.numbers}


@pytest.fixture
def site(home: Path, free_port: int) -> Site:
    return Site(home, free_port)


def test_load_starts_supervisord_and_the_workers(site: Site) -> None:
    assert site.manager.processes() == []
    pending = site.manager.pending(site.unit, {}, files_change=False)
    assert pending and pending.restarts_workers and not pending.interrupts
    assert not site.manager.holds_socket()
    site.manager.load(pending)
    assert within(6, lambda: site.states() == [(1, "running"), (2, "running")])
    assert site.manager.holds_socket() and site.listens()
    assert site.manager.pending(site.unit, site.reports(), files_change=False) is None
    assert oct(site.layout.supervisor_socket.stat().st_mode & 0o777) == "0o700"
    assert within(6, lambda: site.manager.log(2, 10) == "started 2")
    site.manager.load(LOAD)  # again: nothing happens
    before = site.pids()
    assert site.pids() == before


def test_stop_and_start_one_worker_leaves_the_socket_open(site: Site) -> None:
    site.manager.load(LOAD)
    one, two = site.pids()
    site.manager.stop(1)
    assert not is_alive(one) and is_alive(two) and site.listens()
    assert site.states()[0] == (1, "stopped")
    site.manager.stop(1)  # nothing to do is fine
    site.manager.start(1)
    site.manager.start(1)
    assert [process.is_up for process in site.manager.processes()] == [True, True]
    assert site.pids()[0] not in (0, one) and site.pids()[1] == two


def test_a_worker_that_still_finishes_its_transfers_is_started_when_it_has(site: Site) -> None:
    """`ppctl restart` was killed while it waited for that: what comes next is not to be lost."""
    site.configure(FINISHING, port=site.deployment.port)
    site.manager.load(LOAD)
    assert within(6, lambda: all(site.manager.log(number, 1) == "started" for number in (1, 2)))
    before = site.pids()[0]
    site.manager.supervisord.rpc().stopProcess("pypi:worker-1", False)
    starter = threading.Thread(target=site.manager.start, args=(1,), daemon=True)
    starter.start()
    time.sleep(0.2)
    assert is_alive(before) and starter.is_alive()
    (site.layout.home / "finished").touch()
    assert within(6, lambda: not starter.is_alive())
    assert site.manager.processes()[0].is_up and site.pids()[0] != before


def test_a_frozen_worker_can_be_stopped(site: Site) -> None:
    manager = site.manager
    manager.load(LOAD)
    assert within(6, lambda: site.states() == [(1, "running"), (2, "running")])
    for number, stop in ((0, lambda: manager.stop(1)), (1, manager.stop_all)):
        os.killpg(site.pids()[number], signal.SIGSTOP)
        stopper = threading.Thread(target=stop, daemon=True)
        stopper.start()
        stopper.join(60)
        assert not stopper.is_alive(), "supervisord itself would wait for an hour"
    assert site.states() == [(1, "stopped"), (2, "stopped")]


def test_stop_all_closes_the_socket_and_start_all_opens_it(site: Site) -> None:
    site.manager.load(LOAD)
    site.manager.stop_all()
    assert site.states() == [(1, "stopped"), (2, "stopped")]
    assert not site.listens() and not site.manager.holds_socket()
    pending = site.manager.pending(site.unit, {}, files_change=False)
    assert pending and not pending.restarts_workers
    site.manager.start_all()
    assert all(process.is_up for process in site.manager.processes())
    assert site.listens()


def test_a_changed_address_replaces_the_group(site: Site, unused_port: int) -> None:
    site.manager.load(LOAD)
    old, before = site.deployment.port, site.reports()
    site.configure(SLEEPER, port=unused_port)
    pending = site.manager.pending(site.unit, before, files_change=True)
    assert pending and pending.restarts_workers and "connections are refused" in pending.interrupts
    site.manager.load(pending)
    assert site.listens() and not site.listens(old)
    assert site.manager.pending(site.unit, site.reports(), files_change=False) is None


def test_the_number_of_workers(site: Site) -> None:
    site.manager.load(LOAD)
    site.configure(SLEEPER, port=site.deployment.port, workers=3)
    site.manager.load(LOAD)
    assert [number for number, _ in site.states()] == [1, 2, 3]
    site.configure(SLEEPER, port=site.deployment.port, workers=2)
    site.manager.load(LOAD)
    assert [number for number, _ in site.states()] == [1, 2]
    # A process is for a moment still a copy of supervisord, between fork and exec.
    assert within(
        6, lambda: len([pid for pid in processes_of(site.layout.home) if "sleep" in command(pid)]) == 2
    )


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def test_a_change_of_supervisords_own_configuration_restarts_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site.manager.load(LOAD)
    pid = int((site.layout.run / "supervisord.pid").read_text())
    conf = site.layout.supervisord_conf
    conf.write_text(conf.read_text().replace("identifier=ppctl-", "identifier=ppctl-new-"))
    pending = site.manager.pending(site.unit, site.reports(), files_change=True)
    assert pending and pending.restarts_workers and "supervisord itself restarts" in pending.interrupts
    site.manager.load(pending)
    assert not is_alive(pid)
    assert site.listens()


def test_unload_leaves_nothing(site: Site) -> None:
    site.manager.load(LOAD)
    site.manager.unload()
    assert processes_of(site.layout.home) == []
    assert not site.listens()
    site.manager.unload()  # nothing to do is fine
    site.manager.forget()
    site.manager.load(LOAD)
    assert site.listens()


def test_a_worker_that_ends_at_once_is_failed(site: Site) -> None:
    site.configure(FAILING, port=site.deployment.port)
    site.manager.load(LOAD)
    assert within(6, lambda: "failed" in dict(site.states()).values())
    assert within(6, lambda: "these are the last words" in site.manager.log(1, 5))
    # Once the cause is mended a start is a start, although supervisord would wait before its next try.
    site.write_script(SLEEPER)
    assert within(6, lambda: "starting" not in dict(site.states()).values())  # none has the old script
    site.manager.load(LOAD)
    assert [process.is_up for process in site.manager.processes()] == [True, True]


def test_a_script_that_cannot_be_run_is_told(site: Site) -> None:
    site.layout.run_script.chmod(0o644)
    with pytest.raises(PpctlError, match="supervisord refuses: NOT_EXECUTABLE"):
        site.manager.load(LOAD)
        site.manager.start(1)


def test_a_port_taken_by_somebody_else(site: Site, unused_port: int) -> None:
    """Normally found before; whoever comes in between leads to a message, not to a riddle."""
    with socket.create_server(("127.0.0.1", site.deployment.port)):
        with pytest.raises(
            PpctlError, match=r"supervisord does not start: .*Address already in use"
        ) as caught:
            site.manager.load(LOAD)
        assert "\n" not in caught.value.message
    site.manager.load(LOAD)
    assert site.listens()
    site.configure(SLEEPER, port=unused_port)
    with socket.create_server(("127.0.0.1", unused_port)), pytest.raises(PpctlError, match="supervisord "):
        site.manager.load(LOAD)
    site.manager.load(LOAD)
    assert site.listens(unused_port)


def test_up_while_supervisord_is_still_going_down(site: Site) -> None:
    """`ppctl down` was killed while a worker finished its transfers: wait for that, then start anew."""
    site.configure(STUBBORN, port=site.deployment.port)
    site.manager.load(LOAD)
    assert within(6, lambda: all(site.manager.log(number, 1) == "started" for number in (1, 2)))
    old, workers = int((site.layout.run / "supervisord.pid").read_text()), site.pids()
    site.manager.supervisord.rpc().shutdown()
    time.sleep(0.3)
    assert is_alive(old)
    assert not site.manager.supervisord.is_up()
    assert site.manager.processes() == []  # asked for by `ppctl status` and `ppctl stop` at this moment
    assert site.manager.holds_socket()  # or `ppctl up` would say that the port is taken, by the index itself

    def let_go() -> None:
        for pid in workers:
            os.killpg(pid, signal.SIGKILL)  # what they have forked holds the port, too

    timer = threading.Timer(1.0, let_go)
    timer.start()
    site.write_script(SLEEPER)
    pending = site.manager.pending(site.unit, {}, files_change=False)
    assert pending
    site.manager.load(pending)
    timer.join()
    assert not is_alive(old)
    assert within(6, lambda: site.states() == [(1, "running"), (2, "running")])


def test_killed_between_removing_and_adding_the_group(site: Site) -> None:
    site.manager.load(LOAD)
    rpc = site.manager.supervisord.rpc()
    site.manager.stop_all()
    pending = site.manager.pending(site.unit, {}, files_change=False)
    assert pending
    rpc.removeProcessGroup("pypi")
    pending = site.manager.pending(site.unit, {}, files_change=False)
    assert pending and pending.restarts_workers
    site.manager.load(pending)
    assert site.listens()


def test_a_killed_supervisord_is_started_again(site: Site) -> None:
    site.manager.load(LOAD)
    pid = int((site.layout.run / "supervisord.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    assert within(6, lambda: not is_alive(pid))
    pending = site.manager.pending(site.unit, site.reports(), files_change=False)
    assert pending and "outlived their supervisord" in pending.interrupts
    assert site.manager.processes() == []
    assert not site.manager.holds_socket()


def test_all_workers_are_killed_while_what_they_have_forked_holds_the_socket(site: Site) -> None:
    """A stock supervisord ends here, and nobody is left to start anything."""
    site.configure(FORKING, port=site.deployment.port)
    site.manager.load(LOAD)
    assert within(6, lambda: all(site.manager.log(number, 1) == "started" for number in (1, 2)))
    before = site.pids()
    own = int((site.layout.run / "supervisord.pid").read_text())
    os.kill(own, signal.SIGSTOP)  # it is to learn of both at once
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert within(6, lambda: not any(is_alive(pid) for pid in before))
    os.kill(own, signal.SIGCONT)
    assert within(6, lambda: "Address already in use" in log_of_supervisord(site))
    assert site.manager.supervisord.is_up()
    for pid in set(processes_of(site.layout.home)) - {own}:
        with contextlib.suppress(ProcessLookupError):  # some live for a tenth of a second only
            os.kill(pid, signal.SIGKILL)
    assert within(6, lambda: site.states() == [(1, "running"), (2, "running")])
    assert not set(before) & set(site.pids())
    assert site.listens()


def log_of_supervisord(site: Site) -> str:
    return (site.layout.logs / "supervisord.log").read_text()


def test_configuration_that_supervisord_cannot_read(site: Site) -> None:
    site.manager.load(LOAD)
    site.layout.supervisor_program.write_text("[fcgi-program:pypi]\nsocket=nonsense\ncommand=x\n")
    with pytest.raises(PpctlError, match="supervisord cannot read its configuration"):
        site.manager.load(LOAD)
    assert site.listens()


# --- the cache program

CACHED: dict[str, object] = {"upstream": "cache", "upstream_url": "http://127.0.0.1:9/simple/"}
CACHE_SLEEPER = "#!/bin/sh\necho fetching; exec sleep 1000\n"


@pytest.fixture
def cached(site: Site) -> Site:
    """A site with a cache program, which is a script as well; its workers run."""
    site.configure(SLEEPER, port=site.deployment.port, **CACHED)
    site.write_cache(CACHE_SLEEPER)
    site.manager.load(LOAD)
    return site


def cache_pid(site: Site) -> int:
    found = site.manager.cache()
    return found.pid if found else 0


def test_the_cache_program_is_started_beside_the_workers(cached: Site) -> None:
    before = cached.pids()
    cached.manager.load_cache()
    assert within(6, lambda: (found := cached.manager.cache()) is not None and found.state == "running")
    assert within(6, lambda: cached.manager.log(CACHE, 1) == "fetching")
    assert cached.pids() == before and [number for number, _ in cached.states()] == [1, 2]
    # Again: it restarts, as `ppctl restart` wants it; the workers do not.
    old = cache_pid(cached)
    cached.manager.load_cache()
    assert not is_alive(old)
    assert within(6, lambda: cache_pid(cached) not in (0, old))
    assert cached.pids() == before


def test_the_cache_program_is_stopped_and_forgotten(cached: Site) -> None:
    cached.manager.load_cache()
    before, pid = cached.pids(), cache_pid(cached)
    cached.manager.unload_cache()
    assert not is_alive(pid)
    assert cached.manager.cache() is None
    cached.manager.unload_cache()  # nothing to do is fine
    assert cached.pids() == before
    cached.manager.load_cache()
    assert cache_pid(cached)
    cached.manager.unload()
    assert processes_of(cached.layout.home) == []


def test_the_cache_program_stops_and_starts_with_all(cached: Site) -> None:
    cached.manager.load_cache()
    pid = cache_pid(cached)
    cached.manager.stop_all()
    found = cached.manager.cache()
    assert found and found.state == "stopped" and not is_alive(pid)
    cached.manager.start_all()
    assert within(6, lambda: (found := cached.manager.cache()) is not None and found.state == "running")


def test_a_cache_program_that_finishes_its_transfers_is_waited_for(cached: Site) -> None:
    cached.write_cache(
        "#!/bin/sh\ntrap 'trap : TERM; sleep 1; exit' TERM\necho fetching; while :; do sleep 0.1; done\n"
    )
    cached.manager.load_cache()
    assert within(6, lambda: cached.manager.log(CACHE, 1) == "fetching")
    pid = cache_pid(cached)
    cached.manager.stop_all()
    assert not is_alive(pid)


def test_a_changed_configuration_of_the_cache_program_takes_effect(cached: Site) -> None:
    cached.manager.load_cache()
    before, old = cached.pids(), cache_pid(cached)
    conf = cached.layout.supervisor_cache
    conf.write_text(conf.read_text().replace("stopwaitsecs=45", "stopwaitsecs=44"))
    cached.manager.load_cache()
    assert not is_alive(old) and cache_pid(cached) not in (0, old)
    assert cached.pids() == before


def test_a_cache_program_that_ends_at_once_is_failed(cached: Site) -> None:
    cached.write_cache(FAILING)
    cached.manager.load_cache()
    assert within(6, lambda: (found := cached.manager.cache()) is not None and found.state == "failed")
    assert within(6, lambda: "these are the last words" in cached.manager.log(CACHE, 5))
    cached.write_cache(CACHE_SLEEPER)
    cached.manager.load_cache()
    assert within(6, lambda: (found := cached.manager.cache()) is not None and found.state == "running")


def test_a_killed_cache_program_comes_back(cached: Site) -> None:
    cached.manager.load_cache()
    old = cache_pid(cached)
    os.kill(old, signal.SIGKILL)
    assert within(6, lambda: cache_pid(cached) not in (0, old))


def test_follow_shows_all_workers(site: Site) -> None:
    site.manager.load(LOAD)
    with site.manager.follow([1, 2], 5) as lines:
        assert {next(lines), next(lines)} == {"worker 1: started 1", "worker 2: started 2"}
