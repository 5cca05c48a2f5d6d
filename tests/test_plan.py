"""What `ppctl up` plans, in words and order, and what it does when a worker does not come up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ppctl import users
from ppctl.commands import operate, remove
from ppctl.commands.up import make_plan
from ppctl.errors import PpctlError
from ppctl.index import load
from ppctl.machine import WorkerFailed
from ppctl.plan import Plan, describe
from ppctl.server import htpasswd
from tests.engine import HOME, changed, configure, outcome, started, up
from tests.fakes import World

pytestmark = pytest.mark.usefixtures("impatient")


def plan(world: World, home: Path = HOME) -> Plan:
    return make_plan(load(world.host, home), world.machine())


def steps(world: World) -> list[str]:
    """Return the visible changes as `action last-part-of-target`."""
    return [f"{change.action} {change.target.rpartition('/')[2]}" for change in plan(world).visible]


def test_the_first_plan_is_in_a_safe_order() -> None:
    found = steps(configure(World(), name="lib"))
    assert found[:4] == ["create packages", "create logs", "create run", "create releases"]
    order = [
        "build",
        "create htpasswd",
        "create server.json",
        "create run-pypi.sh",
        "create current",
        "start",
    ]
    places = [next(i for i, step in enumerate(found) if step.startswith(each)) for each in order]
    assert places == sorted(places)
    assert "start supervisor: lib" in found[-1]


def test_a_plan_changes_nothing() -> None:
    world = configure(World(), threads=3)
    before = outcome(world)
    assert up(world, dry_run=True) == 0
    assert up(world, dry_run=True, exit_code=True) == 2
    assert outcome(world) == before
    assert [name for name, _ in world.host.operations if name != "run"] == ["make_directory"]  # World's own


def test_a_plan_of_a_missing_home_makes_nothing() -> None:
    world = World()
    before = outcome(world)
    assert up(world, Path("/srv/not/there"), dry_run=True, exit_code=True) == 2
    assert outcome(world) == before
    assert world.stdout.getvalue().startswith("create   /srv/not/there/ppctl.yml")


def test_apply_does_what_the_plan_shows() -> None:
    world = changed({}, {"threads": 3, "server": {"versions": {"pypiserver": "2.4.1"}}})
    up(world, dry_run=True)
    shown = [line for line in world.stdout.getvalue().splitlines() if line and not line.startswith(" ")]
    up(world)
    assert world.stderr.getvalue().splitlines() == shown


def test_nothing_to_do_says_so_and_exits_with_0() -> None:
    world = started()
    assert up(world, dry_run=True, exit_code=True) == 0
    assert world.stdout.getvalue() == "nothing to change\n"


def test_a_setting_of_the_workers_restarts_them_one_by_one() -> None:
    world = changed({}, {"threads": 3})
    assert steps(world) == [
        "update server.json",
        "update run-pypi.sh",
        "restart worker 1",
        "restart worker 2",
    ]
    assert plan(world).interruptions == []
    diff = plan(world).visible[0].diff
    assert f"--- {HOME}/server.json\n+++ {HOME}/server.json\n" in diff
    assert '-  "threads": 8,\n+  "threads": 3,\n' in diff


def test_a_new_release_is_built_first_and_only_then_used() -> None:
    world = changed({}, {"server": {"versions": {"pypiserver": "2.4.1"}}})
    found = steps(world)
    assert found[0].startswith("build 2.4.1-")
    assert found[1:] == ["update current", "restart worker 1", "restart worker 2"]


@pytest.mark.parametrize(
    "settings",
    [{"port": 4000}, {"host": "0.0.0.0"}, {"workers": 3}, {"name": "other"}, {"manager": "systemd"}],
    ids=str,
)
def test_what_refuses_connections_is_said_first(settings: dict[str, object]) -> None:
    world = changed({}, settings)
    assert "connections are refused" in " ".join(plan(world).interruptions)
    up(world)
    assert world.stderr.getvalue().startswith("warning: connections are refused")
    assert (
        world.answers(str(settings.get("host", "127.0.0.1")), int(str(settings.get("port", 3141))), "/") == ""
    )


def test_a_name_or_manager_leaves_nothing_of_the_old_one() -> None:
    world = changed({}, {"manager": "systemd", "name": "other"})
    up(world)
    assert list(world.groups) == [("other", "systemd", "embedded")]
    assert not world.host.stat(HOME / "pypi-server.conf") and not world.host.stat(HOME / "supervisord.conf")
    configure(world)
    up(world)
    assert list(world.groups) == [("pypi", "supervisor", "embedded")]
    left = [path for path in world.host.snapshot() if "other" in path or "systemd/user/" in path]
    # The directories stay: they are systemd's own.
    assert [path for path in left if world.host.stat(Path(path)).kind != "directory"] == []  # type: ignore[union-attr]


def test_a_dead_worker_is_started_again() -> None:
    world = started()
    world.kill_worker(2)
    assert [describe(change) for change in plan(world).visible] == [
        "reload   supervisor: pypi  (start the workers that do not run)"
    ]
    up(world)
    assert len(world.workers()) == 2


def test_a_silent_worker_is_restarted() -> None:
    world = started()
    world.kill_worker(2, silent=True)
    assert steps(world) == ["restart worker 2"]
    up(world)
    assert steps(world) == []


def test_one_worker_dead_and_the_other_silent() -> None:
    world = started(workers=3)
    world.kill_worker(1)
    world.kill_worker(2, silent=True)
    up(world)
    assert steps(world) == []
    assert all(w.answers for group in world.groups.values() for w in group.running.values())


def test_up_after_stop_and_after_down() -> None:
    world = started()
    fresh = outcome(world)
    found = load(world.host, HOME)
    assert operate.stop(found, world.machine(), wait=True) == 0
    assert world.workers() == {}
    up(world)
    assert remove.down(found, world.machine(), wait=True) == 0
    assert world.groups == {}
    up(world)
    assert outcome(world) == fresh


def test_what_another_first_up_has_begun_is_no_obstacle() -> None:
    world = World()
    world.host.put(HOME / ".lock")
    world.host.put(HOME / ".ppctl.yml.77.tmp")
    assert up(world) == 0


def test_settings_that_appear_while_waiting_are_kept() -> None:
    """Another ppctl had the lock: it was the first up, or the operator's init."""
    world = World()
    world.host.put(HOME / ".lock")
    world.host.hold(HOME / ".lock")
    world.host._announce = lambda message: world.host.put(HOME / "ppctl.yml", "port: 4000")
    assert up(world) == 0
    assert world.host.read(HOME / "ppctl.yml") == b"port: 4000"
    assert world.answers("127.0.0.1", 4000, "/") == ""


