"""`ppctl destroy`, and who may be at work meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppctl import index
from ppctl.commands import remove
from ppctl.errors import PpctlError
from tests.engine import HOME, started

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.mark.parametrize("left", [[], ["packages/a-1.0.tar.gz"]], ids=["nothing", "packages"])
def test_the_lock_goes_last_and_is_held_until_then(left: list[str]) -> None:
    """Whoever gets it before that begins with a new index, and that would go, too."""
    world = started()
    for name in left:
        world.host.put(HOME / name)
    held: list[bool] = []

    def look(operation: str, arguments: tuple[Path, ...]) -> None:
        held.append(HOME / ".lock" in world.host.held)

    world.host.before = look
    remove.destroy(index.load(world.host, HOME), world.machine(), confirmed=True, purge=not left, wait=True)
    assert all(held)
    operation, (path, *_) = world.host.operations[-1]
    assert (operation, path) == (("remove", HOME / ".lock") if left else ("remove_tree", HOME))
    assert bool(world.host.list(HOME)) == bool(left)


def test_an_index_is_destroyed_on_a_full_disk() -> None:
    """It may be what is to make room."""
    world = started()

    def full(operation: str, arguments: tuple[object, ...]) -> None:
        if operation in ("write", "link", "append"):
            raise PpctlError("no space left")

    world.host.before = full
    remove.destroy(index.load(world.host, HOME), world.machine(), confirmed=True, purge=True, wait=True)
    assert world.host.stat(HOME) is None and world.workers() == {}
