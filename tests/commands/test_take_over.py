"""`ppctl take-over`: a server made by hand becomes an index, in memory; on a host: molecule's scenario."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ppctl.commands import take_over as commands
from ppctl.errors import PpctlError, UsageError
from ppctl.managers import handmade
from tests.effort import every
from tests.engine import HOME, configure, outcome
from tests.fake_host import FakeHost, Killed
from tests.fakes import World
from tests.turns import behind_another

pytestmark = pytest.mark.usefixtures("impatient")

PACKAGES = Path("/home/deploy/packages")
HTPASSWD = Path("/home/deploy/htpasswd")
CONFIGURATION = Path("/etc/supervisor/conf.d/pypi-server.conf")
ADDRESS = ("127.0.0.1", 3141)


@dataclass
class FakeProgram:
    """The old server: it has the port while it runs, and stores one more package before it ends."""

    world: World
    name: str = "pypi"
    configuration: Path = CONFIGURATION
    label: str = "supervisor: pypi"
    ended: list[str] = field(default_factory=list)

    def listens(self, port: int) -> bool:
        return ("127.0.0.1", port) in self.world.listeners

    def end(self) -> None:
        self.world.host.step("program.end")
        if self.world.listeners.pop(ADDRESS, None):
            self.world.host.put(PACKAGES / "last-1.0.tar.gz", b"last")

    def set_aside(self) -> None:
        self.world.host.step("program.set_aside")
        self.world.host.remove(CONFIGURATION)

    def bring_back(self) -> None:
        self.world.host.put(CONFIGURATION, "[program:pypi]\n")
        self.world.listeners[ADDRESS] = "pypi-server"


def by_hand() -> World:
    """Return a world with a server that was made by hand, and settings for the index."""
    world = configure(
        World(host=FakeHost(root=True, accounts={"pypi": "pypi"})), mode="system", host="127.0.0.1", port=3141
    )
    host = world.host
    host.put(PACKAGES / "one-1.0.tar.gz", b"one", owner="operator")
    host.put(PACKAGES / "team" / "two-2.0-py3-none-any.whl", b"two", owner="operator")
    host.put(HTPASSWD, "ann:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=\nbob:$apr1$x$y\n")
    host.put(CONFIGURATION, "[program:pypi]\ncommand=/home/deploy/run-pypi.sh\n")
    world.listeners[ADDRESS] = "pypi-server"
    return world


def take_over(world: World, *, dry_run: bool = False) -> int:
    there = world.host.stat(CONFIGURATION) is not None
    old = commands.Old("pypi", FakeProgram(world) if there else None, PACKAGES, HTPASSWD)
    return commands.take_over(
        HOME, world.machine(), old, given=None, dry_run=dry_run, exit_code=True, wait=True
    )


def test_packages_users_and_the_port_are_taken_over() -> None:
    world = by_hand()
    assert take_over(world) == 0
    host = world.host
    assert host.read(HOME / "packages/one-1.0.tar.gz") == b"one"
    assert host.read(HOME / "packages/team/two-2.0-py3-none-any.whl") == b"two"
    assert host.read(HOME / "packages/last-1.0.tar.gz") == b"last", "stored after the first copy"
    assert host.read(HOME / "htpasswd") == host.read(HTPASSWD)
    assert host.stat(CONFIGURATION) is None
    assert world.answers(*ADDRESS, "/health") == "" and world.faults == []
    assert host.read(PACKAGES / "one-1.0.tar.gz") == b"one", "the old files stay"
    found = host.stat(HOME / "packages/one-1.0.tar.gz")
    original = host.stat(PACKAGES / "one-1.0.tar.gz")
    assert found and original and (found.owner, found.mtime) == ("pypi", original.mtime)


def test_json_tells_the_whole_of_it() -> None:
    world = by_hand()
    machine = world.machine(json=True)
    old = commands.Old("pypi", FakeProgram(world), PACKAGES, HTPASSWD)
    commands.take_over(HOME, machine, old, given=None, dry_run=False, exit_code=False, wait=True)
    result = json.loads(world.stdout.getvalue())["result"]
    assert set(result) == {"changed", "changes", "verified", "home", "url", "simple_url"}
    actions = [change["action"] for change in result["changes"]]
    assert actions.index("build") < actions.index("copy") < actions.index("leave") < actions.index("start")


def test_a_dry_run_shows_it_and_changes_nothing() -> None:
    world = by_hand()
    before = world.host.snapshot()
    assert take_over(world, dry_run=True) == 2
    assert world.host.snapshot() == before
    shown = world.stdout.getvalue()
    assert f"copy     {HOME}/packages  (2 files of {PACKAGES})" in shown
    assert f"copy     {HOME}/htpasswd  (2 users of {HTPASSWD})" in shown
    assert "leave    supervisor: pypi" in shown and "-command=/home/deploy/run-pypi.sh" in shown
    assert "{SHA}" not in shown and "{SHA}" not in world.stderr.getvalue()
    order = [shown.index(f"\n{word} ") for word in ("build", "leave", "start")]
    assert order == sorted(order), "what takes time comes before the old server ends"


def test_a_second_run_changes_nothing_and_brings_nothing_back() -> None:
    world = by_hand()
    take_over(world)
    world.host.remove(HOME / "packages/one-1.0.tar.gz")
    before = world.host.snapshot()
    assert take_over(world) == 0
    assert "nothing to change" in world.stdout.getvalue()
    assert world.host.snapshot() == before


@pytest.mark.parametrize("midway", [False, True])
def test_killed_at_every_step_the_next_run_finishes(midway: bool) -> None:
    fresh = by_hand()
    undisturbed = fresh.copy()
    take_over(undisturbed)
    for step in range(1, 400, every(7)):
        world = fresh.copy()
        world.host.kill_at(step, midway=midway)
        try:
            take_over(world)
        except Killed:
            world.host.before = None
            take_over(world)
            assert outcome(world) == outcome(undisturbed), step
            continue
        assert step > 20
        return
    raise AssertionError("it never ends")


def test_two_at_once_take_over_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one has planned it all, too; when its turn comes, the index has the program's name."""
    world = by_hand()

    def other() -> None:
        take_over(world)
        world.host.put(HOME / "htpasswd", "carl:added meanwhile\n")

    behind_another(monkeypatch, FakeHost, other)
    assert take_over(world) == 0
    assert [name for name, _ in world.host.operations].count("program.end") == 1
    assert world.host.read(HOME / "htpasswd") == b"carl:added meanwhile\n"


