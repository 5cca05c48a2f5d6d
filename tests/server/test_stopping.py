"""A worker that is told to stop stops, in whichever instant it is told: nobody tells it twice."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers import gthread

from ppctl.server import drafts, kept
from ppctl.server.worker import DrainingWorker
from tests.server.patience import within
from tests.server.worker_process import new_home


def test_told_while_it_looks_for_its_arbiter(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = DrainingWorker.__new__(DrainingWorker)
    worker.alive = True

    def look(_: object) -> bool:
        worker.alive = False  # as the handler of SIGTERM does
        return True

    monkeypatch.setattr(gthread.ThreadWorker, "is_parent_alive", look)
    assert not worker.is_parent_alive()
    assert not worker.alive


def test_a_thread_that_ends_after_the_loop_writes_into_no_file(tmp_path: Path) -> None:
    """An orphan's last uploads go on after its patience; what the loop was woken by must be nobody's then."""
    config = Config()
    worker = DrainingWorker(1, os.getpid(), [], None, 30, config, Logger(config))
    worker.method_queue.init()
    worker.method_queue.close()  # as gunicorn does at the end of the loop
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((tmp_path / str(number)).open("wb")) for number in range(20)]
        worker.method_queue.defer(lambda: None)
        assert [os.fstat(file.fileno()).st_size for file in files] == [0] * 20


@pytest.mark.e2e
def test_told_before_it_has_begun() -> None:
    """Between the fork and its own handlers; one that is replaced because it was killed is often there."""
    with new_home(stop_timeout=600) as home:
        (home.packages / f"{drafts.PREFIX}left").mkdir()
        with kept.alone(home.path / "run" / drafts.LOCK_NAME):  # it waits for this before it has begun
            worker = home.start(ready=False)
            assert within(1, lambda: "Booting worker" in worker.log.read_text())
            worker.stop()
            assert within(1, lambda: "Handling signal: term" in worker.log.read_text())
            time.sleep(0.2)
        assert worker.wait() == 0
