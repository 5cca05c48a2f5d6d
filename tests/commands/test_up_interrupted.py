"""`ppctl up` killed at every step: what is on disk then can be started, and the next `up` finishes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ppctl.errors import PpctlError
from tests.effort import every
from tests.engine import HOME, changed, configure, outcome, started, up
from tests.fake_host import MIDWAY, FakeHost, Killed
from tests.fakes import World

pytestmark = pytest.mark.usefixtures("impatient")


def with_dead_worker() -> World:
    world = started()
    world.kill_worker(1)
    return world


CACHE: dict[str, object] = {"upstream": "cache"}
SITUATIONS: dict[str, Callable[[], World]] = {
    "the first up": lambda: configure(World()),
    "the first up without ppctl.yml": World,
    "other threads": lambda: changed({}, {"threads": 3, "overwrite": True}),
    "a new release": lambda: changed({}, {"server": {"versions": {"pypiserver": "2.4.1"}}}),
    "a new release and other settings": lambda: changed(
        {}, {"threads": 3, "server": {"versions": {"pypiserver": "2.4.1"}}}
    ),
    "the third release, keeping one": lambda: changed(
        {"server": {"versions": {"pypiserver": "2.4.0"}, "keep_releases": 1}},
        {"server": {"versions": {"pypiserver": "2.4.1"}, "keep_releases": 1}},
    ),
    "another port": lambda: changed({}, {"port": 4000}),
    "more workers": lambda: changed({}, {"workers": 4}),
    "fewer workers": lambda: changed({"workers": 4}, {}),
    "another name": lambda: changed({}, {"name": "other"}),
    "supervisor to systemd": lambda: changed({}, {"manager": "systemd"}),
    "systemd to supervisor": lambda: changed({"manager": "systemd"}, {}),
    "everything at once": lambda: changed(
        {}, {"name": "other", "manager": "systemd", "port": 4000, "workers": 3, "threads": 2, "login": []}
    ),
    "a cache": lambda: changed({}, CACHE),
    "another limit of the cache": lambda: changed(CACHE, {**CACHE, "cache": {"max_size": "1MB"}}),
    "no cache any more": lambda: changed(CACHE, {"threads": 3}),
    "no cache any more, and systemd": lambda: changed(CACHE, {"manager": "systemd"}),
    "a dead worker": with_dead_worker,
}


def killed_everywhere(world: World, *, distance: int = every(7)) -> Iterator[tuple[str, World]]:
    """Yield this world for each step of `up`, killed before it and killed in the midst of it.

    `distance`: only one out of so many of these.
    """
    number = 0
    rehearsal = world.copy()
    done = len(rehearsal.host.operations)
    up(rehearsal)
    for step, (operation, _) in enumerate(rehearsal.host.operations[done:], start=1):
        for midway in (False, True) if operation in MIDWAY else (False,):
            number += 1
            if (number - 1) % distance:
                continue
            victim = world.copy()
            victim.host.kill_at(step, midway=midway)
            with pytest.raises(Killed) as killed:
                up(victim)
            victim.host.before = None
            victim.host.held.clear()  # the kernel lets go of a dead process's locks
            yield f"step {step}, {killed.value}", victim


def assert_startable(world: World, old: World, new: World, where: str) -> None:
    """A worker that starts now finds a whole configuration, the old one or the new one."""
    try:
        worker = world.try_start(HOME, "")
    except LookupError as e:
        assert not old.groups, f"{where}: {e}"
        return
    starts = [each.try_start(HOME, "") for each in (old, new) if each.groups]
    assert worker.generation in {each.generation for each in starts}, where
    assert worker.config in {each.config for each in starts}, where
    assert worker.release in {each.release for each in starts}, where
    if worker.generation == starts[-1].generation:
        # What calls itself new must be new: the next up would not restart it.
        assert worker.config == starts[-1].config, where


@pytest.mark.parametrize("situation", SITUATIONS)
def test_killed_at_every_step(situation: str) -> None:
    before = SITUATIONS[situation]()
    undisturbed = before.copy()
    assert up(undisturbed) == 0
    for where, world in killed_everywhere(before):
        assert_startable(world, before, undisturbed, where)
        assert up(world) == 0, where
        assert world.faults == [], where
        assert outcome(world) == outcome(undisturbed), where


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_second_up_changes_nothing(situation: str) -> None:
    world = SITUATIONS[situation]()
    up(world)
    before = outcome(world)
    made = len(world.host.operations)
    assert up(world) == 0
    assert world.stdout.getvalue().startswith("nothing to change")
    assert [name for name, _ in world.host.operations[made:] if name != "run"] == []
    assert outcome(world) == before


@pytest.mark.parametrize("situation", ["other threads", "a new release", "a dead worker"])
def test_somebody_answers_all_the_time(situation: str) -> None:
    """At no step of a change that needs no new socket are all workers away."""
    before = SITUATIONS[situation]()
    for where, world in killed_everywhere(before):
        assert world.answers("127.0.0.1", 3141, "/health") == "", where


def test_killed_twice() -> None:
    """An interruption of the run that finishes an interrupted one is no worse."""
    before = SITUATIONS["a new release and other settings"]()
    undisturbed = before.copy()
    up(undisturbed)
    for where, once in killed_everywhere(before, distance=5 * every(3)):
        for again, world in killed_everywhere(once, distance=5 * every(3)):
            assert up(world) == 0
            assert outcome(world) == outcome(undisturbed), (where, again)


def test_settings_changed_after_an_interruption() -> None:
    """The operator takes the change back after a kill: nothing of it stays."""
    before = SITUATIONS["everything at once"]()
    plain = configure(started(), port=3141)
    up(plain)
    for where, world in killed_everywhere(before):
        configure(world, port=3141)
        assert up(world) == 0, where
        assert outcome(world)[1] == outcome(plain)[1], where
        files = outcome(world)[0]
        leftovers = [path for path in files if path.endswith(".tmp") or "systemd/user/ppctl" in path]
        assert leftovers == [], where


def test_the_disk_is_full_at_every_step() -> None:
    """A write that fails is told, and the next up finishes, exactly as after a kill."""
    before = SITUATIONS["a new release and other settings"]()
    undisturbed = before.copy()
    up(undisturbed)
    step = 1
    while True:
        world = before.copy()
        fail_write(world, step)
        try:
            up(world)
        except PpctlError as e:
            assert "No space left" in e.message
        else:
            break
        world.host.before = None
        assert world.answers("127.0.0.1", 3141, "/health") == ""
        assert up(world) == 0
        assert outcome(world) == outcome(undisturbed), step
        step += every(3)
    assert step > 10


def test_what_to_type_next_comes_with_the_first_up_that_works() -> None:
    world = configure(World())
    world.uv_fails = "no network"
    with pytest.raises(PpctlError, match="no network"):
        up(world)
    world.uv_fails = ""
    shown = []
    for _ in range(2):
        up(world)
        shown.append("what to type next" in world.stdout.getvalue())
    assert shown == [True, False]


def test_a_supervisord_that_would_be_away_for_long_is_told_of_once() -> None:
    """With the machine's first index: its unit is not ours to change."""
    for settings, pause, is_told in (
        ({"mode": "system"}, "50s", True),
        ({"mode": "system"}, "1s", False),
        ({"mode": "system", "manager": "systemd"}, "50s", False),
        ({}, "50s", False),
    ):
        host = FakeHost(root="mode" in settings, accounts={"pypi": "pypi"})
        world = configure(World(host=host), **settings)
        world.host.answer("systemctl", "show", by=f"LoadState=loaded\nRestartUSec={pause}\n")
        up(world)
        told = f"systemd waits {pause} before it starts it again\nhint: ppctl doctor -C {HOME} says how"
        assert (told in world.stderr.getvalue()) is is_told, (settings, pause)
        up(world)
        assert pause not in world.stderr.getvalue()


@pytest.mark.parametrize(
    ("login", "users", "is_told"),
    [(["upload"], b"", True), (["upload"], b"ann:$2y$10$" + b"a" * 53 + b"\n", False), ([], b"", False)],
)
def test_where_nobody_can_upload_it_says_how_to_add_a_user(
    login: list[str], users: bytes, is_told: bool
) -> None:
    world = configure(World(), login=login)
    world.host.put(HOME / "htpasswd", users.decode(), mode=0o640)
    up(world)
    assert (f"ppctl adduser -C {HOME} USER" in world.stdout.getvalue()) is is_told


def fail_write(world: World, number: int) -> None:
    """Let the `number`-th write of a file fail."""
    left = number

    def before(operation: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if operation == "write":
            left -= 1
            if left == 0:
                raise PpctlError(f"{arguments[0]}: cannot write: No space left on device")

    world.host.before = before