def test_where_the_index_does_not_start_the_old_server_runs_again() -> None:
    world = by_hand()
    world.poison = HOME.name
    with pytest.raises(PpctlError, match="the old server was started again"):
        take_over(world)
    assert world.listeners == {ADDRESS: "pypi-server"} and world.workers() == {}
    assert world.host.stat(CONFIGURATION)
    world.poison = ""
    assert take_over(world) == 0
    assert world.answers(*ADDRESS, "/health") == ""


@pytest.mark.parametrize("comes_back", [True, False])
def test_where_the_last_packages_cannot_be_copied_the_old_server_runs_again(
    comes_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, or supervisord does not answer any more: the old one has ended by then."""
    world = by_hand()

    def full(operation: str, arguments: tuple[Any, ...]) -> None:
        if operation == "copy_file" and not world.listeners:
            raise PpctlError("no space left")

    def silent(program: FakeProgram) -> None:
        raise PpctlError("supervisord does not answer")

    if not comes_back:
        monkeypatch.setattr(FakeProgram, "bring_back", silent)
    world.host.before = full
    with pytest.raises(PpctlError) as raised:
        take_over(world)
    assert raised.value.message.splitlines() == [
        "no space left",
        "the old server was started again"
        if comes_back
        else "and the old server could not be started again: supervisord does not answer",
    ]
    assert bool(world.listeners) == comes_back and world.host.stat(CONFIGURATION)


def test_a_release_that_cannot_be_built_leaves_the_old_server_running() -> None:
    world = by_hand()
    world.uv_fails = "no such version"
    with pytest.raises(PpctlError, match="no such version"):
        take_over(world)
    assert world.listeners == {ADDRESS: "pypi-server"} and world.host.stat(CONFIGURATION)


def refused(change: str, error: type[PpctlError], match: str) -> None:
    world = by_hand()
    if change == "no program":
        world.host.remove(CONFIGURATION)
    elif change == "embedded":
        configure(world, mode="embedded")
    elif change == "link":
        world.host.link(PACKAGES / "latest.whl", "team/two-2.0-py3-none-any.whl")
    elif change == "no packages":
        world.host.remove_tree(PACKAGES)
    elif change == "no users":
        world.host.remove(HTPASSWD)
    elif change == "users of its own":
        world.host.put(HOME / "htpasswd", "ann:!\neve:!\n")
    before = copy.deepcopy(world.host.snapshot())
    with pytest.raises(error, match=match):
        take_over(world)
    assert world.host.snapshot() == before and world.listeners


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ("no program", PpctlError, r"no \[program:pypi\]"),
        ("embedded", UsageError, "embedded mode cannot take over"),
        ("link", PpctlError, "this is a link"),
        ("no packages", PpctlError, "no such directory of packages"),
        ("no users", PpctlError, "no such file"),
        (
            "users of its own",
            PpctlError,
            "has users already, and bob of /home/deploy/htpasswd would be",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_changed(
    change: str, error: type[PpctlError], match: str
) -> None:
    refused(change, error, match)


def test_a_program_is_found_in_its_file() -> None:
    host = by_hand().host
    found = handmade.find(host, "pypi")
    assert found and found.configuration == CONFIGURATION
    assert handmade.find(host, "other") is None


UNIT = Path("/etc/systemd/system/pypi.service")


@pytest.mark.parametrize("install", ["[Install]\nWantedBy=multi-user.target\n", ""])
def test_a_unit_is_set_aside_and_brought_back(install: str) -> None:
    host = FakeHost(root=True)
    host.answer("systemctl")
    host.put(UNIT, f"[Service]\nExecStart=/x\n{install}")
    before = host.read(UNIT)
    found = handmade.find(host, "pypi.service")
    assert found and (found.label, found.configuration) == ("systemd: pypi.service", UNIT)
    found.end()
    found.set_aside()
    assert host.stat(UNIT) is None and host.read(UNIT.with_name("pypi.service.taken-over")) == before
    assert handmade.find(host, "pypi.service") is None
    found.bring_back()
    assert host.read(UNIT) == before and host.stat(UNIT.with_name("pypi.service.taken-over")) is None
    words = [run.argv[1] for run in host.runs]
    back = ["daemon-reload", *(["enable"] if install else []), "start"]
    assert words == ["stop", "kill", "disable", "daemon-reload", *back]


def test_a_unit_that_is_a_link_is_a_link_again() -> None:
    host = FakeHost(root=True)
    host.put(Path("/home/deploy/pypi.service"), "[Service]\n")
    host.put(UNIT.with_name("other.service"))
    host.link(UNIT, "/home/deploy/pypi.service")
    host.answer("systemctl", "disable", by=lambda _: host.remove(UNIT))  # systemctl(1): also removes it
    host.answer("systemctl")
    found = handmade.find(host, "pypi.service")
    assert found
    found.set_aside()
    found.bring_back()
    there = host.stat(UNIT)
    assert there and (there.kind, there.target) == ("link", "/home/deploy/pypi.service")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("pypi.service", "there is no unit /etc/systemd/system/pypi.service, so", "systemctl list-units"),
        (
            "other",
            r"includes no \[program:other\], so there is nothing",
            "A unit of systemd's: other.service",
        ),
    ],
)
def test_where_there_is_no_such_server_it_says_how_to_find_it(name: str, message: str, hint: str) -> None:
    world = by_hand()
    old = commands.Old(name, handmade.find(world.host, name), PACKAGES, HTPASSWD)
    with pytest.raises(PpctlError, match=message) as raised:
        commands.take_over(HOME, world.machine(), old, given=None, dry_run=False, exit_code=False, wait=True)
    assert hint in raised.value.hint


def test_where_there_is_no_supervisor_it_says_so() -> None:
    world = by_hand()
    world.host.remove(Path("/etc/supervisor/supervisord.conf"))
    old = commands.Old("pypi", handmade.find(world.host, "pypi"), PACKAGES, HTPASSWD)
    with pytest.raises(PpctlError, match="supervisor is not installed on this machine") as raised:
        commands.take_over(HOME, world.machine(), old, given=None, dry_run=False, exit_code=False, wait=True)
    assert "--program pypi.service" in raised.value.hint


def test_a_program_that_shares_its_file_is_not_taken_out() -> None:
    host = by_hand().host
    host.put(CONFIGURATION, "[program:pypi]\ncommand=x\n[program:mail]\ncommand=y\n")
    with pytest.raises(PpctlError, match=r"also \[program:mail\]"):
        handmade.find(host, "pypi")