def test_modes_are_mended() -> None:
    world = started()
    world.host.nodes[HOME / "htpasswd"].mode = 0o666
    world.host.nodes[HOME / "run"].mode = 0o777
    assert [describe(change) for change in plan(world).visible] == [
        f"mend     {HOME}/run  (mode 0777 -> 0700)",
        f"mend     {HOME}/htpasswd  (mode 0666 -> 0640)",
    ]


def test_the_users_and_packages_are_never_touched() -> None:
    world = started()
    world.host.put(HOME / "htpasswd", "kept", mode=0o640)
    world.host.put(HOME / "packages/a-1.tar.gz", "kept")
    configure(world, name="other", manager="systemd", port=4000)
    up(world)
    assert world.host.read(HOME / "htpasswd") == world.host.read(HOME / "packages/a-1.tar.gz") == b"kept"


def test_a_user_who_is_added_during_the_first_up_stays() -> None:
    """It takes its time to build the release, and `ppctl adduser` need not wait for it."""
    world = configure(World())

    def adds(operation: str, arguments: tuple[Any, ...]) -> None:
        if operation == "run" and "venv" in arguments[0]:
            world.host.before = None
            users.add(load(world.host, HOME), world.host, "ann", htpasswd.hash_password("x" * 20, 4))

    world.host.before = adds
    up(world)
    assert [user.name for user in users.users(load(world.host, HOME), world.host)] == ["ann"]


