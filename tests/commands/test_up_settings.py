"""`ppctl up --settings`: the settings are part of the plan, so what cannot work never reaches the disk."""

from __future__ import annotations

import json

import pytest

from ppctl.commands import up as commands
from ppctl.errors import PpctlError, UsageError
from tests.effort import every
from tests.engine import HOME, changed, outcome, started
from tests.fakes import World

pytestmark = pytest.mark.usefixtures("impatient")

SETTINGS = HOME / "ppctl.yml"


def given(world: World, content: bytes | str, *, dry_run: bool = False) -> int:
    """Run `ppctl up --settings -`."""
    data = content.encode() if isinstance(content, str) else content
    return commands.up(HOME, world.machine(), dry_run=dry_run, exit_code=dry_run, wait=True, given=data)


def test_a_new_index_gets_exactly_these_settings() -> None:
    world = World()
    given(world, "# ours\nname: lib\n")
    assert world.host.read(SETTINGS) == b"# ours\nname: lib\n"
    assert oct(world.host.nodes[SETTINGS].mode) == oct(0o640)
    assert json.loads(world.host.read(HOME / "server.json") or b"")["name"] == "lib"


def test_the_same_settings_again_change_nothing() -> None:
    world = World()
    given(world, "name: lib\n")
    before = outcome(world)
    assert given(world, "name: lib\n", dry_run=True) == 0
    given(world, "name: lib\n")
    assert outcome(world) == before


def test_a_dry_run_plans_with_settings_that_are_not_there_yet() -> None:
    world = started(threads=3)
    before = outcome(world)
    assert given(world, "threads: 4\n", dry_run=True) == 2
    assert outcome(world) == before


def test_other_bytes_with_the_same_meaning_are_written_and_restart_nobody() -> None:
    world = started(threads=3)
    workers = world.workers()
    given(world, "# a comment\nthreads: 3\n")
    assert world.host.read(SETTINGS) == b"# a comment\nthreads: 3\n"
    assert world.workers() == workers


def test_an_edit_by_hand_is_undone() -> None:
    world = changed({"threads": 3}, {"threads": 7})
    given(world, "threads: 3\n")
    assert world.host.read(SETTINGS) == b"threads: 3\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "not UTF-8"),
        (b"prot: 1", "prot: no such key (did you mean port?)"),
        (b"port: 70000", "port: "),
        (b"- a", "expected keys and values"),
    ],
)
def test_settings_that_are_wrong_never_reach_the_disk(content: bytes, message: str) -> None:
    world = started(threads=3)
    before = outcome(world)
    with pytest.raises(UsageError) as refused:
        given(world, content)
    assert message in refused.value.message
    assert outcome(world) == before


def test_a_release_that_cannot_be_built_leaves_the_old_settings() -> None:
    world = started(threads=3)
    before = world.host.read(SETTINGS)
    with pytest.raises(PpctlError):
        given(world, "server: {python: /nowhere/python}\n")
    assert world.host.read(SETTINGS) == before


def test_a_mistyped_home_is_refused_but_one_made_by_hand_is_taken_over() -> None:
    world = World()
    world.host.put(HOME / "letters" / "mother.txt", "Dear ...")
    with pytest.raises(UsageError, match="other things"):
        given(world, "name: lib\n")
    assert world.host.read(SETTINGS) is None

    world = World()
    world.host.put(HOME / "packages" / "a-1.tar.gz", "x")
    world.host.put(HOME / "notes.txt", "by hand")
    given(world, "name: lib\n")
    assert world.host.read(SETTINGS) == b"name: lib\n"
    assert world.host.read(HOME / "notes.txt") == b"by hand"


def test_an_interrupted_first_run_is_finished_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    given(world, "name: lib\n")
    wanted = outcome(world)[0].keys()
    for step in range(1, 200, every(4)):
        broken = World()
        broken.host.kill_at(step)
        try:
            given(broken, "name: lib\n")
        except BaseException:
            broken.host.before = None
            given(broken, "name: lib\n")
            assert outcome(broken)[0].keys() == wanted, step
        else:
            assert step > 5
            return
    pytest.fail("it never got to its end")
