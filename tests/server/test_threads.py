"""The threads of a worker, where the machine has no more of them for a while."""

from __future__ import annotations

import threading
from unittest import mock

import pytest

from ppctl.server.worker import Threads


def refuse(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_all_that_is_asked_for_is_done_and_later_by_as_many_threads_as_before() -> None:
    with Threads(4) as pool:
        pool.submit(int).result(60)
        with mock.patch.object(threading.Thread, "start", refuse):
            go = threading.Event()
            waiting = [pool.submit(go.wait, 60) for _ in range(3)]
            go.set()
            assert all(done.result(60) for done in waiting)
        together = threading.Barrier(4)
        for done in [pool.submit(together.wait, 30) for _ in range(4)]:
            done.result(60)


def test_without_any_thread_nothing_is_promised() -> None:
    with (
        Threads(2) as pool,
        mock.patch.object(threading.Thread, "start", refuse),
        pytest.raises(RuntimeError, match="new thread"),
    ):
        pool.submit(int)