def test_packages_may_be_a_link_to_another_disk() -> None:
    world = configure(World())
    world.host.make_directory(Path("/disk"), mode=0o700)
    world.host.link(HOME / "packages", "/disk")
    up(world)
    assert steps(world) == []
    assert world.host.nodes[Path("/disk")].mode == 0o700


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("releases/current", "file"),
        ("run-pypi.sh", "directory"),
        ("htpasswd", "directory"),
        ("server.json", "directory"),
        ("packages", "file"),
        ("run", "file"),
        ("releases", "file"),
    ],
)
def test_something_else_is_in_the_way(path: str, kind: str) -> None:
    world = configure(World())
    if kind == "file":
        world.host.put(HOME / path, "precious")
    else:
        world.host.make_directory(HOME / path, mode=0o755)
    before = outcome(world)
    with pytest.raises(PpctlError, match=rf"{path}: a \w+ must be here, and this is a {kind}") as caught:
        up(world)
    assert caught.value.hint == f"move it away: mv {HOME / path} {HOME / path}.old"
    assert outcome(world) == before


def test_a_link_in_the_place_of_a_file_is_replaced() -> None:
    world = started()
    content = world.host.read(HOME / "server.json")
    world.host.put("/elsewhere", content or b"")
    world.host.link(HOME / "server.json", "/elsewhere")
    assert steps(world) == ["update server.json"]
    up(world)
    assert world.host.nodes[HOME / "server.json"].kind == "file"
    assert world.host.read(Path("/elsewhere")) == content


def test_a_second_index_of_that_name_is_refused() -> None:
    world = started()
    other = Path("/srv/other")
    configure(world, other, port=4000)
    with pytest.raises(PpctlError, match="another index on this machine is called pypi: /srv/index"):
        up(world, other)
    configure(world, other, port=4000, name="two")
    assert up(world, other) == 0
    assert len(world.groups) == 2


# -- moved and copied --------------------------------------------------------------------------------


def moved(world: World, source: Path, target: Path, *, copy: bool = False) -> None:
    """Do as mv does, or as cp -a does."""
    for path, node in list(world.host.nodes.items()):
        if path == source or source in path.parents:
            world.host.nodes[target / path.relative_to(source)] = node
            if not copy:
                del world.host.nodes[path]


def test_a_home_that_was_moved() -> None:
    world = started()
    target = Path("/srv/elsewhere")
    moved(world, HOME, target)
    for group in world.groups.values():
        group.home = target  # the sockets have moved with it
    assert up(world, target) == 0
    assert world.host.nodes[Path("/home/operator/.config/ppctl/indexes/pypi")].target == str(target)
    script = world.host.read(target / "run-pypi.sh") or b""
    assert f"PPCTL_HOME={target}\n".encode() in script
    assert world.faults == []


def test_a_copied_home_leaves_the_original_alone() -> None:
    world = started()
    copy = Path("/srv/copy")
    moved(world, HOME, copy, copy=True)
    world.host.nodes = {path: type(node)(**vars(node)) for path, node in world.host.nodes.items()}
    original = {path: node for path, node in outcome(world)[0].items() if path.startswith(str(HOME))}
    configure(world, copy, name="copy", port=4000)
    up(world, copy)
    after = {path: node for path, node in outcome(world)[0].items() if path.startswith(str(HOME))}
    assert after == original
    assert world.host.stat(Path("/home/operator/.config/ppctl/indexes/pypi"))
    assert sorted(key[0] for key in world.groups) == ["copy", "pypi"]
    assert steps(world) == []


# -- ports ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [None, {}], ids=["a new index", "another port"])
def test_a_port_that_somebody_has(before: dict[str, object] | None) -> None:
    world = World() if before is None else started(**before)
    world.listeners[("127.0.0.1", 4000)] = "nginx (pid 7)"
    configure(world, port=4000)
    found = outcome(world)
    with pytest.raises(PpctlError, match=r"port: 127\.0\.0\.1:4000 is taken by nginx"):
        up(world)
    assert outcome(world) == found


def test_listening_everywhere_on_the_port_that_it_has() -> None:
    world = changed({}, {"host": "0.0.0.0"})
    assert up(world) == 0
    assert [group.loaded.address for group in world.groups.values()] == ["0.0.0.0:3141"]


