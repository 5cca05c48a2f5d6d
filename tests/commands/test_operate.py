"""`ppctl logs --follow`, until somebody has seen enough."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from ppctl import index
from ppctl.commands import operate
from tests.engine import HOME, impatient, started
from tests.fakes import FakeManager

__all__ = ["impatient"]


@pytest.mark.usefixtures("impatient")
def test_ctrl_c_ends_a_log_and_nothing_is_said_about_work_to_finish(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left: list[str] = []

    @contextlib.contextmanager
    def follow(_: FakeManager, numbers: list[int], lines: int) -> Iterator[Iterator[str]]:
        def written() -> Iterator[str]:
            yield f"worker {numbers[0]}: one of {lines}"
            raise KeyboardInterrupt

        try:
            yield written()
        finally:
            left.append("the reader of the log")

    world = started()
    monkeypatch.setattr(FakeManager, "follow", follow)
    world.stdout.truncate(0), world.stdout.seek(0)
    found = index.load(world.host, HOME)
    assert operate.logs(found, world.machine(), numbers=(), lines=5, follow=True) == 130
    assert left == ["the reader of the log"]
    assert (world.stdout.getvalue(), capsys.readouterr().err) == ("worker 1: one of 5\n", "")