def test_the_port_is_its_own_even_if_no_worker_answers() -> None:
    world = started()
    for number in (1, 2):
        world.kill_worker(number, silent=True)
    assert up(world) == 0
    world = changed({}, {"name": "other"})
    for number in (1, 2):
        world.kill_worker(number, silent=True)
    assert up(world) == 0


# -- going back ------------------------------------------------------------------------------------------


def broken(settings: dict[str, object], poison: str) -> World:
    world = changed({}, settings)
    world.poison = poison
    return world


@pytest.mark.parametrize(
    ("settings", "poison"),
    [
        ({"threads": 77}, '"threads": 77'),
        ({"server": {"versions": {"pypiserver": "2.4.1"}}}, "2.4.1-"),
        ({"server": {"versions": {"pypiserver": "2.4.1"}}, "threads": 77}, "2.4.1-"),
    ],
    ids=["settings", "release", "both"],
)
def test_a_worker_that_fails_is_brought_back(settings: dict[str, object], poison: str) -> None:
    world = broken(settings, poison)
    before = world.workers()
    with pytest.raises(WorkerFailed) as caught:
        up(world)
    assert "the last words of worker 1" in caught.value.message
    assert "brought back" in str(caught.value) and "brought back" in caught.value.message
    assert caught.value.exit_code == 1
    assert world.workers() == before
    assert world.answers("127.0.0.1", 3141, "/") == ""
    # What is on disk is what runs: a worker that starts by itself is of the old kind, too.
    assert world.try_start(HOME, "").generation in str(before)

    world.poison = ""
    assert up(world) == 0
    assert steps(world) == []


def test_the_second_worker_fails() -> None:
    """Then the first has the new settings already; it gets the old ones again, so that both agree."""
    world = broken({"threads": 77}, "never")
    before = world.workers()

    def poison(operation: str, arguments: tuple[object, ...]) -> None:
        if operation == "manager.start" and arguments[-1] == 2:
            world.poison = '"threads": 77'

    world.host.before = poison
    with pytest.raises(WorkerFailed, match="brought back"):
        up(world)
    assert world.workers() == before


@pytest.mark.parametrize(
    "settings", [{"port": 4000, "threads": 77}, {"name": "other", "threads": 77}], ids=str
)
def test_all_workers_fail_after_the_socket_has_moved(settings: dict[str, object]) -> None:
    """There is no way back to the old socket, but the old settings serve at the new one."""
    world = broken(settings, '"threads": 77')
    with pytest.raises(WorkerFailed) as caught:
        up(world)
    assert "the last words of worker 1" in caught.value.message
    assert '"threads": 8' in str(world.workers())
    assert world.answers("127.0.0.1", int(str(settings.get("port", 3141))), "/") == ""


def test_the_first_up_has_nothing_to_go_back_to() -> None:
    world = configure(World(), threads=77)
    world.poison = '"threads": 77'
    with pytest.raises(WorkerFailed) as caught:
        up(world)
    assert "brought back" not in caught.value.message
    configure(world, threads=3)
    assert up(world) == 0


def test_a_release_that_cannot_be_installed_changes_nothing_that_runs() -> None:
    world = changed({}, {"server": {"versions": {"pypiserver": "99.0"}}})
    workers = world.workers()
    world.uv_fails = "no version of pypiserver==99.0"
    with pytest.raises(PpctlError, match=r"cannot install the server's packages(.|\n)*pypiserver==99.0"):
        up(world)
    assert world.workers() == workers
    assert len(world.host.list(HOME / "releases")) == 2  # current and its target
    world.uv_fails = ""
    configure(world)
    assert steps(world) == []


def test_the_json_of_a_plan() -> None:
    world = changed({}, {"port": 4000})
    from ppctl.commands import up as commands

    code = commands.up(HOME, world.machine(json=True), dry_run=True, exit_code=True, wait=True)
    envelope = json.loads(world.stdout.getvalue())
    assert (code, envelope["exit_code"], envelope["ok"]) == (2, 2, True)
    assert {tuple(change) for change in envelope["result"]["changes"]} == {
        ("action", "target", "summary", "diff", "interrupts")
    }
